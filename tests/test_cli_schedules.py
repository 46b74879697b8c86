"""``onepass train --schedule``: every schedule, its options, resumes, and wrong ones."""

import inspect
import re
from typing import ClassVar

import numpy as np
import pytest
from onepass import optim
from onepass.cli import main
from onepass.optim import lr_scheduler as lrs
from onepass.runs import _schedules
from onepass.train import Callback
from onepass.train._history import History
from onepass.train._trainer import Trainer

NAMES = [name for name in _schedules.names() if name != "none"]
OPTIONS = ["--hidden", "4", "--epochs", "4", "--batch-size", "20", "--early-stopping", "0"]
STEPS = 4 * 5  # 90 samples are in training


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a, b = np.random.default_rng(0).standard_normal((2, 120))
    rows = [f"{x},{y},{'yes' if x + y > 0 else 'no'}\n" for x, y in zip(a, b, strict=True)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(rows))

    def call(*arguments, status=0):
        assert main(["train", *arguments]) == status, capsys.readouterr()
        return capsys.readouterr()

    return call


class Rates(Callback):
    """The rate of each step."""

    found: ClassVar[list[float]] = []

    def on_step_end(self, run):
        self.found.append(run.lr)


@pytest.fixture
def rates(monkeypatch):
    plain = Trainer.__init__
    Rates.found = []

    def init(self, *args, callbacks=(), **options):
        plain(self, *args, callbacks=[*callbacks, Rates()], **options)

    monkeypatch.setattr(Trainer, "__init__", init)
    return Rates.found


INTERVALS = [(name, None) for name in _schedules.names()] + [
    (name, interval)
    for name in _schedules.names()
    for interval in ("step", "epoch")
    if "interval" in _schedules.options_of(name)
]


@pytest.mark.parametrize(("name", "interval"), INTERVALS)
def test_the_rates_are_those_of_the_schedule(run, rates, name, interval) -> None:
    more = [] if interval is None else ["--schedule-options", f"interval={interval}"]
    run("t.csv", *OPTIONS, "--lr", "0.1", "--schedule", name, *more)
    by_step = interval == "step" or (
        interval is None and name in ("warmup_cosine", "one_cycle", "warmup")
    )
    assert len(rates) == STEPS
    if name in ("none", "plateau", "constant"):
        assert rates == [0.1] * STEPS
        return
    total = STEPS if by_step else 4
    optimizer = optim.AdamW([np.zeros(1, np.float32)], lr=0.1)
    warm = max(1, round(total / 20))
    made = {
        "warmup_cosine": lambda: lrs.SequentialLR(
            optimizer,
            [lrs.LinearWarmup(optimizer, warm), lrs.CosineAnnealingLR(optimizer, total - warm)],
            [warm],
        ),
        "cosine": lambda: lrs.CosineAnnealingLR(optimizer, total),
        "exponential": lambda: lrs.ExponentialLR(optimizer, 0.01 ** (1 / total)),
        "harmonic": lambda: lrs.HarmonicLR(optimizer, 1.0, 10, 1),
        "inverse_time": lambda: lrs.InverseTimeLR(optimizer, 10 / total),
        "multi_step": lambda: lrs.MultiStepLR(optimizer, [total // 2, total * 3 // 4]),
        "one_cycle": lambda: lrs.OneCycleLR(optimizer, 0.1, total),
        "polynomial": lambda: lrs.PolynomialLR(optimizer, total),
        "step": lambda: lrs.StepLR(optimizer, -(-total // 3)),
        "warmup": lambda: lrs.LinearWarmup(optimizer, warm),
    }[name]()
    expected = []
    for _ in range(total):
        expected += [optimizer.param_groups[0]["lr"]] * (1 if by_step else 5)
        made.step()
    np.testing.assert_allclose(rates, expected, rtol=1e-14, atol=1e-18)


@pytest.mark.parametrize("name", ["schedulefreesgd", "ScheduleFreeAdamW"])
def test_an_optimizer_without_schedule_has_none_unless_one_is_asked_for(run, rates, name) -> None:
    run("t.csv", *OPTIONS, "--lr", "0.1", "--optimizer", name)
    assert rates == [0.1] * STEPS
    rates.clear()
    run(
        "t.csv", *OPTIONS, "--lr", "0.1", "--optimizer", name, "--schedule", "cosine", "--overwrite"
    )
    assert rates[-1] < 0.1


def test_options_reach_the_schedule(run, rates) -> None:
    given = "milestones=1+3, gamma=0.5"
    run("t.csv", *OPTIONS, "--lr", "0.1", "--schedule", "Multi_Step", "--schedule-options", given)
    assert rates[::5] == [0.1, 0.05, 0.05, 0.025]
    rates.clear()
    given = "milestones=2,gamma=0.5"
    run("t.csv", *OPTIONS, "--lr", "0.1", "--schedule", "multi_step", "--schedule-options", given)
    assert rates[::5] == [0.1, 0.1, 0.05, 0.05]
    rates.clear()
    given = "factor=0.5,total_iters=3"
    run("t.csv", *OPTIONS, "--lr", "0.1", "--schedule", "constant", "--schedule-options", given)
    assert rates[::5] == [0.05, 0.05, 0.05, 0.1]
    rates.clear()
    given = "step_size=7,gamma=1e-1,interval=step"
    run("t.csv", *OPTIONS, "--lr", "0.1", "--schedule", "step", "--schedule-options", given)
    np.testing.assert_allclose(rates, [0.1 * 0.1 ** (t // 7) for t in range(20)], rtol=1e-12)


@pytest.mark.parametrize("name", ["step", "one_cycle", "plateau", "harmonic"])
def test_a_resume_goes_on_in_the_middle(run, monkeypatch, name) -> None:
    given = ["--schedule", name]
    given += ["--schedule-options", "step_size=2"] if name == "step" else []
    run("t.csv", *OPTIONS, *given, "--out", "whole")
    plain = History.append

    def cut(self, row):
        plain(self, row)
        if self.epochs == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", cut)
    run("t.csv", *OPTIONS, *given, "--out", "cut", status=130)
    monkeypatch.setattr(History, "append", plain)
    run("--resume", "--out", "cut")
    with open("whole/history.csv") as whole, open("cut/history.csv") as other:
        assert whole.read() == other.read()
    if name != "step":  # a cosine has other options
        error = run("--resume", "--out", "cut", "--schedule", "cosine", status=2).err
        assert f"was started with --schedule {name}; --resume cannot go on" in error


@pytest.mark.parametrize("name", ["multi_step", "exponential", "warmup_cosine"])
def test_a_resume_to_more_epochs_has_the_rates_of_the_longer_run_at_once(run, rates, name) -> None:
    given = [*OPTIONS, "--schedule", name]
    run("t.csv", *given, "--epochs", "8", "--out", "whole")
    whole = rates[STEPS:]
    run("t.csv", *given, "--out", "short")
    rates.clear()
    run("--resume", "--epochs", "8", "--out", "short")
    assert rates == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "cosin"], "'--schedule' is 'cosin', expected one of .*mean 'cosine'"),
        (["--schedule-options", "gamma=1"], "'--schedule-options' has 'gamma=1', expected options"),
        (["--schedule", "step", "--schedule-options", "gama=1"], "has 'gama=1'.*mean 'gamma'"),
        (["--schedule", "step", "--schedule-options", "gamma"], "has 'gamma', expected options of"),
        (["--schedule", "step", "--schedule-options", "step_size=0"], "'step_size' is 0"),
        (["--schedule", "step", "--schedule-options", "step_size=two"], "'step_size' is 'two'"),
        (["--schedule", "cosine", "--schedule-options", "interval=day"], "'interval' is 'day'"),
        (["--schedule", "none", "--schedule-options", "gamma=1"], "expected options of none: none"),
        (["--schedule", "step", "--schedule-options", "optimizer=1"], "has 'optimizer=1'"),
        (["--schedule", "one_cycle", "--schedule-options", "total_steps=3"], "has 'total_steps=3'"),
        (["--schedule-options", ""], "'--schedule-options' is '', expected options, NAME=VALUE"),
        (["--scheduler", "step"], "did you mean '--schedule'"),
    ],
)
def test_wrong_ones_are_one_line(run, options, message) -> None:
    error = run("t.csv", *options, status=2).err
    assert re.search(message, error), error
    assert len(error.splitlines()) == 1


def test_every_schedule_of_the_library_has_a_name_and_the_help_lists_it(capsys) -> None:
    made = {make for make, _ in _schedules.SCHEDULES.values()}
    others = {lrs.LRScheduler, lrs.LambdaLR, lrs.SequentialLR}  # a function, a list of schedules
    for name in lrs.__all__:
        cls = getattr(lrs, name)
        assert cls in made or cls in others, f"onepass train --schedule has no name for {name}"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in _schedules.names():
        assert re.search(rf"\b{name}\b", shown), name


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_an_option(name) -> None:
    make, defaults = _schedules.SCHEDULES[name]
    given = defaults(_schedules.Length(20, 0.1))
    assert given.keys() <= inspect.signature(make).parameters.keys()
    for total in (1, 2, 3, 1000):
        optimizer = optim.SGD([np.zeros(1, np.float32)], lr=0.1, momentum=0.9)
        made = _schedules.schedule(optimizer, name, (), total, total)
        rates = []
        for _ in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            made.step(*([1.0] if name == "plateau" else []))
        assert np.isfinite(rates).all()
