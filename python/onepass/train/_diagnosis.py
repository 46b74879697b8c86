"""Gradients, updates and activations layer by layer, and a verdict on the run."""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

from onepass import _console, ops
from onepass import _numbers as numbers
from onepass._figures import new_figure, save_figure
from onepass.train._callbacks import Callback
from onepass.train._progress import ProgressBar
from onepass.train._run import Run
from onepass.train._spoilt import SpoiltBatchError
from onepass.train._verdict import verdict
from onepass.train._watch import Mean, Share, Units, Watch, activations, joined, refuse_pieces

MEASURES = ("gradient_rms", "update_ratio", "dead_units", "activation_variance")
Layers = dict[str, list[float]]


class Diagnosis(Callback):
    """Measure every layer in every epoch, and say at the end in one sentence how the run went.

    For each layer with parameters: the root mean square of its gradient (of the mean over the
    batch, before clipping), and how large a step is against the weights, ‖Δw‖ / ‖w‖, both averaged
    over the steps. About 1e-3 is usual for that ratio. For each activation layer: the share of
    units (features, channels) whose derivative was below 0.005 for every sample of the epoch, which
    are dead or saturated, and the variance of its outputs.

    Training gives the same bits as without it. It costs a copy of the parameters, a pass over
    parameters and gradients, and passes over the activations, which run by themselves instead of
    inside the fused kernels: 64-256-256-10 took 2.6 times as long, 784-1024-1024-10 in batches of
    256 1.3 times; with ``every=10``, which makes the first two rarer, 1.3 and 1.1 times. A trainer
    without it pays nothing.

    With several processes the numbers are those of the samples of all of them, which costs three
    small sums a step, and rank 0 prints the verdict. Not with ``reproducible``, whose pieces are
    not batches: a ValueError.

    Args:
        every: measure gradients and updates in one of so many steps.

    Attributes:
        gradient_rms, update_ratio, dead_units, activation_variance: layer → one number an epoch;
            NaN where there was none, as for a frozen layer.
        start, start_gradients, start_variances: loss, gradients and variances of the first batch.
        verdict: the sentence, "" before the end of a run. With a progress bar it is printed too.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Diagnosis, Trainer
        >>> X = np.random.default_rng(0).standard_normal((64, 3), np.float32)
        >>> y = (X[:, 0] > 0).astype(np.int64)
        >>> nn.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> diagnosis = Diagnosis()
        >>> trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        ...                   callbacks=[diagnosis], progress=False)
        >>> history = trainer.fit(X, y, max_epochs=3)
        >>> list(diagnosis.gradient_rms), list(diagnosis.dead_units)
        (['0', '2'], ['1'])
        >>> diagnosis.verdict.partition(":")[0]
        'more epochs wanted'
    """

    def __init__(self, every: int = 1) -> None:
        self.every = numbers.integer("Diagnosis", "every", every, 1)
        self._watches: list[Watch] = []
        self._shares: list[Share] = []  # of this rank, since the last step
        self.reset()

    def reset(self) -> None:
        """Forget everything measured."""
        self.gradient_rms: Layers = {}
        self.update_ratio: Layers = {}
        self.dead_units: Layers = {}
        self.activation_variance: Layers = {}
        self.verdict = ""
        self.start = math.nan
        self.start_gradients: dict[str, float] = {}
        self.start_variances: dict[str, float] = {}
        self._epoch_begins()

    def _epoch_begins(self) -> None:
        self._gradients: dict[str, Mean] = {}
        self._updates: dict[str, Mean] = {}
        self._units: dict[str, Units] = {}
        self._shares = []
        self._before: dict[str, list[tuple[Any, Any]]] = {}
        self._norms: dict[str, float] = {}
        self._skipped = 0

    @property
    def history(self) -> dict[str, dict[str, list[float]]]:
        """Layer → measure → one number an epoch."""
        layers: dict[str, dict[str, list[float]]] = {}
        for measure in MEASURES:
            for name, values in getattr(self, measure).items():
                layers.setdefault(name, {})[measure] = values
        return layers

    def table(self) -> str:
        """The last epoch, a line a layer."""
        history = self.history
        if not history:
            return "no epoch was measured"
        width = max(5, *map(len, history))
        heads = ("gradient rms", "update/weight", "dead units", "variance")
        lines = [f"{'layer':<{width}}" + "".join(f"{head:>15}" for head in heads)]
        for name, measures in history.items():
            cells = [f"{_cell(m, measures.get(m)):>15}" for m in MEASURES]
            lines.append(f"{name:<{width}}" + "".join(cells))
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Draw each measure over the epochs, a line a layer, into an image file.

        Raises:
            ImportError: Matplotlib is not installed. ValueError: no epoch was measured.
        """
        if not self.history:
            raise ValueError("Diagnosis.plot: no epoch was measured: nothing to plot")
        figure = new_figure(width=20)
        for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
            layers: Layers = getattr(self, measure)
            for name, values in layers.items():
                axes.plot(range(1, len(values) + 1), values, label=name)
            if measure != "dead_units" and any(v > 0 for vs in layers.values() for v in vs):
                axes.set_yscale("log")
            axes.set(xlabel="epoch", ylabel=measure.replace("_", " "))
            if layers:
                axes.legend(title="layer")
        if self.verdict:
            figure.suptitle(self.verdict)
        save_figure(figure, path)

    def _refuse(self, run: Run) -> None:
        refuse_pieces("Diagnosis", run)

    def on_fit_begin(self, run: Run) -> None:
        self.verdict = ""
        self._skipped = run.skipped_steps
        self._names = [name for name, _, _ in activations(run.model)]
        for name, layer, last in activations(run.model):
            watch = Watch(layer, functools.partial(self._see, run, name, last))
            watch.install()
            self._watches.append(watch)

    def on_before_step(self, run: Run) -> None:
        self._join(run)
        self._before = {}
        if run.step % self.every:
            return
        scale = run.grad_scale
        for name, parameters in _layers(run.model):
            grads = [p.grad for p in parameters if p.grad is not None]
            size = sum(g.size for g in grads)
            self._norms[name] = _norm(grads) / math.sqrt(size) / scale if size else 0
            if size:
                self._before[name] = [(p, p.data.copy()) for p in parameters]
        if math.isnan(self.start):
            self.start = run.batch_loss
            self.start_gradients = {_title(name): value for name, value in self._norms.items()}
            seen = [name for name, _ in run.model.named_modules() if name in self._units]
            self.start_variances = {_title(n): self._units[n].variance.value for n in seen}

    def on_step_end(self, run: Run) -> None:
        skipped, self._skipped = self._skipped != run.skipped_steps, run.skipped_steps
        before, self._before = self._before, {}
        if skipped:
            return
        for name, kept in before.items():  # a hook may have frozen some of them since
            self._gradients.setdefault(name, Mean()).add(self._norms[name])
            change = _norm([p.data - old for p, old in kept])
            weight = _norm([old for _, old in kept])
            self._updates.setdefault(name, Mean()).add(change / weight if weight else 0)

    def on_epoch_end(self, run: Run) -> None:
        self._join(run)
        epochs = run.epoch - 1
        means: dict[str, dict[str, float]] = {
            "gradient_rms": {name: mean.value for name, mean in self._gradients.items()},
            "update_ratio": {name: mean.value for name, mean in self._updates.items()},
            "dead_units": {name: units.dead for name, units in self._units.items()},
            "activation_variance": {n: units.variance.value for n, units in self._units.items()},
        }
        order = [name for name, _ in run.model.named_modules()]
        for measure, values in means.items():
            layers: Layers = getattr(self, measure)
            names = {_title(name): name for name in order if name in values}
            for title in {**layers, **names}:
                column = layers.setdefault(title, [])
                column += [math.nan] * (epochs - len(column))
                column.append(values.get(names.get(title, ""), math.nan))
        self._epoch_begins()
        self._skipped = run.skipped_steps

    def on_fit_end(self, run: Run) -> None:
        self._ends(run, "")

    def on_abort(self, run: Run, error: BaseException) -> None:
        failed = isinstance(error, FloatingPointError)
        where = f"epoch {run.epoch + 1}" if failed else ""
        self._ends(run, where, spoken=failed, spoilt=isinstance(error, SpoiltBatchError))

    def _ends(self, run: Run, failed: str, spoken: bool = True, spoilt: bool = False) -> None:
        for watch in self._watches:
            watch.remove()
        self._watches = []
        self.verdict = verdict(
            run.history.get("loss", []),
            run.history.get("val_loss", []),
            gradient_rms=self.gradient_rms,
            update_ratio=self.update_ratio,
            dead_units=self.dead_units,
            start=self.start,
            start_gradients=self.start_gradients,
            start_variances=self.start_variances,
            failed=failed,
            spoilt=spoilt,
        )
        bars = [callback for callback in run.callbacks if isinstance(callback, ProgressBar)]
        if spoken and bars and run.comm.rank == 0:
            stream = sys.stdout if bars[0].file is None else bars[0].file
            _console.write(f"{self.verdict}\n", stream)

    def _see(self, run: Run, name: str, last_axis: bool, layer: Any, x: Any, y: Any) -> None:
        units = self._units.get(name)
        if units is None:
            units = self._units[name] = Units(last_axis)
        if run.comm.size == 1:
            units.see(layer, x, y)
        else:
            self._shares.append(units.share(self._names.index(name), run.position, layer, x, y))

    def _join(self, run: Run) -> None:
        """Count what all ranks have seen since the last call; every rank calls it."""
        if run.comm.size == 1:
            return
        for layer, moments, alive in joined(run.comm, self._shares):
            units = self._units.get(self._names[layer])
            if units is None:  # this rank has had no rows
                units = self._units[self._names[layer]] = Units(False)
            units.count(moments, alive)
        self._shares = []

    def state_dict(self) -> dict[str, Any]:
        return {
            **{measure: dict(getattr(self, measure)) for measure in MEASURES},
            "start": [self.start, self.start_gradients, self.start_variances],
            "gradients": {name: mean.state() for name, mean in self._gradients.items()},
            "updates": {name: mean.state() for name, mean in self._updates.items()},
            "units": {
                name: {"last_axis": units.last_axis, **units.state_dict()}
                for name, units in self._units.items()
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reset()
        self.start, self.start_gradients, self.start_variances = state_dict["start"]
        for measure in MEASURES:
            columns = state_dict[measure].items()
            setattr(self, measure, {name: [float(v) for v in column] for name, column in columns})
        for key, means in (("gradients", self._gradients), ("updates", self._updates)):
            for name, state in state_dict[key].items():
                means.setdefault(name, Mean()).load(state)
        for name, state in state_dict["units"].items():
            units = self._units[name] = Units(bool(state["last_axis"]))
            units.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_watches": []}


def _layers(model: Any) -> list[tuple[str, list[Any]]]:
    """Modules that have parameters of their own, with the trained ones, from the input on."""
    layers: list[tuple[str, list[Any]]] = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in vars(module).values() if hasattr(p, "requires_grad")]
        own = [p for p in own if p.requires_grad and id(p) not in seen]
        seen.update(map(id, own))
        if own:
            layers.append((name, own))
    return layers


def _norm(arrays: list[Any]) -> float:
    """Over all elements, also where their squares overflow."""
    return float(ops.global_norm(arrays))


def _title(name: str) -> str:
    return name or "model"


def _cell(measure: str, values: list[float] | None) -> str:
    if not values or math.isnan(values[-1]):
        return "-"
    return f"{values[-1]:.1%}" if measure == "dead_units" else f"{values[-1]:.3g}"
