"""Ctrl-C, or another signal's handler, in the middle of anything: whole, or said to be half done.

An interruption is placed at every line, and every few calls, of the code in question.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import linecache
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import _interruptions, nn, optim
from onepass.nn import _use
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer, find_lr
from small_training import VALIDATION, X, Y, everything, fit, make, network, uninterrupted

OURS = ("_averages.py", "_state_dict.py", "_saving.py", "_use.py", "_schedule_free.py",
        "_optimizer.py", "_riders.py", "_planned.py", "_array.py", "_interruptions.py",
        "_callbacks.py", "_unchanged.py", "_evaluation.py", "_base.py", "_zeros.py")  # fmt: skip


class CutError(KeyboardInterrupt):
    pass


def at_a_with(frame):
    """No signal comes between a block and the end of its ``with``; a trace function does."""
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return text.lstrip().startswith("with ")


def cut(call, place, files=OURS):
    """``call``, interrupted at the n-th line of ``files`` that it runs; whether it was."""
    left = [place]

    def line(frame, event, argument):
        if event == "line" and not at_a_with(frame):
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise CutError
        return line

    sys.settrace(lambda f, *_: line if f.f_code.co_filename.endswith(files) else None)
    try:
        call()
    except CutError:
        return True
    finally:
        sys.settrace(None)
    return False


def everywhere(make_call, check, step=1):
    """Cuts ``make_call()`` at its first line, its second, … and checks what is left each time."""
    place, cuts = 1, 0
    while True:
        subject, call = make_call()
        if not cut(call, place):
            assert cuts > 5
            return
        cuts += 1
        check(subject)
        place += step


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


KINDS = {
    "ema": lambda m: optim.AdamW(m.parameters(), lr=0.05, ema_decay=0.7),
    "schedule free": lambda m: optim.ScheduleFreeAdamW(m.parameters(), lr=0.05),
}


def averaged(kind, callbacks=()):
    model = network()
    return Trainer(model, nn.CrossEntropyLoss(), KINDS[kind](model), callbacks=callbacks,
                   progress=False)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", ["evaluate", "predict", "save"])
def test_an_evaluation_with_averages_that_ctrl_c_cuts_gives_the_parameters_back(
    tmp_path, kind, call
):
    """Else the model was half its parameters, half their averages."""
    trainer = averaged(kind)
    trainer.fit(X, Y, max_epochs=2, batch_size=8)
    weights, outputs = trainer.model.state_dict(), trainer.predict(X)
    modes = [m.training for m in trainer.model.modules()]
    calls = {
        "evaluate": lambda: trainer.evaluate(X, Y),
        "predict": lambda: trainer.predict(X),
        "save": lambda: trainer.save(tmp_path),
    }

    def check(trainer):
        np.testing.assert_allclose(trainer.predict(X), outputs, rtol=1e-5)
        assert [m.training for m in trainer.model.modules()] == modes
        assert _use._uses == {}
        assert trainer.model.training or kind == "ema"
        if kind == "ema":
            assert same(trainer.model.state_dict(), weights)

    everywhere(lambda: (trainer, calls[call]), check, step=7)


def test_a_model_is_whole_after_a_load_that_ctrl_c_cuts():
    old, new = network(0).state_dict(), network(1).state_dict()
    model = network(0)

    def begin():
        model.load_state_dict(old)
        return model, lambda: model.load_state_dict(new)

    def check(model):
        now = model.state_dict()
        assert same(now, old) or same(now, new)

    everywhere(begin, check)


@pytest.mark.parametrize("kind", [*KINDS, "plain"])
def test_an_optimizer_is_whole_after_a_load_that_ctrl_c_cuts(kind):
    make_one = KINDS.get(kind, lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9))

    def stepped(count):
        model = network()
        optimizer = make_one(model)
        for _ in range(count):
            for parameter in model.parameters():
                parameter.grad = np.full(parameter.shape, 0.1 * count, np.float32)
            optimizer.step()
        optimizer.param_groups[0]["weight_decay"] = 0.01 * count
        return optimizer

    def state(optimizer):
        return copy.deepcopy(optimizer.state_dict())

    old, new = state(stepped(2)), state(stepped(5))
    optimizer = stepped(2)

    def begin():
        optimizer.load_state_dict(old)
        return optimizer, lambda: optimizer.load_state_dict(new)

    def check(optimizer):
        now = state(optimizer)
        wanted = old if now["state"][0].get("step") == 2 else new
        if kind == "plain":
            wanted = old if now["param_groups"] == old["param_groups"] else new
        assert now["param_groups"] == wanted["param_groups"]
        for index, entry in wanted["state"].items():
            for name, value in entry.items():
                assert np.array_equal(now["state"][index][name], value), (index, name)

    everywhere(begin, check, step=3)


SCHEDULES = {
    lr_scheduler.CosineAnnealingLR: {"T_max": 20},
    lr_scheduler.OneCycleLR: {"max_lr": 0.3, "total_steps": 20},
    lr_scheduler.StepLR: {"step_size": 2},
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_is_whole_after_a_load_that_ctrl_c_cuts(kind):
    def stepped(count):
        optimizer = optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
        schedule = kind(optimizer, **SCHEDULES[kind])
        for _ in range(count):
            schedule.step()
        return schedule

    old, new = stepped(3).state_dict(), stepped(7).state_dict()
    schedule = stepped(3)

    def begin():
        schedule.load_state_dict(old)
        return schedule, lambda: schedule.load_state_dict(new)

    def check(schedule):
        assert schedule.state_dict() in (old, new)

    everywhere(begin, check)


@pytest.mark.parametrize("training", [True, False])
def test_a_schedule_free_optimizer_is_at_the_average_or_at_training_after_ctrl_c(training):
    model = network()
    optimizer = KINDS["schedule free"](model)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = np.full(parameter.shape, 0.3, np.float32)
        optimizer.step()
    at = {True: model.state_dict()}
    optimizer.eval()
    at[False] = model.state_dict()

    def begin():
        optimizer.train(not training)
        return optimizer, lambda: optimizer.train(training)

    def check(optimizer):
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(value, at[optimizer.training][name], rtol=1e-4, atol=1e-6)

    everywhere(begin, check)


@pytest.mark.filterwarnings("ignore:fit. 2 of 2 epochs are done")
@pytest.mark.parametrize("how", ["load", "ckpt_path"])
def test_a_run_is_the_saved_one_or_said_to_be_half_after_a_load_that_ctrl_c_cuts(tmp_path, how):
    saved = make()
    fit(saved, max_epochs=2)
    saved.save(tmp_path)
    expected, schedule = everything(saved)["model"], everything(saved)["schedule"]
    before = everything(make())["model"]

    def begin():
        trainer = make()
        if how == "load":
            parts = (trainer.model, trainer.loss, trainer.optimizer)
            options = {"scheduler": trainer.scheduler, "progress": False}
            return trainer, lambda: Trainer.load(tmp_path, *parts, **options)
        return trainer, lambda: fit(trainer, max_epochs=2, ckpt_path=tmp_path)

    def check(trainer):
        if trainer.run.torn:
            with pytest.raises(RuntimeError, match="half done"):
                fit(trainer)
            return
        state = everything(trainer)
        assert state["model"] in (expected, before)
        if state["model"] == expected:
            assert state["schedule"] == schedule
            assert {
                entry["step"] for entry in trainer.optimizer.state_dict()["state"].values()
            } == {saved.step}

    everywhere(begin, check, step=41)


def test_the_best_weights_come_back_whole_though_ctrl_c_cuts_it():
    stopping = EarlyStopping("loss")
    trainer = averaged("ema", [stopping])
    trainer.fit(X, Y, max_epochs=2, batch_size=8)
    other = network(3).state_dict()
    names = [name for name, _ in trainer.model.named_parameters()]

    def begin():
        trainer.model.load_state_dict(other)
        return trainer, lambda: stopping.on_fit_end(trainer.run)

    def check(trainer):
        now = trainer.model.state_dict()
        assert same(now, other) or same(now, stopping.best_weights)
        if same(now, stopping.best_weights):
            averages = zip(names, trainer.optimizer.averages, strict=True)
            assert all(np.array_equal(now[name], average) for name, average in averages)

    everywhere(begin, check, step=3)


def test_find_lr_gives_everything_back_though_ctrl_c_cuts_its_end():
    trainer = make()
    fit(trainer, max_epochs=1)
    expected = everything(trainer)

    def begin():
        return trainer, lambda: find_lr(trainer, X, Y, batch_size=8, steps=12)

    place = 1
    while cut(begin()[1], place):
        assert everything(trainer) == expected
        place = place * 3 // 2 + 1
    assert place > 100


@pytest.mark.parametrize("call", ["fit", "predict", "evaluate"])
def test_layers_have_their_modes_after_ctrl_c_or_an_error_anywhere_in_a_call(call):
    """Also where the end of the call itself is cut."""
    trainer = make(scheduled=False)
    trainer.model[1].eval()
    modes = [(m.training, m._holds_eval) for m in trainer.model.modules()]
    calls = {
        "fit": lambda: fit(trainer, max_epochs=trainer.epoch + 1),
        "predict": lambda: trainer.predict(X),
        "evaluate": lambda: trainer.evaluate(X, Y),
    }

    def check(trainer):
        assert [(m.training, m._holds_eval) for m in trainer.model.modules()] == modes
        assert _use._uses == {}
        trainer.run.torn = False

    place = 1
    while cut(calls[call], place):
        check(trainer)
        place += 1 + place // 8
    assert place > 50


@pytest.mark.parametrize("where", ["forward", "backward", "loss"])
def test_layers_have_their_modes_after_an_error_in_the_model(where):
    class Fails(nn.Module):
        def forward(self, x):
            if where == "forward":
                raise ValueError("here")
            return x

        def backward(self, dy, *, need_input_grad=True):
            raise ValueError("here")

    def loss(y, target):
        if where == "loss":
            raise ValueError("here")
        return nn.CrossEntropyLoss()(y, target)

    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), Fails(), nn.Linear(6, 2)).eval()
    model[1].eval()
    modes = [m.training for m in model.modules()]
    trainer = Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), progress=False)
    with pytest.raises(ValueError, match="here"):
        trainer.fit(X, Y, max_epochs=1, validation_data=VALIDATION)
    assert [m.training for m in model.modules()] == modes
    if where != "backward":
        with pytest.raises(ValueError, match="here"):
            trainer.evaluate(X, Y)
        assert [m.training for m in model.modules()] == modes


# Signals other than that of Ctrl-C.


def exits(number, frame):
    raise SystemExit(3)


class Object:
    def __call__(self, number, frame):
        raise TimeoutError("too long")

    def method(self, number, frame):
        raise ValueError("told so")


HANDLERS = {
    "exit": (exits, SystemExit),
    "lambda": (lambda *_: sys.exit(3), SystemExit),
    "object": (Object(), TimeoutError),
    "method": (Object().method, ValueError),
    "interrupt": (signal.default_int_handler, KeyboardInterrupt),
}


@pytest.fixture
def handled(request):
    handler, error = HANDLERS[request.param]
    before = signal.signal(signal.SIGTERM, handler)
    yield error
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("handled", HANDLERS, indirect=True)
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_before_step", "on_step_end",
                                  "on_validation_end", "on_epoch_end", "on_fit_end"])  # fmt: skip
def test_a_hook_cut_by_the_handler_of_another_signal_is_told_as_ctrl_c_is(handled, hook):
    def cuts(run):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")

    callback = Callback()
    setattr(callback, hook, cuts)
    trainer = make([callback])
    with pytest.raises(handled):
        fit(trainer)
    assert trainer.run.torn
    with pytest.raises(RuntimeError, match="interrupted inside a step"):
        fit(trainer)


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), ValueError("no")])
def test_a_hook_that_ends_the_run_by_itself_leaves_a_run_that_goes_on(error):
    def ends(run):
        if run.step == 6:
            callback.on_step_end = Callback.on_step_end.__get__(callback)
            raise error

    callback = Callback()
    callback.on_step_end = ends
    trainer = make([callback])
    with pytest.raises(type(error)):
        fit(trainer)
    assert not trainer.run.torn
    fit(trainer)
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("handled", HANDLERS, indirect=True)
def test_a_step_cut_by_the_handler_of_another_signal_is_half_done(monkeypatch, handled):
    trainer = make()
    step = trainer.optimizer.step

    def cuts(**options):
        info = step(**options)
        if trainer.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return info

    trainer.optimizer.step = cuts
    with pytest.raises(handled):
        fit(trainer)
    assert trainer.run.torn


def test_other_threads_may_go_on_after_all_that():
    trainer = make()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(trainer.predict, X).result(60).shape == (30, 2)


def test_the_end_of_a_block_is_done_wherever_ctrl_c_comes():
    place, begun, done = 1, [], []

    def block():
        with _interruptions.ending_in(lambda: done.append(1)):
            begun.append(1)

    while cut(block, place, ("_interruptions.py",)):
        assert bool(done) or not begun
        place += 1
        begun.clear()
        done.clear()
    assert place > 10


def test_work_that_is_always_cut_ends():
    begun = []

    def work():
        begun.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _interruptions.to_the_end(work)
    assert len(begun) == _interruptions.TIMES


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    "error", [ValueError("own"), OwnError(), MemoryError(), OSError(28, "full")]
)
@pytest.mark.parametrize("how", ["to_the_end", "ending_in"])
def test_work_that_fails_by_itself_is_run_once(how, error):
    begun = []

    def work():
        begun.append(1)
        raise error

    def call():
        if how == "to_the_end":
            _interruptions.to_the_end(work)
        else:
            with _interruptions.ending_in(work):
                pass

    with pytest.raises(type(error)) as raised:
        call()
    assert raised.value is error
    assert begun == [1]


class Handler:
    """An object of the program, which takes itself out before it raises."""

    def __init__(self, before):
        self.before = before

    def __call__(self, number, frame):
        signal.signal(signal.SIGTERM, self.before)
        raise OwnError


def plain_handler(number, frame):
    raise OwnError


def any_handler(*_):
    raise OwnError


@pytest.mark.parametrize("kind", ["plain", "any", "object", "partial"])
@pytest.mark.parametrize("reworded", [False, True])
def test_an_error_from_a_handler_is_an_interruption(kind, reworded):
    """The work is done to the end, and the error raised afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    handler = {
        "plain": plain_handler,
        "any": any_handler,
        "object": Handler(before),
        "partial": functools.partial(plain_handler),
    }[kind]
    begun, done = [], []

    def work():
        begun.append(1)
        try:
            if len(begun) == 1:
                signal.raise_signal(signal.SIGTERM)
        except OwnError as error:
            if reworded:
                raise ValueError("in other words") from error
            raise
        done.append(1)

    signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(ValueError if reworded else OwnError):
            _interruptions.to_the_end(work)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (begun, done) == ([1, 1], [1])


def test_a_load_that_is_refused_is_tried_once(monkeypatch):
    optimizer, tried = optim.AdamW(network().parameters(), lr=0.1), []
    load = optimizer._load

    def counted(state):
        tried.append(1)
        load(state)

    monkeypatch.setattr(optimizer, "_load", counted)
    with pytest.raises(ValueError, match="groups"):
        optimizer.load_state_dict({**optimizer.state_dict(), "param_groups": []})
    assert tried == [1]


@pytest.mark.parametrize("step", [1, 5])
def test_a_checkpoint_is_not_written_by_a_run_that_is_half_done(tmp_path, step):
    """Nor is one missed where there is none yet."""

    class Cut(Callback):
        def on_step_end(self, run):
            if run.step == step:
                signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    trainer = make([Cut(), Checkpoint(tmp_path, every_n_steps=1)])
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(trainer)
    finally:
        signal.signal(signal.SIGTERM, before)
    written = sorted(path.name for path in tmp_path.glob("step_*"))
    assert written[-1:] == [f"step_{step - 1:08d}"] * (step > 1)


@contextlib.contextmanager
def handling(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def resets_itself(number, frame):
    signal.signal(number, signal.SIG_DFL)
    raise RuntimeError("time is up")


def converts(number, frame):
    try:
        raise TimeoutError
    except TimeoutError:
        raise ValueError("too long") from None


@pytest.mark.parametrize("handler", [resets_itself, converts, functools.partial(converts)])
def test_a_step_cut_by_a_handler_that_is_gone_since_is_half_done(handler):
    """The batch was trained twice, in silence."""
    trainer = make()
    step = trainer.optimizer.step

    def cuts(**options):
        info = step(**options)
        if trainer.step == 2:
            del trainer.optimizer.step
            signal.raise_signal(signal.SIGTERM)
        return info

    trainer.optimizer.step = cuts
    with handling(signal.SIGTERM, handler), pytest.raises((RuntimeError, ValueError)):
        fit(trainer)
    with pytest.raises(RuntimeError, match="interrupted inside a step"):
        fit(trainer)


def test_a_handler_that_a_hook_has_set_cuts_too():
    def sets(run):
        signal.signal(signal.SIGTERM, resets_itself)

    callback = Callback()
    callback.on_fit_begin = sets
    trainer = make([callback])
    callback.on_before_step = lambda run: run.step == 2 and signal.raise_signal(signal.SIGTERM)
    with handling(signal.SIGTERM, signal.SIG_DFL), pytest.raises(RuntimeError, match="time is up"):
        fit(trainer)
    assert trainer.run.torn


@pytest.mark.parametrize("error", [ValueError("log"), OSError("disk"), RuntimeError("no")])
@pytest.mark.parametrize("done", [True, False])
def test_a_step_of_ones_own_that_fails_is_half_done_only_behind_the_step(error, done):
    def fails(optimizer, **options):
        if trainer.step == 2 and not done:
            raise error
        info = optim.SGD.step(optimizer, **options)
        if trainer.step == 2:
            raise error
        return info

    kind = type("Own", (optim.SGD,), {"step": fails})
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    with pytest.raises(type(error)):
        trainer.fit(X, Y, max_epochs=2, batch_size=8)
    assert trainer.run.torn is done


def test_a_hook_that_calls_the_programs_handler_by_itself_is_whole():
    def ends(run):
        if run.step == 6:
            callback.on_step_end = Callback.on_step_end.__get__(callback)
            exits(signal.SIGTERM, None)

    callback = Callback()
    callback.on_step_end = ends
    trainer = make([callback])
    with handling(signal.SIGTERM, exits), pytest.raises(SystemExit):
        fit(trainer)
    fit(trainer)
    assert everything(trainer) == uninterrupted()


def test_a_hook_that_throws_an_interrupt_into_a_generator_is_whole():
    def waits():
        yield

    def ends(run):
        if run.step == 6:
            callback.on_step_end = Callback.on_step_end.__get__(callback)
            generator = waits()
            next(generator)
            generator.throw(KeyboardInterrupt())

    callback = Callback()
    callback.on_step_end = ends
    trainer = make([callback])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    fit(trainer)
    assert everything(trainer) == uninterrupted()


def test_handlers_are_the_programs_own_after_a_fit():
    with handling(signal.SIGTERM, exits):
        fit(make(), max_epochs=1)
        assert signal.getsignal(signal.SIGTERM) is exits
