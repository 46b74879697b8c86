"""A run that was cut short goes on bit for bit: after any step, after kill -9, after Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer, _store
from onepass.train._checkpoint import newest
from small_training import (
    STEPS,
    KilledError,
    StopAt,
    everything,
    fit,
    flat,
    make,
    network,
    uninterrupted,
)

# Resume.


@pytest.mark.parametrize("way", ["fit", "load"])
def test_a_resume_takes_the_seed_of_the_checkpoint(tmp_path, way):
    """Neither the batches' order nor the split of validation begins anew."""
    split = {"validation_data": None, "validation_split": 0.3}
    whole = make(seed=4, scheduled=False)
    fit(whole, **split)
    expected = everything(whole)
    fit(make([Checkpoint(tmp_path)], seed=4, scheduled=False), max_epochs=2, **split)
    model = network(9)
    parts = model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.5)
    options = {"metrics": ["accuracy"], "progress": False}
    if way == "load":
        second = Trainer.load(tmp_path, *parts, **options)
        fit(second, **split)
    else:
        second = Trainer(*parts, **options)
        with pytest.warns(RuntimeWarning, match=r"of its own optimizer: lr=0\.02, not 0\.5; to ch"):
            fit(second, ckpt_path=tmp_path, **split)
    assert second.seed == 4
    assert everything(second) == expected


def test_a_resume_with_another_seed_is_refused(tmp_path):
    fit(make([Checkpoint(tmp_path)], seed=4), max_epochs=1)
    trainer = make(seed=5)
    before = everything(trainer)
    with pytest.raises(ValueError, match="'seed' is 5, expected 4"):
        fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == before


@pytest.mark.parametrize(("other", "words"), [
    ({"batch_size": 10}, "batch_size=8.*10"), ({"shuffle": False}, "shuffle=True.*False"),
    ({"last_batch": "drop"}, "last_batch='balance'.*drop"),
])  # fmt: skip
def test_a_resume_with_other_batches_is_told_between_epochs(tmp_path, other, words):
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    build = {k: v for k, v in other.items() if k == "last_batch"}
    other = {k: v for k, v in other.items() if k != "last_batch"}
    with pytest.warns(RuntimeWarning, match=words):
        fit(make(**build), ckpt_path=tmp_path, **other)
    trainer = make()  # without a stop it is what was asked for
    fit(trainer, max_epochs=1)
    trainer.last_batch = build.get("last_batch", trainer.last_batch)
    fit(trainer, **other)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resume_at_every_step_is_bitwise_equal(tmp_path, accumulate):
    def trainer(*callbacks):
        return make([EarlyStopping(patience=9), *callbacks], accumulate=accumulate, max_norm=1.0)

    whole = trainer()
    fit(whole)
    expected = everything(whole)
    assert whole.step == (STEPS if accumulate == 1 else 6)
    for step in range(1, whole.step + 1):
        folder = tmp_path / str(step)
        first = trainer(Checkpoint(folder, every_n_steps=step), StopAt(step + 1))
        if step < whole.step:
            with pytest.raises(KilledError):
                fit(first)
        else:
            fit(first)
        nn.manual_seed(1234)
        second = trainer()
        network(7)  # other random numbers drawn meanwhile
        fit(second, ckpt_path=folder)
        assert second.resumed
        assert everything(second) == expected, f"stopped after step {step}"
        assert second.callbacks[0].best == whole.callbacks[0].best


def test_resume_from_loaded_trainer(tmp_path):
    expected = uninterrupted()
    first = make([StopAt(6)])
    with pytest.raises(KilledError):
        fit(first)
    path = first.save(tmp_path / "saved")
    assert path.parent == tmp_path / "saved"
    model = network(3)
    optimizer = optim.AdamW(model.parameters(), lr=0.5)
    second = Trainer.load(
        tmp_path / "saved", model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"],
        progress=False, scheduler=lr_scheduler.CosineAnnealingLR(optimizer, STEPS, interval="step"),
    )  # fmt: skip
    fit(second)
    assert everything(second) == expected


def test_resume_of_a_parameter_without_gradients(tmp_path):
    """A branch not used after the resume still counts as it did before."""

    class Branch(nn.Module):
        def __init__(self):
            self.always, self.first = nn.Linear(4, 2), nn.Linear(4, 2)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            self.used = trainer.step < 3
            return self.always(x) + self.first(x) if self.used else self.always(x)

        def backward(self, dy):
            self.always.backward(dy)
            if self.used:
                self.first.backward(dy)

    def build(*callbacks):
        nn.manual_seed(0)
        model = Branch()
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)

    trainer = build()
    fit(trainer)
    expected = everything(trainer)
    trainer = build(Checkpoint(tmp_path, every_n_steps=1), StopAt(6))
    with pytest.raises(KilledError):
        fit(trainer)
    trainer = build()
    fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == expected


def test_resume_with_other_batches_is_refused_inside_an_epoch(tmp_path):
    first = make([Checkpoint(tmp_path, every_n_steps=1), StopAt(6)])
    with pytest.raises(KilledError):
        fit(first)
    trainer = make()
    before = everything(trainer)
    with pytest.raises(ValueError, match="batch_size=8"):
        fit(trainer, batch_size=10, ckpt_path=tmp_path)
    assert everything(trainer) == before


def test_resume_after_the_end(tmp_path):
    stopping = EarlyStopping("loss", patience=1, min_delta=100.0)
    first = make([stopping, Checkpoint(tmp_path)])
    fit(first, max_epochs=9)
    expected = everything(first)
    assert first.epoch == 2
    second = make([EarlyStopping("loss", patience=1, min_delta=100.0)])
    fit(second, max_epochs=9, ckpt_path=tmp_path)
    assert second.epoch == 2
    assert everything(second) == expected


@pytest.mark.parametrize("there", [False, True])
def test_fresh_start(tmp_path, there):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    expected = uninterrupted()
    trainer = make([Checkpoint(folder)])
    fit(trainer, ckpt_path=folder)
    assert not trainer.resumed
    assert everything(trainer) == expected


def test_killed_processes_resume(tmp_path):
    """kill -9 at arbitrary moments, over and over, until the run is done."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from onepass.train import Checkpoint, EarlyStopping
        from small_training import fit, make
        folder = sys.argv[1]
        trainer = make([EarlyStopping(patience=9), Checkpoint(folder, every_n_steps=1)])
        print("ready", flush=True)
        fit(trainer, max_epochs=20, ckpt_path=folder)
        trainer.save(folder + "-end")
    """)
    )
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, stdout=subprocess.DEVNULL)
    delays, kills = iter([0.02, 0.05, 0.09, 0.03, 0.07]), 0
    for _ in range(20):
        with subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            try:
                process.wait(next(delays, 60))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert process.returncode == 0
    assert kills
    ends = [newest(tmp_path / f"{name}-end") for name in ("whole", "cut")]
    for part in ("model", "optimizer", "callbacks", "trainer"):
        assert flat(ends[0][part]) == flat(ends[1][part])


# Ctrl-C.


@pytest.mark.parametrize("mode", ["signal", "callback"])
def test_interrupt_saves_at_the_end_of_the_step(tmp_path, mode):
    class Press(nn.CrossEntropyLoss):
        calls = 0

        def __call__(self, y, target):
            Press.calls += 1
            if Press.calls == 5:
                signal.raise_signal(signal.SIGINT)
            return super().__call__(y, target)

    whole = make()
    fit(whole, validation_data=None)
    expected = everything(whole)
    callbacks = [Checkpoint(tmp_path, every_n_epochs=50)]
    callbacks += [StopAt(5, error=KeyboardInterrupt)] if mode == "callback" else []
    first = make(callbacks)
    if mode == "signal":
        first.loss = Press()
    with pytest.raises(KeyboardInterrupt):
        fit(first, validation_data=None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert first.step == 5
    assert [p.name for p in _store.checkpoints(tmp_path)] == ["step_00000005"]
    second = make()
    fit(second, validation_data=None, ckpt_path=tmp_path)
    assert everything(second) == expected


def test_interrupt_at_the_very_end_keeps_the_last_checkpoint(tmp_path):
    """The best weights are back in the model by then: they are not the state to go on from."""

    class Late(Callback):
        def on_fit_end(self, trainer):
            raise KeyboardInterrupt

    expected = uninterrupted(callbacks=[Checkpoint(tmp_path / "whole")])
    first_is_best = EarlyStopping("lr", mode="max", patience=9)
    trainer = make([first_is_best, Late(), Checkpoint(tmp_path / "cut")])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    last = newest(tmp_path / "cut")
    assert {k: v.tobytes() for k, v in last["model"].items()} == expected["model"]


def test_second_interrupt_is_immediate(tmp_path):
    class Press(nn.CrossEntropyLoss):
        def __call__(self, y, target):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    trainer = make([Checkpoint(tmp_path)])
    trainer.loss = Press()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert trainer.step == 0
    assert not _store.checkpoints(tmp_path)  # the step was cut in the middle: nothing to save
