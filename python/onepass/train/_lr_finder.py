"""The learning-rate range test (Smith 2017, 1506.01186): raise the rate, watch the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.nn import _use
from onepass.nn._random import apart
from onepass.train import _loaders
from onepass.train._callbacks import Callback
from onepass.train._lr_curve import LRFinderResult, diverged, judge
from onepass.train._run import Run
from onepass.train._trainer import Trainer
from onepass.train._unchanged import Unchanged

STARTS = 5  # times that the first loss is measured, for its noise
PROBE = 256  # samples whose loss is measured after each step of find_lr

Measure = Callable[[Run], float]


class _Rates(Callback):
    """Step i with rate i, then stop; the groups keep the ratios of their own rates."""

    def __init__(self, rates: list[float], measure: Measure) -> None:
        self.rates, self.measure = rates, measure
        self.start: float | None = None
        self.noise = 0.0
        self.measured: list[float] = []
        self._own: list[float] = []

    @property
    def lrs(self) -> list[float]:
        """The rates whose loss was finite."""
        return self.rates[: sum(map(math.isfinite, self.measured))]

    @property
    def losses(self) -> list[float]:
        """The loss with each of ``lrs``, as measured."""
        return self.measured[: len(self.lrs)]

    def on_fit_begin(self, run: Run) -> None:
        own = [float(group["lr"]) for group in run.optimizer.param_groups]
        self._own = [lr / own[0] if own[0] else 1.0 for lr in own]
        self.measured, self.start = [], None
        self._set(run)

    def on_before_step(self, run: Run) -> None:
        if self.start is None:  # here the model is in the mode of training
            starts = [self.measure(run) for _ in range(STARTS)]
            self.start, self.noise = float(np.mean(starts)), float(np.std(starts, ddof=1))

    def on_step_end(self, run: Run) -> None:
        if self.start is None:  # Ctrl-C has cut the look at it, and is answered after this hook
            return
        self.measured.append(self.measure(run))
        run.stop = len(self.measured) == len(self.rates) or diverged(
            self.start, self.measured, self.noise
        )
        if not run.stop:
            self._set(run)

    def _set(self, run: Run) -> None:
        rate = self.rates[len(self.measured)]
        for group, share in zip(run.optimizer.param_groups, self._own, strict=True):
            group["lr"] = rate * share


class LRFinder(_Rates):
    """Raise the rate from ``min_lr`` to ``max_lr`` in equal ratios, one a step, then stop.

    The run ends early once the loss is far above its start. Afterwards model and optimizer are as
    they were at the start. The losses are those of the batches, as the trainer has them;
    `find_lr` measures better ones and tries its suggestion out.

    Args:
        min_lr, max_lr: first and last rate, 0 < min_lr < max_lr.
        steps: how many rates, >= 3.

    Attributes:
        result: what was found, an `LRFinderResult`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import LRFinder, Trainer
        >>> model, finder = nn.Sequential(nn.Linear(2, 2)), LRFinder(1e-4, 1.0, steps=20)
        >>> trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        ...                   callbacks=[finder], progress=False)
        >>> X = np.eye(2, dtype=np.float32)
        >>> history = trainer.fit(X, np.array([0, 1]), max_epochs=20)
        >>> len(finder.result.lrs)
        20
    """

    @suggest_keywords
    def __init__(self, min_lr: float = 1e-7, max_lr: float = 10.0, steps: int = 100) -> None:
        super().__init__(_rates("LRFinder", min_lr, max_lr, steps), _batch_loss)
        self._before: Unchanged | None = None

    @property
    def result(self) -> LRFinderResult:
        """The rates, the smoothed losses, and a tenth of the rate with the least of these."""
        return judge(None, self.lrs, self.losses)

    def on_fit_begin(self, run: Run) -> None:
        self._before = Unchanged(run.model, run.optimizer)
        super().on_fit_begin(run)

    def on_fit_end(self, run: Run) -> None:
        self._restore()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            self._before.restore()
            self._before = None


def _rates(owner: str, min_lr: float, max_lr: float, steps: int) -> list[float]:
    """``steps`` rates in equal ratios."""
    high = numbers.in_range(owner, "max_lr", max_lr, above=0)
    low = numbers.in_range(owner, "min_lr", min_lr, high=high, above=0)
    rates: list[float] = np.geomspace(low, high, numbers.integer(owner, "steps", steps, 3)).tolist()
    return rates


@suggest_keywords
def find_lr(
    trainer: Trainer,
    X: Any,
    y: Any = None,
    *,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
) -> LRFinderResult:
    """A rate at which the trainer's model trains; model and optimizer stay as they are.

    First one step with each of ``steps`` rates, rising in equal ratios, until the loss is far above
    its start. Then short trainings of ``steps`` steps from the present state, with rates a factor
    of three apart, downwards from above the rate of the least loss: the suggestion is the highest
    that trains well while the next one above still does, or a step below the one that alone trains
    well. Groups with rates of their own keep their ratios to the first group's, whose rate is the
    suggestion.

    The loss is that of the same samples (up to 256, in training mode) after each step, or after
    each training, so the batches' noise is not in it. All in all 4 to 8 times ``steps`` steps.

    Args:
        trainer: its model, loss, optimizer, regularizers, clipping, accumulation and device; no
            schedule, no callbacks.
        X, y, batch_size: as for ``fit``.
        min_lr, max_lr: first and last rate.
        steps: how many rates, and the length of each short training.

    Returns:
        ``lrs``, ``losses``, ``suggestion``, ``reason`` and ``plot(path)``. Where no rate lowers
        the loss, ``suggestion`` is None and ``reason`` says why.

    Raises:
        RuntimeError: the loss is not finite before the first step.
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Trainer, find_lr
        >>> X = np.random.default_rng(0).standard_normal((200, 3), np.float32)
        >>> y = (X[:, 0] > 0).astype(np.int64)
        >>> nn.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        >>> found = find_lr(trainer, X, y)
        >>> 0.03 < found.suggestion < 3
        True
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"find_lr: 'trainer' is a {type(trainer).__name__}, expected a Trainer")
    finder = _Rates(_rates("find_lr", min_lr, max_lr, steps), _batch_loss)
    loader, _ = _loaders.to_train(X, y, batch_size, True, trainer.last_batch, trainer.seed)
    finder.measure = _Probe(loader)
    alone = _use.using(trainer.model, "find_lr", trains=True)  # before anything is put back
    with alone, Unchanged(trainer.model, trainer.optimizer) as before, np.errstate(all="ignore"):

        def fit(callback: _Rates) -> None:
            before.restore()
            probe = Trainer(
                trainer.model,
                trainer.loss,
                trainer.optimizer,
                callbacks=[callback],
                max_norm=trainer.max_norm,
                nonfinite="propagate",
                accumulate=trainer.accumulate,
                regularizers=trainer.regularizers,
                last_batch=trainer.last_batch,
                seed=trainer.seed,
                progress=False,
                device=trainer.run.device,
            )
            epochs = steps * trainer.accumulate
            with apart():
                if y is None:
                    probe.fit(X, max_epochs=epochs)
                else:
                    probe.fit(X, y, max_epochs=epochs, batch_size=batch_size)

        def train(rate: float) -> float:
            trial = _Rates([rate] * steps, finder.measure)
            fit(trial)
            if len(trial.measured) < steps or not math.isfinite(trial.measured[-1]):
                return math.inf
            last = trial.measured[-max(1, steps // 20) :]
            return math.fsum(last) / len(last)

        fit(finder)
        start = finder.start
        if start is None or not math.isfinite(start):
            raise RuntimeError(
                f"find_lr: the loss is {start} before the first step: nothing to compare; check "
                "the data and the model"
            )
        return judge(start, finder.lrs, finder.losses, train)


class _Probe:
    """The loss of the same first batches of the data, in the mode of training."""

    def __init__(self, loader: Any) -> None:
        self._batches: list[Any] = []
        samples = 0
        for batch in loader.batches(0):
            size = len(batch[1])
            if self._batches and 2 * size < len(self._batches[0][1]):
                break  # a few samples would be too noisy for batch norm
            self._batches.append(batch[:2])
            samples += size
            if samples + size > PROBE:
                break

    def __call__(self, run: Run) -> float:
        losses = [self._loss(run, *map(run.moved, batch)) for batch in self._batches]
        return sum(losses) / len(losses)

    def _loss(self, run: Run, x: Any, target: Any) -> float:
        return float(run.loss(run.model(x), target)[0])


def _batch_loss(run: Run) -> float:
    return run.batch_loss
