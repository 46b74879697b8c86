"""A fit that an exception ends: what it leaves, what is called, and how it goes on."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass.nn import _use
from onepass.train import Callback, Checkpoint, EarlyStopping, Profile, _saving, _store
from small_training import EPOCHS, KilledError, X, Y, everything, fit, make, uninterrupted


class Raises(Callback):
    """Raises in the given hook at its n-th call, once."""

    def __init__(self, hook, at, error):
        self.left, self.error = at, error
        setattr(self, hook, self.called)

    def called(self, run, *more):
        self.left -= 1
        if self.left == 0:
            raise self.error


def test_ctrl_c_before_a_step_lets_the_step_end(tmp_path):
    trainer = make([Raises("on_before_step", 6, KeyboardInterrupt), Checkpoint(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert (trainer.step, trainer.position) == (6, 2)
    assert [_store.step_of(path) for path in _store.checkpoints(tmp_path)] == [4, 6]
    fit(trainer)
    assert everything(trainer) == uninterrupted()


def test_ctrl_c_after_a_validation_lets_the_epoch_end(tmp_path):
    trainer = make([Raises("on_validation_end", 2, KeyboardInterrupt), Checkpoint(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert (trainer.epoch, trainer.history.epochs) == (2, 2)
    assert len(trainer.history["val_loss"]) == 2
    fit(trainer)
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("nonfinite", ["raise", "propagate"])
def test_no_batch_is_lost_when_a_hook_fails_before_the_step(accumulate, nonfinite):
    """The batches of that step, their masks and the running statistics come again."""
    options = {"accumulate": accumulate, "nonfinite": nonfinite, "max_norm": 0.5}
    expected = uninterrupted(**options)
    trainer = make([Raises("on_before_step", 2, KilledError)], **options)
    with pytest.raises(KilledError):
        fit(trainer)
    assert (trainer.step, trainer.position) == (1, accumulate)
    fit(trainer)
    assert everything(trainer) == expected


@pytest.mark.parametrize("other", [{"y": 1 - Y}, {"X": X + 1}])
def test_other_data_inside_an_epoch_are_refused(other):
    trainer = make([Raises("on_step_end", 2, KilledError)])
    data = {"X": X, "y": Y, "max_epochs": 3, "batch_size": 8}
    with pytest.raises(KilledError):
        trainer.fit(**data)
    before = everything(trainer)
    with pytest.raises(ValueError, match="the last fit ended inside an epoch, expected the same"):
        trainer.fit(**{**data, **other})
    assert everything(trainer) == before
    trainer.fit(**data)
    assert trainer.epoch == 3


def test_every_callback_hears_of_the_end_also_where_one_fails():
    heard = []

    class Hears(Callback):
        def on_abort(self, run, error):
            heard.append(type(error))

    matmul = np.matmul
    trainer = make([
        Raises("on_step_end", 3, KilledError), Raises("on_abort", 1, OSError("disk")),
        Profile(steps=99, skip=0), Hears(),
    ])  # fmt: skip
    with pytest.raises(OSError, match="disk"):
        fit(trainer)
    assert heard == [KilledError]
    assert np.matmul is matmul
    assert "step" not in vars(type(trainer.optimizer))


def test_a_fit_that_failed_at_its_end_goes_on_there():
    """The best weights are given back by the fit that comes through."""
    ends = []

    class Ends(Callback):
        def on_fit_end(self, run):
            ends.append(run.epoch)

    trainer = make([Raises("on_fit_end", 1, KilledError), Ends()])
    with pytest.raises(KilledError):
        fit(trainer)
    fit(trainer)
    assert ends == [3]
    with pytest.warns(RuntimeWarning, match="3 of 3 epochs are done"):
        fit(trainer)


# Interruptions at random moments.


class AtOnceError(KeyboardInterrupt):
    """What a program's own handler of a signal raises."""


def interrupted(trainer, place, how):
    """A fit that is interrupted at the n-th line of Python that a step or an epoch's end runs."""
    files = ("optim/_optimizer.py", "_base.py", "_step.py", "_history.py", "_schedule.py")
    left = [place]

    def line(frame, event, argument):
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                how()
        return line

    def calls(frame, event, argument):
        return line if frame.f_code.co_filename.endswith(files) else None

    sys.settrace(calls)
    try:
        fit(trainer)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def at_once():
    raise AtOnceError


@pytest.mark.parametrize("place", [*range(3, 1500, 67), *range(40, 140, 9)])
def test_interrupted_at_once_it_goes_on_with_the_same_bits_or_says_why_not(tmp_path, place):
    """A second Ctrl-C, or the handler of another signal, does not wait for the step's end."""
    expected = uninterrupted(scheduled=True)
    trainer = make([Checkpoint(tmp_path, every_n_steps=1)])
    assert interrupted(trainer, place, at_once)
    if trainer.run.torn:
        with pytest.raises(RuntimeError, match="interrupted inside a step, which is half done"):
            fit(trainer)
        with pytest.raises(RuntimeError, match="save: the last fit was interrupted inside a step"):
            trainer.save(tmp_path / "by hand")
        assert not (tmp_path / "by hand").exists()
        if not _store.checkpoints(tmp_path):  # the first step
            return
    fit(trainer, **({"ckpt_path": tmp_path} if trainer.run.torn else {}))
    assert everything(trainer) == expected
    assert not trainer.run.torn


def test_interruptions_at_once_are_seen_inside_steps():
    """The test before this one meets both kinds."""
    torn = []
    for place in range(3, 1500, 67):
        trainer = make()
        interrupted(trainer, place, at_once)
        torn.append(trainer.run.torn)
    assert any(torn)
    assert not all(torn)


@pytest.mark.parametrize("place", range(3, 1500, 97))
def test_a_programs_own_handler_of_ctrl_c_is_called_between_two_steps(place):
    def handler(number, frame):
        assert frame is not None
        raise AtOnceError

    before = signal.signal(signal.SIGINT, handler)
    trainer = make()
    try:
        assert interrupted(trainer, place, lambda: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.run.at_boundary or trainer.step == 0  # before the loop has begun
    fit(trainer)
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("own", [signal.default_int_handler, "noted"])
def test_ctrl_c_works_after_a_debugger_has_put_a_fits_handler_back(own):
    """As pdb does at its next breakpoint with the handler that it found in a hook."""
    seen, found = [], []

    class Finds(Callback):
        def on_epoch_begin(self, run):
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.signal(
        signal.SIGINT, own if callable(own) else lambda number, frame: seen.append(number)
    )
    try:
        fit(make([Finds()]))
        signal.signal(signal.SIGINT, found[0])
        if callable(own):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_only_takes_note_lets_the_fit_go_on():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    trainer = make()
    try:
        assert not interrupted(trainer, 200, lambda: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert everything(trainer) == uninterrupted()


def test_a_hook_cut_by_a_second_ctrl_c_is_told():
    class Slow(Callback):
        def on_epoch_end(self, run):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    trainer = make([Slow()])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    with pytest.raises(RuntimeError, match="interrupted inside a step"):
        fit(trainer)


@pytest.mark.parametrize("call", ["fit", "predict"])
def test_after_an_interruption_that_cuts_the_end_of_a_call_other_threads_may_go_on(
    monkeypatch, call
):
    trainer = make()
    fit(trainer, max_epochs=1)

    def cut(*arguments):
        monkeypatch.undo()
        raise AtOnceError

    monkeypatch.setattr(_use, "_leave", cut)
    with pytest.raises(AtOnceError):
        fit(trainer) if call == "fit" else trainer.predict(X)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: trainer.predict(X)).result().shape == (30, 2)
        pool.submit(lambda: fit(trainer, max_epochs=EPOCHS + 1)).result()
    assert trainer.epoch == EPOCHS + 1


class Refuses(Callback):
    """Takes no saved state, or only its own."""

    def __init__(self, error=None):
        self.error, self.own = error, {"a": 1}

    def state_dict(self):
        return self.own

    def load_state_dict(self, state):
        if self.error is not None and state != self.own:
            raise self.error
        self.own = state


@pytest.mark.parametrize("error", [ValueError("no a"), KeyError("a"), OSError("disk")])
@pytest.mark.parametrize("trained", [False, True])
def test_a_checkpoint_that_a_callback_refuses_changes_nothing(tmp_path, error, trained):
    """The fit after it went on with the model of the checkpoint and its own counters."""
    saved = make([EarlyStopping("loss"), Refuses()])
    fit(saved, max_epochs=2)
    saved.save(tmp_path)
    refuses = Refuses(error)
    refuses.own = {"a": 2}
    trainer = make([EarlyStopping("loss"), refuses])
    if trained:
        fit(trainer, max_epochs=1)
    before, best = everything(trainer), repr(trainer.callbacks[0].state_dict()["best"])
    with pytest.raises((ValueError, OSError), match=r"no a|'a'|disk"):
        fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == before
    assert repr(trainer.callbacks[0].state_dict()["best"]) == best
    assert (refuses.own, trainer.run.loaded, trainer.run.torn) == ({"a": 2}, False, False)
    fit(trainer)
    assert everything(trainer) == uninterrupted()


def test_a_checkpoint_whose_history_is_none_changes_nothing(tmp_path, monkeypatch):
    saved = make()
    fit(saved, max_epochs=2)
    saved.save(tmp_path)
    trainer = make()
    before = everything(trainer)

    def refuses(*arguments):
        raise ValueError("no history")

    with monkeypatch.context() as patch:
        patch.setattr(_saving, "History", refuses)
        with pytest.raises(ValueError, match="does not fit this trainer: no history"):
            fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == before
    fit(trainer)
    assert everything(trainer) == uninterrupted()
