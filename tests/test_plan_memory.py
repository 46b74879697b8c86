"""A plan remembers where its arrays lie: what it finds when they move, are shared, or two threads
step at once."""

import threading
import time

import numpy as np
import pytest
from helpers import Exported, assert_same, row_of
from onepass import _C, config, ops, optim


def test_memory_that_a_parameter_has_moved_to_is_refused_as_a_gradient():
    torch = pytest.importorskip("torch")
    parameters = [torch.ones(8), torch.ones(8)]
    optimizer = optim.AdamW(parameters, lr=0.1)
    optimizer.step([torch.ones(8), torch.ones(8)])
    moved = torch.full((8,), 2.0)
    parameters[0].data = moved
    optimizer.step([torch.ones(8), torch.ones(8)])
    before = [p.clone() for p in parameters]
    with pytest.raises(ValueError, match=r"'grads\[1\]' (is the same array as|overlaps)"):
        optimizer.step([torch.ones(8), moved])
    for p, b in zip(parameters, before, strict=True):
        assert_same(p.numpy(), b.numpy())


def test_a_gradient_shared_after_a_step_is_refused_where_it_would_be_zeroed():
    parameters = [np.ones(8, np.float32), np.ones(8, np.float32)]
    optimizer = optim.SGD(parameters, lr=0.1)
    optimizer.step([np.ones(8, np.float32), np.ones(8, np.float32)], zero_grad=True)
    shared, before = np.ones(8, np.float32), [p.copy() for p in parameters]
    with pytest.raises(ValueError, match=r"grads\[1\]' (is the same array as|overlaps)"):
        optimizer.step([shared, shared], zero_grad=True)
    buffer = np.ones(12, np.float32)
    with pytest.raises(ValueError, match=r"grads\[1\]' overlaps"):
        optimizer.step([buffer[:8], buffer[4:]], zero_grad=True)
    assert_same(buffer, np.ones(12, np.float32))
    for p, b in zip(parameters, before, strict=True):
        assert_same(p, b)
    assert_same(shared, np.ones(8, np.float32))


def test_steps_of_two_threads_are_taken_whole_or_refused():
    """The parameters are those of as many steps in a row as were not refused."""
    size, rounds = 1 << 20, 30
    parameter, gradient = np.zeros(size, np.float32), np.ones(size, np.float32)
    optimizer = optim.SGD([parameter], lr=1.0)
    taken, refused, ready = [0, 0], [0, 0], threading.Barrier(2)

    def run(who: int) -> None:
        for _ in range(rounds):
            ready.wait()
            try:
                optimizer.step([gradient])
                taken[who] += 1
            except RuntimeError as error:
                refused[who] += "another thread" in str(error)

    threads = [threading.Thread(target=run, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) + sum(refused) == 2 * rounds
    assert_same(parameter, np.full(size, -float(sum(taken)), np.float32))
    assert refused != [0, 0], "the two threads never met; nothing was shown"


def test_a_plan_is_not_stepped_inside_its_own_step():
    """As by a thread that comes in between: while a gradient is read, other Python runs."""
    parameter, said = np.zeros(3, np.float32), []
    plan = _C.Plan("sgd", [parameter], [None], [0])
    row = (row_of("sgd", 1.0, 0, 0, 0, 0),)
    options = (1.0, None, None, False, False, False, True)

    class Gradient(Exported):
        def __dlpack__(self, **more):
            with pytest.raises(RuntimeError, match=r"^sgd: this optimizer is stepping") as error:
                plan.step([np.ones(3, np.float32)], row, *options)
            said.append(str(error.value))
            return super().__dlpack__(**more)

    plan.step([Gradient(np.ones(3, np.float32))], row, *options)
    assert said
    assert_same(parameter, np.full(3, -1, np.float32))


def test_other_threads_run_during_a_long_call():
    """The interpreter's lock is released: while it is held, no other thread counts at all."""
    x = np.random.default_rng(0).standard_normal(1 << 24, np.float32)
    out, count, stop = np.empty_like(x), [0], threading.Event()

    def counting() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    config.set_num_threads(1)
    thread = threading.Thread(target=counting)
    thread.start()
    try:
        time.sleep(0.01)
        before = count[0]
        ops.tanh(x, out=out)
        during = count[0] - before
    finally:
        stop.set()
        thread.join()
    assert during > 100
