"""Ctrl-C in the middle of a step: it was taken or it was not, and what is saved says which."""

import copy

import numpy as np
import pytest
from onepass import optim
from test_cut_off import cut

STEP = ("_optimizer.py", "_engine.py", "_entries.py", "_riders.py", "_rows.py", "_sparse_adam.py",
        "_sparse_gradients.py", "_interruptions.py", "_array.py")  # fmt: skip


def cut_steps(make, check):
    """Cuts the second step of what ``make()`` gives, as (subject, step), at each of its lines."""
    place = 1
    while True:
        subject, step = make()
        step()
        if not cut(step, place, STEP):
            assert place > 10
            return
        check(subject)
        place += 1


def steps_of(optimizer):
    return {int(entry["step"]) for entry in optimizer.state_dict()["state"].values()}


def test_what_an_optimizer_of_pytorchs_kind_saves_counts_a_step_that_was_cut_off():
    """It had moved the parameters and their moments, and was not counted."""
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    values = {}
    for count in (1, 2, 3):
        p = torch.nn.Parameter(torch.ones(5))
        optimizer = front.Adam([p], lr=0.1)
        for t in range(count):
            p.grad = torch.full((5,), 1.0 + t)
            optimizer.step()
        values[count] = p.detach().clone()

    def make():
        p = torch.nn.Parameter(torch.ones(5))
        optimizer = front.Adam([p], lr=0.1)
        taken = 0

        def step():
            nonlocal taken
            p.grad = torch.full((5,), 1.0 + taken)
            taken += 1
            optimizer.step()

        return (p, optimizer), step

    def check(subject):
        p, optimizer = subject
        (count,) = steps_of(optimizer)
        assert torch.equal(p, values[count])
        assert int(optimizer.state[p]["step"]) == count
        (resumed,) = steps_of(copy.deepcopy(optimizer))
        assert resumed == count
        p.grad = torch.full((5,), 1.0 + count)
        optimizer.step()
        assert torch.equal(p, values[count + 1])

    cut_steps(make, check)


def test_an_edit_after_a_refused_step_counts():
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    p = torch.nn.Parameter(torch.ones(3))
    optimizer = front.Adam([p], lr=0.1)
    p.grad = torch.ones(3)
    optimizer.step()
    count = optimizer.state[p]["step"]
    with pytest.raises(ValueError, match="max_norm"):
        optimizer.step(max_norm=-1.0)
    count.fill_(41.0)
    optimizer.step()
    assert float(count) == 42


@pytest.mark.parametrize("tensors", [False, True])
def test_a_sparse_step_that_is_cut_off_moves_all_tables_or_none(tensors):
    rows, values = np.array([1, 3]), np.ones((2, 2), np.float32)

    def make():
        tables = [np.ones((4, 2), np.float32) for _ in range(3)]
        grads = [(rows, values) for _ in tables]
        if tensors:
            torch = pytest.importorskip("torch")
            tables = [torch.from_numpy(table) for table in tables]
            grads = [(torch.tensor(rows), torch.tensor(values)) for _ in tables]
        optimizer = optim.SparseAdam(tables, lr=0.1)
        return (tables, optimizer), lambda: optimizer.step(grads)

    def check(subject):
        tables, optimizer = subject
        (count,) = steps_of(optimizer)
        for table in tables:
            np.testing.assert_allclose(np.asarray(table)[1], 1 - 0.1 * count, rtol=1e-5)
            np.testing.assert_array_equal(np.asarray(table)[0], 1)

    cut_steps(make, check)


def test_a_dense_and_a_sparse_gradient_beside_each_other_are_cut_off_together():
    torch = pytest.importorskip("torch")

    def make():
        params = [torch.nn.Parameter(torch.ones(4, 2)) for _ in range(2)]
        optimizer = optim.SGD(params, lr=0.25)

        def step():
            params[0].grad = torch.ones(4, 2)
            params[1].grad = torch.sparse_coo_tensor(
                [[1]], torch.ones(1, 2), (4, 2), check_invariants=True
            )
            optimizer.step()

        return (params, optimizer), step

    def check(subject):
        params, optimizer = subject
        (count,) = steps_of(optimizer)
        assert params[0][1].tolist() == params[1][1].tolist() == [1 - 0.25 * count] * 2

    cut_steps(make, check)


def test_an_average_does_not_begin_again_after_a_first_step_that_was_cut_off():
    """It would begin at the parameter after the step, and lack the step."""
    place = 1
    while True:
        p = np.ones(3, np.float32)
        optimizer = optim.SGD([p], lr=0.5, ema_decay=0.5)
        if not cut(lambda o=optimizer: o.step([np.ones(3, np.float32)]), place, STEP):
            break
        taken = p[0] != 1
        assert optimizer.averages[0].tolist() == [0.75 if taken else 1.0] * 3
        place += 1
    assert place > 10


def test_an_average_that_waits_still_does_so_after_a_step_that_was_refused():
    p = np.ones(3, np.float32)
    optimizer = optim.SGD([p], lr=0.5, ema_decay=0.5)
    with pytest.raises(FloatingPointError):
        optimizer.step([np.full(3, np.inf, np.float32)], nonfinite="raise")
    optimizer.step([np.full(3, np.inf, np.float32)], nonfinite="skip")
    p[:] = 3
    optimizer.step([np.ones(3, np.float32)])
    assert optimizer.averages[0].tolist() == [2.75] * 3
