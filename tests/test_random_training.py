"""Random trainings, interrupted anywhere and gone on with: bit for bit the whole one, or its error.

A seed draws network, data, optimizer, schedule, options and callbacks. The training runs whole;
then another trainer of the same make is killed, or gets Ctrl-C, in random hooks and goes on in a
random way, until it is done. ``pytest --trainings 2000 tests/test_random_training.py`` draws more.
"""

import copy
import io
import itertools
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from cases.optimizers import VARIANTS
from onepass import config, nn
from onepass.optim import lr_scheduler
from onepass.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    Profile,
    ProgressBar,
    TerminateOnNaN,
    Trainer,
)
from small_training import KilledError, everything

# Those of ScheduleFree turn parameters into an average for a checkpoint and back, which rounds:
# a training with other checkpoints has other last bits (tests/test_schedule_free.py).
RESUMED = [v for v in VARIANTS if not v.label.startswith("ScheduleFree")]

COUNT, QUICK = 120, 12
OF_CLASSES = (("accuracy",), ("accuracy", "balanced_accuracy"))  # the second keeps outputs
OF_NUMBERS = (("mse", "mae"), ("rmse", "r2"))
HOOKS = ("on_fit_begin", "on_epoch_begin", "on_before_step", "on_step_end", "on_validation_end",
         "on_epoch_end", "on_fit_end")  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:.*leaves . in a batch|.*a last batch of .")


def pytest_generate_tests(metafunc):
    options = metafunc.config.option
    count = options.trainings or (QUICK if options.quick else COUNT)
    metafunc.parametrize("seed", range(count))


class Numbers(Callback):
    """Logs in several hooks."""

    logs = ("position", "half")

    def on_before_step(self, run):
        run.log("position", run.position + run.batch_loss)

    def on_epoch_begin(self, run):
        if run.epoch % 2 and run.position == 0:
            run.log("half", 0.5 * run.epoch)

    def on_epoch_end(self, run):
        run.log("late", run.step)


class Remembers(Callback):
    """A user's callback with a state of its own."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.total = np.zeros(2)

    def on_epoch_end(self, run):
        self.total = self.total + np.array([1, run.history["loss"][-1]])

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state_dict):
        self.total = state_dict["total"]


class Interrupts(Callback):
    """Ends the fit in one hook, after a number of calls of it."""

    def __init__(self, hook, after, how):
        self.after, self.how = after, how
        setattr(self, hook, self.called)

    def called(self, run):
        self.after -= 1
        if self.after == 0:
            if self.how == "signal":
                signal.raise_signal(signal.SIGINT)
            else:
                raise {"killed": KilledError, "ctrl-c": KeyboardInterrupt}[self.how]


def pick(rng, *values):
    return values[rng.integers(len(values))]


class Drawn:
    """All that a seed decides; ``trainer`` makes it anew each time."""

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        self.seed = seed
        samples, self.width = int(rng.integers(12, 40)), int(rng.integers(1, 6))
        self.classes = bool(rng.integers(2))
        self.X = rng.standard_normal((samples, self.width)).astype(pick(rng, "f4", "f4", "f8"))
        self.y = (
            rng.integers(0, 3, samples)
            if self.classes
            else rng.standard_normal((samples, 1)).astype("f4")
        )
        if rng.random() < 0.15:
            self.X[rng.integers(samples), 0] = pick(rng, np.inf, np.nan)
        self.hidden = [int(n) for n in rng.integers(2, 9, rng.integers(0, 3))]
        self.norm, self.dropout = bool(rng.integers(2)), pick(rng, 0.0, 0.3)
        self.activation = pick(rng, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh)
        self.optimizer = pick(rng, *RESUMED)
        self.schedule = pick(rng, None, "step", "cosine", "plateau", "warm-up")
        self.options = {
            "accumulate": pick(rng, 1, 1, 2, 3),
            "max_norm": pick(rng, None, 0.5, np.inf),
            "nonfinite": pick(rng, "raise", "skip", "propagate"),
            "metrics": pick(rng, (), *OF_CLASSES if self.classes else OF_NUMBERS),
            "seed": int(rng.integers(5)),
            "last_batch": pick(rng, "balance", "keep", "drop"),
        }
        self.patience = pick(rng, 1, 2, 99)
        self.kinds = [kind for kind in ("stop", "numbers", "own", "csv", "bar", "profile", "nan")
                      if rng.integers(2)]  # fmt: skip
        rng.shuffle(self.kinds)
        self.fit = {
            "max_epochs": int(rng.integers(2, 6)),
            "batch_size": int(rng.integers(3, 10)),
            "shuffle": bool(rng.integers(2)),
            **pick(rng, {}, {"validation_split": 0.3},
                   {"validation_data": (self.X[:7], self.y[:7])}),
            "sample_weight": pick(rng, None, None, rng.uniform(0.1, 2, samples)),
        }  # fmt: skip
        self.validated = len(self.fit) > 4
        self.every = pick(rng, {"every_n_steps": 1}, {"every_n_steps": 3}, {"every_n_epochs": 1})

    def trainer(self, folder, *more):
        nn.manual_seed(self.seed)
        sizes, layers = [self.width, *self.hidden], []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after)]
            layers += [nn.BatchNorm1d(after)] * self.norm + [self.activation()]
            layers += [nn.Dropout(self.dropout)] * (self.dropout > 0)
        model = nn.Sequential(*layers, nn.Linear(sizes[-1], 3 if self.classes else 1))
        optimizer = self.optimizer.make(model.parameters(), lr=0.01)
        loss = nn.CrossEntropyLoss() if self.classes else nn.MSELoss()
        return Trainer(
            model, loss, optimizer, scheduler=self._scheduler(optimizer), progress=False,
            callbacks=[*self._callbacks(folder), *more], **self.options,
        )  # fmt: skip

    def _scheduler(self, optimizer):
        if self.schedule == "warm-up":
            parts = lr_scheduler.LinearWarmup(optimizer, 3), lr_scheduler.StepLR(optimizer, 4)
            return lr_scheduler.SequentialLR(optimizer, list(parts), [3])
        make = {
            None: lambda o: None,
            "step": lambda o: lr_scheduler.StepLR(o, 3),
            "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
            "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
        }
        return make[self.schedule](optimizer)

    def _callbacks(self, folder):
        monitor = "val_loss" if self.validated else "loss"
        make = {
            "stop": lambda: EarlyStopping(monitor, patience=self.patience),
            "numbers": Numbers,
            "own": Remembers,
            "csv": lambda: CSVLogger(Path(folder) / "history.csv"),
            "bar": lambda: ProgressBar(io.StringIO()),
            "profile": lambda: Profile(steps=2, skip=1),
            "nan": TerminateOnNaN,
        }
        return [make[kind]() for kind in self.kinds]


def left(drawn, trainer, folder):
    """All that a training leaves, in values that are equal where the bits are."""
    found = everything(trainer)
    found["history"] = repr(dict(trainer.history))
    found["skipped"] = trainer.skipped_steps
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping):
            state = callback.state_dict()
            weights = state.pop("best_weights") or {}
            found["stopping"] = repr(state), {k: v.tobytes() for k, v in weights.items()}
        elif isinstance(callback, Remembers):
            found["own"] = repr(callback.total.tolist())
    if "csv" in drawn.kinds and trainer.epoch:
        found["csv"] = (folder / "history.csv").read_text()
    return found


def outcome(drawn, trainer, folder, **more):
    """The state after a fit, or its error; KilledError and KeyboardInterrupt pass."""
    try:
        with np.errstate(all="ignore"):  # of data that are not finite
            trainer.fit(drawn.X, drawn.y, **drawn.fit, **more)
    except (ValueError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"
    return left(drawn, trainer, folder)


def pieces(drawn, folder):
    """The same training in pieces."""
    rng, saved = drawn.rng, folder / "checkpoints"
    ways = ("resume", "resume", "again", "load", "copy", "pickle")
    trainer, more = None, {}
    for attempt in range(6):
        config.set_num_threads(int(rng.integers(1, 3)))
        last = attempt == 5
        hook, how = pick(rng, *HOOKS), pick(rng, "killed", "ctrl-c", "signal")
        most = {"on_fit_begin": 1, "on_fit_end": 1}.get(hook, 6 if "step" in hook else 3)
        stop = Interrupts(hook, int(rng.integers(1, most + 1)), how)
        if trainer is None:
            trainer = drawn.trainer(folder, *[stop] * (not last), Checkpoint(saved, **drawn.every))
        else:  # goes on itself, with another interruption
            kept = [c for c in trainer.callbacks if not isinstance(c, Interrupts)]
            trainer.callbacks = [*kept[:-1], *[stop] * (not last), kept[-1]]
        try:
            return outcome(drawn, trainer, folder, **more)
        except (KilledError, KeyboardInterrupt):
            pass
        way = pick(rng, *ways)
        more = {"ckpt_path": saved} if way == "resume" else {}
        if way == "copy":
            trainer = copy.deepcopy(trainer)
        elif way == "pickle":
            trainer = pickle.loads(pickle.dumps(trainer))
        elif way == "load":
            # As in an except clause: save, and load in another process.
            where = folder / f"by hand {attempt}"
            trainer.save(where)
            trainer = loaded(drawn, where, folder, saved)
        elif way == "resume":
            trainer = None
    raise AssertionError("the last attempt has no interruption")


def loaded(drawn, where, folder, saved):
    made = drawn.trainer(folder, Checkpoint(saved, **drawn.every))
    return Trainer.load(
        where, made.model, made.loss, made.optimizer, scheduler=made.scheduler, progress=False,
        callbacks=made.callbacks, **drawn.options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* epochs are done")  # but for the last hooks
def test_interrupted_anywhere_and_gone_on_with(tmp_path, seed):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    drawn = Drawn(seed)
    expected = outcome(drawn, drawn.trainer(whole), whole)
    found = pieces(drawn, parts)
    if isinstance(found, str) or isinstance(expected, str):
        assert found == expected
    else:
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value == expected[name], name
