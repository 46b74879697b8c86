"""A forked child has one thread: what the others were in the middle of does not bind it."""

import faulthandler
import os
import threading
import time

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim.lr_scheduler import StepLR
from onepass.train import Callback, EarlyStopping, Trainer, _blas
from small_training import X, Y

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # of Python 3.12: threads
]
DY = np.ones((30, 2), np.float32)


class Waits(nn.Module):
    """Stops in another thread, in forward or backward."""

    def __init__(self, where):
        self.where, self.there, self.go_on = where, threading.Event(), threading.Event()

    def wait(self, where):
        if where == self.where and threading.current_thread() is not threading.main_thread():
            self.there.set()
            assert self.go_on.wait(60)

    def forward(self, x):
        self.wait("forward")
        return x

    def backward(self, dy, *, need_input_grad=True):
        self.wait("backward")
        return dy


def in_a_child(work):
    """What ``work`` raises in a forked child, as text; it must not hang."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(45)  # says where it hangs, if it does
        try:
            work()
            text = ""
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    end = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.005)
    with os.fdopen(read) as said:
        return said.read()


def while_a_thread_is_in(waits, work, forked):
    """``forked`` in a child that is made while another thread is in the middle of ``work``."""
    thread = threading.Thread(target=work)
    thread.start()
    assert waits.there.wait(60)
    try:
        return in_a_child(forked)
    finally:
        waits.go_on.set()
        thread.join()


def net(waits):
    nn.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), waits, nn.Linear(6, 2))


def loop(model, optimizer):
    model(X)
    model.backward(DY)
    optimizer.step(zero_grad=True)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_model_that_another_thread_trains_by_hand(where):
    waits = Waits(where)
    model = net(waits)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def forked():
        optimizer.zero_grad()
        loop(model, optimizer)

    assert while_a_thread_is_in(waits, lambda: loop(model, optimizer), forked) == ""


def test_a_step_beside_another_threads_backward():
    """Its entry would keep every step of the child out for good."""
    waits = Waits("backward")
    model = net(waits)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    assert while_a_thread_is_in(waits, lambda: loop(model, optimizer), optimizer.step) == ""


class InStep(optim.SGD):
    """Another thread stops in the middle of its step."""

    waits: Waits

    def _take(self, *given):
        self.waits.wait("step")
        return super()._take(*given)


@pytest.mark.parametrize("what", ["step", "state_dict", "backward", "another optimizer"])
def test_an_optimizer_that_another_thread_steps(what):
    waits = Waits("step")
    model = net(waits)
    optimizer = InStep(model.parameters(), lr=0.1)
    optimizer.waits = waits
    other = optim.SGD(model.parameters(), lr=0.1)
    loop(model, optimizer)
    calls = {
        "step": lambda: loop(model, optimizer),
        "state_dict": optimizer.state_dict,
        "backward": lambda: (model(X), model.backward(DY)),
        "another optimizer": other.step,
    }
    assert while_a_thread_is_in(waits, lambda: loop(model, optimizer), calls[what]) == ""


def test_a_schedule_that_another_thread_steps():
    waits = Waits("rate")

    class Slow(StepLR):
        def rate(self, lr, t, group):
            waits.wait("rate")
            return super().rate(lr, t, group)

    schedule = Slow(optim.SGD(net(waits).parameters(), lr=0.1), 1)
    assert while_a_thread_is_in(waits, schedule.step, schedule.step) == ""


@pytest.mark.parametrize("call", ["fit", "predict", "evaluate", "save"])
@pytest.mark.parametrize("other", ["fit", "predict"])
def test_a_trainer_that_another_thread_uses(call, other, tmp_path):
    waits = Waits("forward")
    model = net(waits)
    stopping = EarlyStopping("loss", patience=9)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      callbacks=[stopping], progress=False)  # fmt: skip
    second = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                     callbacks=[stopping], progress=False)  # fmt: skip
    modes = [module.training for module in model.modules()]
    calls = {
        "fit": lambda t: t.fit(X, Y, max_epochs=1),
        "predict": lambda t: t.predict(X),
        "evaluate": lambda t: t.evaluate(X, Y),
        "save": lambda t: t.save(tmp_path),
    }

    def forked():
        assert [module.training for module in model.modules()] == modes
        calls[call](second)
        if other == "fit" and call in ("fit", "save"):  # the step is half done there
            with pytest.raises(RuntimeError, match="the last fit was interrupted inside a step"):
                calls[call](trainer)
        else:
            calls[call](trainer)

    assert while_a_thread_is_in(waits, lambda: calls[other](trainer), forked) == ""


@pytest.mark.parametrize("kind", ["ema", "schedule free"])
def test_averages_that_another_thread_has_put_into_the_model(kind):
    waits = Waits("forward")
    model = net(waits)
    make = {
        "ema": lambda p: optim.SGD(p, lr=0.5, ema_decay=0.5),
        "schedule free": lambda p: optim.ScheduleFreeSGD(p, lr=0.5),
    }
    optimizer = make[kind](model.parameters())
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    trainer.fit(X, Y, max_epochs=2)
    if kind == "schedule free":
        optimizer.train()
    held = model.eval()(X)
    averages = trainer.predict(X)
    assert not np.array_equal(held, averages)

    def forked():
        np.testing.assert_allclose(model(X), held, rtol=1e-6)
        np.testing.assert_allclose(trainer.predict(X), averages, rtol=1e-5)
        trainer.fit(X, Y, max_epochs=3)

    assert while_a_thread_is_in(waits, lambda: trainer.predict(X), forked) == ""


def test_a_fork_waits_for_who_sets_the_threads_of_blas():
    """threadpoolctl has a lock, which a child would find closed."""
    inside, left = threading.Event(), []

    def setting():
        with _blas._users.lock:
            inside.set()
            time.sleep(0.5)
            left.append(True)

    def forked():
        assert left, "the fork came in the middle"
        with _blas._users.lock:
            pass

    thread = threading.Thread(target=setting)
    thread.start()
    inside.wait()
    assert in_a_child(forked) == ""
    thread.join()
    with _blas._users.lock:
        assert in_a_child(lambda: None) == ""  # a second later


def test_locks_that_another_thread_holds():
    """One of them would wait for ever."""
    stop, failed = threading.Event(), []
    model = net(Waits("nowhere"))
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      callbacks=[Callback()], progress=False)  # fmt: skip

    def busy():
        while not stop.is_set():
            own = net(Waits("nowhere"))
            optimizer = optim.SGD(own.parameters(), lr=0.1)
            StepLR(optimizer, 1).step()
            Trainer(own, nn.CrossEntropyLoss(), optimizer, progress=False).fit(X, Y, max_epochs=1)

    def forked():
        StepLR(optim.SGD(model.parameters(), lr=0.1), 1).step()
        trainer.fit(X, Y, max_epochs=1)
        trainer.predict(X)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        failed += [said for _ in range(30) if (said := in_a_child(forked))]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
