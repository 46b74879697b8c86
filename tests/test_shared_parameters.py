"""Two threads that train one Parameter in loops of their own: an error, or the right values."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn, optim
from onepass.ops import _step
from small_models import normal

X = normal((8, 4), "float32")
DY = normal((8, 3), "float32", seed=1)
THREADS = "another thread"


@pytest.fixture(autouse=True)
def often_switched():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Waits(nn.Module):
    """Stops in the middle of a backward."""

    def __init__(self):
        self.there, self.go_on = threading.Event(), threading.Event()

    def forward(self, x):
        return x

    def backward(self, dy, *, need_input_grad=True):
        self.there.set()
        assert self.go_on.wait(60)
        return dy


def two_that_share(kind=optim.SGD, **options):
    """Models with one weight in common, and an optimizer for each."""
    nn.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2)]
    models[1][0].weight = models[0][0].weight
    return models, [kind(m.parameters(), lr=0.01, **options) for m in models]


def in_a_thread(job):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).exception()


def go_back(model):
    model(X)
    model.backward(DY)


@pytest.mark.parametrize("at_the_end", [True, False])
def test_two_loops_over_models_that_share_a_parameter_get_an_error(at_the_end):
    """Both were taken for one training: each stepped with the other's gradient, in silence."""
    models, optimizers = two_that_share()
    errors, barrier = [], threading.Barrier(2)
    end = time.monotonic() + 60

    def loop(model, optimizer):
        barrier.wait()
        try:
            while time.monotonic() < end:  # one of them may get no processor for a while
                if not at_the_end:
                    optimizer.zero_grad()
                go_back(model)
                optimizer.step(zero_grad=at_the_end)
                if errors:
                    return
        except RuntimeError as error:
            errors.append(str(error))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(loop, models, optimizers))
    assert errors
    assert all(THREADS in error and "Parameter(shape=(5, 4)" in error for error in errors)


def test_a_step_while_another_threads_backward_is_half_done_is_refused():
    waits = Waits()
    model = nn.Sequential(nn.Linear(4, 5), waits, nn.Linear(5, 3))
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    before = model.state_dict()
    thread = threading.Thread(target=go_back, args=(model,))
    thread.start()
    assert waits.there.wait(60)
    try:
        with pytest.raises(RuntimeError, match="AdamW: another thread is in a backward that adds"):
            optimizer.step()
    finally:
        waits.go_on.set()
        thread.join()
    assert all((model.state_dict()[name] == value).all() for name, value in before.items())
    optimizer.step()  # with what the other thread computed: it is through
    assert not (model[0].weight.data == before["0.weight"]).all()


@pytest.mark.parametrize("where", ["backward", "step"])
def test_a_backward_or_a_step_of_another_model_during_a_step_is_refused(monkeypatch, where):
    models, optimizers = two_that_share()
    for model in models:
        go_back(model)
    found = []

    def other():
        if where == "step":
            optimizers[1].step()
        else:
            go_back(models[1])

    def take(*given):
        monkeypatch.setattr(optim.SGD, "_take", staticmethod(_step.take_step))
        found.append(in_a_thread(other))
        return _step.take_step(*given)

    monkeypatch.setattr(optim.SGD, "_take", staticmethod(take))
    optimizers[0].step()
    assert isinstance(found[0], RuntimeError)
    assert "another thread is in a step" in str(found[0])
    assert "Parameter(shape=(5, 4)" in str(found[0])


@pytest.mark.parametrize("how", ["step", "zero_grad", "zero_grad(False)", "model.zero_grad"])
def test_a_thread_whose_gradient_another_one_took_does_not_step(how):
    models, optimizers = two_that_share(optim.AdamW)

    def take():
        if how == "step":
            go_back(models[1])
            optimizers[1].step(zero_grad=True)
        elif how == "zero_grad":
            optimizers[1].zero_grad()
        elif how == "zero_grad(False)":
            optimizers[1].zero_grad(set_to_none=False)
        else:
            models[1].zero_grad()

    in_a_thread(lambda: go_back(models[1]))  # so that there are several threads
    models[0].zero_grad()
    go_back(models[0])
    assert in_a_thread(take) is None
    before = models[0].state_dict()
    with pytest.raises(RuntimeError, match="another thread has stepped with, or zeroed"):
        optimizers[0].step()
    assert all((models[0].state_dict()[name] == value).all() for name, value in before.items())
    optimizers[0].zero_grad()
    go_back(models[0])
    optimizers[0].step()


class Tied(nn.Module):
    """A module of one's own that goes back through several layers."""

    def __init__(self, *layers):
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def backward(self, dy, *, need_input_grad=True):
        for layer in reversed(list(self.layers)):
            dy = layer.backward(dy)
        return dy


FIRST = """
import threading, sys
sys.path.insert(0, {tests!r})
from onepass import nn, optim
from test_shared_parameters import Tied, Waits, go_back
waits = Waits()
kind = {kind}
model = kind(nn.Linear(4, 5), waits, nn.Linear(5, 3))
optimizer = optim.{optimizer}(model.parameters(), lr=0.1)
if {evaluates}:
    model.eval()
before = model.state_dict()
thread = threading.Thread(target=go_back, args=(model,))
thread.start()
assert waits.there.wait(60)
try:
    optimizer.step()
except RuntimeError as error:
    print(error)
waits.go_on.set()
thread.join()
assert all((model.state_dict()[name] == value).all() for name, value in before.items())
optimizer.step()
assert not (model.state_dict()[min(before)] == before[min(before)]).all()
"""


@pytest.mark.parametrize(
    ("kind", "optimizer", "evaluates"),
    [
        ("nn.Sequential", "SGD", False),
        ("Tied", "AdamW", False),
        ("Tied", "SGD", True),
        ("lambda *layers: nn.Sequential(nn.Sequential(*layers))", "Adam", True),
    ],
)
def test_a_step_beside_the_first_backward_of_another_thread_is_refused(kind, optimizer, evaluates):
    """It moved half of the layers, in silence, as only one thread had gone backward."""
    code = FIRST.format(
        tests=os.path.dirname(__file__), kind=kind, optimizer=optimizer, evaluates=evaluates
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{optimizer}: another thread is in a backward that adds" in done.stdout


def test_after_a_step_in_a_closure_the_outer_step_still_keeps_others_out():
    models, _ = two_that_share()
    inner = optim.SGD([nn.Parameter(np.ones(2, np.float32))], lr=0.1)
    optimizer = optim.LBFGS(models[0].parameters())
    found = []

    def closure():
        optimizer.zero_grad()
        go_back(models[0])
        inner.step([np.ones(2, np.float32)])
        if not found:
            found.append(in_a_thread(lambda: go_back(models[1])))
        return float(np.sum(models[0](X) * DY))

    optimizer.step(closure)
    assert "another thread is in a step of LBFGS" in str(found[0])


def test_an_optimizer_with_a_closure_is_for_one_thread_too():
    models, _ = two_that_share()
    optimizer = optim.LBFGS(models[0].parameters())
    found = []

    def closure():
        optimizer.zero_grad()
        go_back(models[0])
        if not found:
            found.append(in_a_thread(lambda: go_back(models[1])))
        return float(np.sum(models[0](X) * DY))

    optimizer.step(closure)
    assert "another thread is in a step of LBFGS" in str(found[0])


LAYERS = {
    "linear": lambda: nn.Linear(4, 4),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "layer norm": lambda: nn.LayerNorm(4),
    "weight norm": lambda: nn.WeightNorm(nn.Linear(4, 4)),
    "residual": lambda: nn.Residual(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("evaluates", [False, True])
def test_a_layer_by_itself_in_two_threads_is_told(kind, evaluates, monkeypatch):
    """Outside of any container its backward was not noted: a step took the half of it."""
    layer = LAYERS[kind]().train(not evaluates)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    before, found, own = layer.state_dict(), [], nn.Parameter.accumulate

    def half(self, grad):
        own(self, grad)
        monkeypatch.setattr(nn.Parameter, "accumulate", own)
        found.append(in_a_thread(optimizer.step))  # after the first parameter of several

    layer(X)
    monkeypatch.setattr(nn.Parameter, "accumulate", half)
    layer.backward(X)
    assert "SGD: another thread is in a backward that adds to the gradient" in str(found[0])
    after = dict(layer.named_parameters())
    assert all((after[name].data == before[name]).all() for name in after)
    optimizer.step()  # it is through


@pytest.mark.parametrize("how", ["zero_grad", "zero_grad(False)", "parameter"])
def test_a_gradient_zeroed_within_a_backward_is_lost(how, monkeypatch):
    """What this thread added before was gone, and what it added afterwards was there."""
    layer = nn.Linear(4, 4)
    optimizer, own = optim.SGD(layer.parameters(), lr=0.1), nn.Parameter.accumulate
    in_a_thread(lambda: go_back_through(nn.Linear(4, 4)))  # so that there are several threads
    go_back_through(layer)
    optimizer.step(zero_grad=True)
    zero = {
        "zero_grad": optimizer.zero_grad,
        "zero_grad(False)": lambda: optimizer.zero_grad(set_to_none=False),
        "parameter": layer.bias.zero_grad,
    }[how]

    def half(self, grad):
        own(self, grad)
        monkeypatch.setattr(nn.Parameter, "accumulate", own)
        assert in_a_thread(zero) is None

    layer(X)
    monkeypatch.setattr(nn.Parameter, "accumulate", half)
    layer.backward(X)
    with pytest.raises(RuntimeError, match="another thread has stepped with, or zeroed"):
        optimizer.step()
    optimizer.zero_grad()
    go_back_through(layer)
    optimizer.step()


def go_back_through(layer):
    layer(X)
    layer.backward(X)


# What stays allowed.


def trained(steps, loop):
    models, optimizers = two_that_share(optim.AdamW)
    loop(models, optimizers, steps)
    return [m.state_dict() for m in models]


def one_after_another(models, optimizers, steps):
    for number in range(steps):
        whole(models[number % 2], optimizers[number % 2])


def whole(model, optimizer):
    optimizer.zero_grad()
    go_back(model)
    optimizer.step()


def test_threads_that_take_turns_under_a_lock_train_as_one_thread_does():
    def locked(models, optimizers, steps):
        turn, condition = [0], threading.Condition()

        def loop(own):
            for number in range(own, steps, 2):
                with condition:
                    condition.wait_for(lambda number=number: turn[0] == number)
                    whole(models[own], optimizers[own])
                    turn[0] += 1
                    condition.notify_all()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(loop, range(2)))

    one, other = trained(20, one_after_another), trained(20, locked)
    for a, b in zip(one, other, strict=True):
        assert all((a[name] == b[name]).all() for name in a)


def test_workers_go_backward_and_the_main_thread_steps():
    """Replicas that share all parameters; their gradients add up."""

    def replicas(seed):
        nn.manual_seed(seed)
        first = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        more = [copy.deepcopy(first) for _ in range(2)]
        for model in more:
            for name in (0, 2):
                model[name].weight, model[name].bias = first[name].weight, first[name].bias
        return [first, *more]

    models = replicas(0)
    optimizer = optim.SGD(models[0].parameters(), lr=0.1)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(10):
            list(pool.map(go_back, models))
            optimizer.step(zero_grad=True)
        list(pool.map(go_back, models))
        assert pool.submit(optimizer.step, zero_grad=True).exception() is None  # one of them may
    alone = replicas(0)
    optimizer = optim.SGD(alone[0].parameters(), lr=0.1)
    for _ in range(11):
        for model in alone:
            go_back(model)
        optimizer.step(zero_grad=True)
    for name, value in alone[0].state_dict().items():
        np.testing.assert_allclose(models[0].state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_worker_may_step_though_another_one_took_its_last_gradient():
    """Any thread of a pool goes backward, and any of them steps when all have."""
    models, optimizers = two_that_share()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(go_back, models[0]).result()
        other.submit(optimizers[0].step, zero_grad=True).result()
        other.submit(go_back, models[0]).result()
        one.submit(optimizers[0].step, zero_grad=True).result()


class Heads(nn.Module):
    """A trunk with two heads; a call goes through one of them."""

    def __init__(self):
        self.trunk = nn.Linear(4, 5)
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, given):
        head, x = given
        self.saved = head
        return getattr(self, head)(self.trunk(x))

    def backward(self, dy, *, need_input_grad=True):
        return self.trunk.backward(getattr(self, self.recall()).backward(dy))


def pools(stack, number=2):
    return [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(number)]


def phases(steps, zero, freeze, kind):
    """The phases of each iteration in the threads of a pool, one after another."""
    nn.manual_seed(0)
    model = Heads().eval()
    optimizer = optim.SGD(model.parameters(), lr=0.01)

    def back(head):
        model((head, X))
        model.backward(DY)

    with contextlib.ExitStack() as stack:
        one, other = pools(stack)
        if kind == "alone":
            other = one
        for number in range(steps):
            first, second = (one, other) if number % 2 else (other, one)
            first.submit(back, "ab"[number // 2 % 2]).result()
            second.submit(optimizer.step, zero_grad=zero).result()
            if not zero:
                second.submit(optimizer.zero_grad, set_to_none=False).result()
            if freeze and number == 2:
                model.trunk.freeze()
    return model.state_dict()


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("freeze", [True, False])
def test_phases_of_an_iteration_may_be_in_any_threads_of_a_pool(zero, freeze):
    """Frozen layers, and heads that were not called, were taken for lost gradients."""
    apart, alone = (phases(9, zero, freeze, kind) for kind in ("apart", "alone"))
    assert all((apart[name] == alone[name]).all() for name in apart)


def test_a_thread_whose_whole_backward_another_one_took_may_step():
    model = nn.Linear(4, 3).eval()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with contextlib.ExitStack() as stack:
        one, other = pools(stack)
        one.submit(go_back, model).result()
        other.submit(optimizer.step).result()
        other.submit(optimizer.zero_grad, False).result()
        other.submit(go_back, model).result()
        one.submit(optimizer.step).result()


def test_threads_that_have_ended_are_forgotten():
    model = nn.Linear(4, 3).eval()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    for _ in range(60):
        in_a_thread(lambda: go_back(model))
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    writers = model.weight._writers
    assert len(writers.lost) + len(writers.present) < 20


def test_an_object_of_the_program_that_has_a_backward_too_is_no_module():
    class Graph:
        parameters = (1, 2)

        def backward(self):
            there.set()
            assert go_on.wait(60)

    there, go_on = threading.Event(), threading.Event()
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    in_a_thread(lambda: go_back(model))
    model.zero_grad()

    def work():
        go_back(model)
        Graph().backward()

    thread = threading.Thread(target=work)
    thread.start()
    assert there.wait(60)
    try:
        optimizer.step()
    finally:
        go_on.set()
        thread.join()


def test_a_step_of_one_head_beside_a_backward_through_the_other_is_allowed():
    model = Heads().eval()
    waits = Waits()
    model.b = nn.Sequential(waits, nn.Linear(5, 3))
    optimizer = optim.SGD(model.a.parameters(), lr=0.1)

    def back(head):
        model((head, X))
        model.backward(DY)

    back("a")
    thread = threading.Thread(target=back, args=("b",))
    thread.start()
    assert waits.there.wait(60)
    try:
        optimizer.step()
    finally:
        waits.go_on.set()
        thread.join()


def test_models_of_their_own_train_side_by_side():
    def alone(seed):
        nn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        return model, optimizer

    def loop(pair):
        for _ in range(50):
            whole(*pair)
        return pair[0].state_dict()

    expected = [loop(alone(seed)) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(loop, [alone(seed) for seed in range(3)]))
    for a, b in zip(expected, found, strict=True):
        assert all((a[name] == b[name]).all() for name in a)


def test_a_copy_of_a_parameter_has_not_been_in_any_thread():
    models, optimizers = two_that_share()
    in_a_thread(lambda: go_back(models[1]))
    go_back(models[0])
    in_a_thread(optimizers[1].zero_grad)
    for twin in (copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        go_back(twin)
        optim.SGD(twin.parameters(), lr=0.1).step()
