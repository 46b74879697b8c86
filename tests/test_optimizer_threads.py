"""Optimizers and functions in several threads: right, or one clear error."""

import contextlib
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_all_same, row_of
from onepass import _C, nn, ops, optim

SIZE = 300_001  # several chunks for the pool


def grads_of(seed, steps):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(SIZE).astype(np.float32)] for _ in range(steps)]


def test_optimizers_of_their_own_parameters_do_not_disturb_each_other():
    makers = (
        lambda p: optim.AdamW(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.Adam(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01),
    )

    def train(which, ready=None):
        parameter = np.zeros(SIZE, np.float32)
        optimizer = makers[which]([parameter])
        grads = grads_of(which, 6)
        if ready:
            ready.wait()
        for grad in grads:
            optimizer.step(grad, max_norm=1.0)
        return parameter

    want = [train(which) for which in range(len(makers))]
    ready = threading.Barrier(len(makers))
    with ThreadPoolExecutor(len(makers)) as pool:
        got = list(pool.map(lambda which: train(which, ready), range(len(makers))))
    assert_all_same(got, want)


def test_a_rate_that_another_thread_sets_is_one_of_the_two():
    """A schedule in another thread: each step has a rate that was set, whole."""
    parameter, grad = np.zeros(5), np.ones(5)
    optimizer = optim.SGD([{"params": [parameter[:2]]}, {"params": [parameter[2:]]}], lr=0.25)
    stop = threading.Event()

    def setting():
        rate = 0.25
        while not stop.is_set():
            rate = 0.75 - rate
            for group in optimizer.param_groups:
                group["lr"] = rate * 1.0  # an object of its own

    thread = threading.Thread(target=setting)
    thread.start()
    try:
        for _ in range(2000):
            before = parameter.copy()
            optimizer.step([grad[:2], grad[2:]])
            moved = before - parameter
            assert set(moved[:2]) in ({0.25}, {0.5})
            assert set(moved[2:]) in ({0.25}, {0.5})
    finally:
        stop.set()
        thread.join()


def test_a_list_that_another_thread_changes_is_trained_whole_or_refused():
    parameters = [np.zeros(3) for _ in range(4)]
    optimizer = optim.AdamW(parameters, lr=0.1)
    grads = [np.ones(3) for _ in range(4)]
    stop, held = threading.Event(), optimizer.param_groups[0]["params"]

    def changing():
        while not stop.is_set():
            own, held[2] = held[2], np.zeros(3)
            held[2] = own
            held.append(held.pop())

    thread = threading.Thread(target=changing)
    thread.start()
    taken = 0
    try:
        for _ in range(1000):
            try:
                optimizer.step(grads)
                taken += 1
            except ValueError as error:
                assert "'param_groups' was changed" in str(error)  # noqa: PT017 (either way)
    finally:
        stop.set()
        thread.join()
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] in (
        [],
        [taken] * 4,
    )
    assert_all_same(parameters[1:], parameters[:1] * 3)


class Changing(dict):
    """A group that calls change() as its parameters are looked at."""

    change = staticmethod(lambda: None)

    def get(self, key, *otherwise):
        self.change()
        return super().get(key, *otherwise)


@pytest.mark.parametrize("change", ["append", "pop", "clear"])
def test_groups_that_come_and_go_while_they_are_compared(change):
    """Another thread may do it at any time: a step is of the groups as they were, or refused."""
    parameters = [np.zeros(2), np.zeros(2)]
    optimizer = optim.SGD([{"params": [p]} for p in parameters], lr=0.5)
    groups, more = optimizer.param_groups, {"params": [np.zeros(1)]}
    groups[0] = Changing(groups[0])

    def once():
        del groups[0].change
        groups.append(more) if change == "append" else getattr(groups, change)()

    groups[0].change = once
    groups[0]["weight_decay"] = 0.25  # so that the step looks
    try:
        optimizer.step([np.ones(2), np.ones(2)])
    except ValueError as error:
        assert "SGD: 'param_groups' was changed: groups of" in str(error)  # noqa: PT017
        assert not any(p.any() for p in parameters)
    else:
        assert all((p == -0.5).all() for p in parameters)
    with pytest.raises(ValueError, match=r"SGD: 'param_groups' was changed: groups of"):
        optimizer.step([np.ones(2), np.ones(2)])


def in_the_middle_of_a_look(optimizer, change):
    """The next step that looks at all groups calls change() half way, as another thread may."""
    ridden = optimizer._ridden

    def changing(groups):
        del optimizer._ridden
        change()
        return ridden(groups)

    optimizer._ridden = changing


@pytest.mark.parametrize("maker", [optim.AdamW, optim.SGD, optim.Muon])
def test_a_list_that_is_shorter_for_a_moment(maker):
    """A step takes what the optimizer was made with, wherever in it the moment falls."""
    parameters = [np.zeros((2, 3)) for _ in range(4)]
    optimizer = maker(parameters, lr=0.1)
    held = optimizer.param_groups[0]["params"]
    in_the_middle_of_a_look(optimizer, held.pop)
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.param_groups[0]["weight_decay"] = 0.25
    optimizer.step([np.ones((2, 3))] * 4)
    assert_all_same(parameters[1:], parameters[:1] * 3)
    assert parameters[0].all()
    with pytest.raises(ValueError, match="'param_groups' was changed"):
        optimizer.step([np.ones((2, 3))] * 4)


def test_an_option_that_is_set_in_the_middle_of_a_step_holds_for_the_next():
    parameter, grad = np.zeros(3), np.ones(3)
    optimizer = optim.SGD([parameter], lr=1.0)
    (group,) = optimizer.param_groups
    in_the_middle_of_a_look(optimizer, lambda: group.update(weight_decay=0.5))
    group["weight_decay"] = 0.25
    optimizer.step([grad])
    assert (parameter == -1).all()
    optimizer.step([grad])
    assert (parameter == -1 - (1 - 0.5)).all()


def test_gradients_are_not_cleared_in_another_thread_during_a_step():
    """Every step has all gradients or none, and a refused call has done nothing."""
    model = [nn.Parameter(np.zeros(SIZE, np.float32)) for _ in range(3)]
    optimizer = optim.SGD(model, lr=0.5)
    stop, refused = threading.Event(), []

    def clearing():
        while not stop.is_set():
            try:
                optimizer.zero_grad(set_to_none=False)
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=clearing)
    thread.start()
    try:
        for _ in range(30):
            for parameter in model:
                parameter.data[:] = 0
                parameter.grad = np.ones(SIZE, np.float32)
            try:
                optimizer.step()
            except RuntimeError as error:
                refused.append(str(error))
            for parameter in model:
                assert len(np.unique(parameter.data)) == 1, "a gradient was cleared half way"
    finally:
        stop.set()
        thread.join()
    assert all(words.startswith("SGD: another thread uses it") for words in refused)


def test_a_plan_in_use_keeps_its_counts():
    """Counts that another thread sets are all the step's or all the setter's: refused meanwhile."""
    parameter, grad = np.zeros(1 << 22, np.float32), np.ones(1 << 22, np.float32)
    state = [[np.zeros_like(parameter)] for _ in range(2)]
    plan = _C.Plan("adamw", [parameter], [*state, None], [0])
    stop, refused, failed = threading.Event(), [], []

    def setting():
        while not stop.is_set():
            try:
                plan.steps = plan.steps
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=setting)
    thread.start()
    taken = 0
    hyper = [row_of("adamw", 0.1, 0.9, 0.99, 1e-8, 0.0)]
    for _ in range(10):
        try:
            plan.step([grad], hyper, 1.0, None, None, False, False, False, True)
            taken += 1
        except RuntimeError as error:
            failed.append(str(error))
    stop.set()
    thread.join()
    assert taken + len(failed) == 10
    assert plan.steps == [taken]
    for message in refused + failed:
        assert message.startswith("adamw: this optimizer is stepping in another thread; ")


def test_a_plan_in_use_is_not_read():
    """Without a GIL, a list of counts could be read while the step writes it."""
    size = 1 << 22
    plan = _C.Plan("sgd", [np.zeros(size, np.float32)], [None], [0])
    reads = (
        lambda: plan.steps,
        lambda: plan.scalars,
        lambda: plan.watched,
        lambda: plan.watch,
        lambda: plan.write_steps(np.zeros(1, np.float32)),
    )
    stop, messages = threading.Event(), [set() for _ in reads]

    def reading():
        while not stop.is_set():
            for read, said in zip(reads, messages, strict=True):
                try:
                    read()
                except RuntimeError as error:
                    said.add(str(error))

    thread = threading.Thread(target=reading)
    thread.start()
    try:
        grad = [np.ones(size, np.float32)]
        for _ in range(400):
            with contextlib.suppress(RuntimeError):
                plan.step(
                    grad, [row_of("sgd", 0.1, 0.0, 0.0, 0.0, 0.0)], 1.0, None, None, False, False,
                    False, True,
                )  # fmt: skip
            if all(messages):
                break
    finally:
        stop.set()
        thread.join()
    for said in messages:
        (message,) = said
        assert message.startswith("sgd: this optimizer is stepping in another thread; ")


def test_copies_of_an_optimizer_step_in_threads_of_their_own():
    one = optim.AdamW([np.zeros(SIZE, np.float32)], lr=0.1)
    grads = grads_of(0, 4)
    one.step(grads[0])
    others = [copy.deepcopy(one), pickle.loads(pickle.dumps(one))]

    def go_on(optimizer):
        for grad in grads[1:]:
            optimizer.step(grad)
        return optimizer.param_groups[0]["params"][0]

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(go_on, [one, *others]))
    assert_all_same(results[1:], results[:1] * 2)


def test_random_functions_from_eight_threads():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1201, 257)).astype(np.float32)
    target = rng.integers(0, 257, 1201)
    bias = x[0].copy()
    calls = [
        lambda: [ops.gelu(x)],
        lambda: [ops.silu(x.T)],
        lambda: [ops.relu_backward(x, x)],
        lambda: [ops.dropout(x, p=0.3, seed=5)],
        lambda: [ops.bias_act(x, bias, activation="tanh")],
        lambda: list(ops.cross_entropy(x, target)),
        lambda: [np.float64(ops.global_norm([x, x.astype(np.float64) * 1e200]))],
        lambda: [np.float64(ops.global_norm([x[::3], bias], ord=1))],
    ]
    want = [call() for call in calls]

    def work(seed):
        for which in np.random.default_rng(seed).integers(0, len(calls), 24):
            assert_all_same(calls[which](), want[which], f"call {which}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()
