"""A gradient that was zeroed is absent: the parameter without a new one is left alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from small_models import assert_same, grads, normal, perturb, residual_model

OPTIMIZERS = {
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.3),
    "SGD with momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.2),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5),
    "Adam with a maximum": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
}
ZEROED = {
    "step": lambda model, optimizer: optimizer.step(zero_grad=True),
    "optimizer": lambda model, optimizer: (optimizer.step(), optimizer.zero_grad()),
    "module": lambda model, optimizer: (optimizer.step(), model.zero_grad()),
    "parameters": lambda model, optimizer: (
        optimizer.step(),
        [p.zero_grad() for p in model.parameters()],
    ),
}


def state_of(optimizer, index):
    entry = optimizer.state_dict()["state"].get(index, {})
    return {k: np.copy(v) for k, v in entry.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("zeroed", ZEROED)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_head_that_gets_no_new_gradient_is_left_alone(name, zeroed, dtype):
    """Two heads on one body, trained in turn: the idle one keeps weights, momentum and count."""
    nn.manual_seed(1)
    body, a, b = (nn.Linear(4, 4, dtype=dtype) for _ in range(3))
    model = nn.ModuleList([body, a, b])
    optimizer = OPTIMIZERS[name](model.parameters())
    x = normal((5, 4), dtype)
    for head in (a, b):
        body.backward(head.backward(head(body(x))))
    ZEROED[zeroed](model, optimizer)
    assert all(g is None for g in grads(model).values())
    idle, moving = b.weight.data.copy(), a.weight.data.copy()
    kept = [state_of(optimizer, i) for i in (4, 5)]
    for _ in range(3):
        body.backward(a.backward(a(body(x))))
        ZEROED[zeroed](model, optimizer)
    np.testing.assert_array_equal(b.weight.data, idle)
    assert (a.weight.data != moving).any()
    for i, before in zip((4, 5), kept, strict=True):
        assert before
        assert_same(state_of(optimizer, i), before)
    assert state_of(optimizer, 2)["step"] == 4
    assert state_of(optimizer, 4)["step"] == 1


def test_filling_with_zeros_still_moves_by_momentum():
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.backward(model(normal((4, 3), "float32")))
    optimizer.step()
    for zero in (optimizer.zero_grad, model.zero_grad, model.weight.zero_grad):
        model.weight.grad[...] = 7
        zero(set_to_none=False)
        assert not model.weight.grad.any()
    before = model.weight.data.copy()
    optimizer.step()
    assert (model.weight.data != before).all()


@pytest.mark.parametrize("fuse", [True, False])
def test_the_same_bits_as_with_new_arrays(fuse):
    """Memory that is used again gives the bits of a model whose gradients are forgotten by hand."""
    results = []
    for again in (True, False):
        nn.manual_seed(3)
        model = perturb(residual_model(p=0.3, fuse=fuse))
        optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        for step in range(4):
            for part in range(1 + step % 2):  # two batches are added up
                y = model(normal((12, 6), seed=10 * step + part))
                model.backward(normal(y.shape, seed=step))
            optimizer.step(zero_grad=again)
            if not again:
                for p in model.parameters():
                    p.grad = None
        results.append(model.state_dict())
    assert_same(*results)


def test_the_memory_is_used_again():
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    optimizer = optim.AdamW(model.parameters())
    x, places = normal((8, 40), "float32"), []
    for _ in range(4):
        model.backward(model(x))
        places.append([layer.weight.grad.ctypes.data for layer in (model[0], model[2])])
        optimizer.step(zero_grad=True)
    assert places == [places[0]] * 4


def hold_array(grad):
    return grad


def hold_row(grad):
    return grad[1:]


def hold_memory(grad):
    return memoryview(grad)


def hold_in_a_list(grad):
    return [grad.T]


@pytest.mark.parametrize("hold", [hold_array, hold_row, hold_memory, hold_in_a_list])
@pytest.mark.parametrize("zeroed", ZEROED)
def test_a_gradient_that_the_user_kept_is_never_overwritten(hold, zeroed):
    model = nn.Linear(6, 5)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.backward(model(normal((4, 6), "float32")))
    kept = hold(model.weight.grad)
    expected = copy.deepcopy(np.array(kept))
    ZEROED[zeroed](model, optimizer)
    for seed in range(3):
        model.backward(model(normal((4, 6), "float32", seed=seed)))
        ZEROED[zeroed](model, optimizer)
    np.testing.assert_array_equal(np.array(kept), expected)


def test_a_gradient_that_the_user_gave_is_not_written_to_while_held():
    layer, given = nn.Linear(3, 2), np.ones((2, 3), np.float32)
    layer.weight.grad = given
    layer.zero_grad()
    layer.backward(layer(normal((4, 3), "float32")))
    assert (given == 1).all()
    base = np.ones((4, 3), np.float32)
    layer.weight.grad = base[:2]  # of an array that somebody holds
    layer.zero_grad()
    layer.backward(layer(normal((4, 3), "float32")))
    assert (base == 1).all()


def test_memory_of_another_kind_is_not_written_to():
    layer = nn.Linear(3, 2)
    for odd in (
        np.zeros((2, 3)),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 3), np.float32, order="F"),
    ):
        layer.weight.grad = odd
        del odd
        layer.zero_grad()
        layer.backward(layer(normal((4, 3), "float32")))
        assert layer.weight.grad.dtype == np.float32
        assert layer.weight.grad.shape == (2, 3)
        assert layer.weight.grad.flags.c_contiguous


def test_a_skipped_step_forgets_and_one_that_raises_keeps():
    model = nn.Linear(3, 2)
    optimizer = optim.AdamW(model.parameters())
    model.weight.accumulate(np.ones((2, 3), np.float32))
    model.bias.accumulate(np.full(2, np.inf, np.float32))
    with pytest.raises(FloatingPointError):
        optimizer.step(nonfinite="raise", zero_grad=True)
    assert np.isinf(model.bias.grad).all()
    assert optimizer.step(nonfinite="skip", zero_grad=True).skipped
    assert model.weight.grad is None
    assert model.bias.grad is None


def test_arrays_that_were_passed_are_filled_with_zeros():
    model = nn.Linear(3, 2)
    model.bias.requires_grad = False
    optimizer = optim.AdamW(model.parameters())
    given = [np.ones((2, 3), np.float32), np.ones(2, np.float32)]
    before = model.bias.data.copy()
    optimizer.step(given, zero_grad=True)
    assert not given[0].any()
    assert not given[1].any()  # also that of the frozen one, which did not move
    np.testing.assert_array_equal(model.bias.data, before)


def test_tensors_are_set_to_none_or_filled():
    torch = pytest.importorskip("torch")
    tensor, parameter = torch.nn.Parameter(torch.ones(3)), nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.SGD([tensor, parameter], lr=0.1)

    def give():
        tensor.grad = torch.ones(3)
        parameter.grad = np.ones(3, np.float32)

    give()
    optimizer.step(zero_grad=True)
    assert tensor.grad.tolist() == [0, 0, 0]
    assert parameter.grad is None
    give()
    optimizer.zero_grad(set_to_none=False)
    assert tensor.grad.tolist() == [0, 0, 0]
    assert parameter.grad.tolist() == [0, 0, 0]
    optimizer.zero_grad()
    assert tensor.grad is None
    assert parameter.grad is None


def test_a_copy_brings_the_gradient_and_no_spare_memory():
    layer = nn.Linear(300, 300)
    layer.backward(layer(normal((2, 300), "float32")))
    twin = copy.deepcopy(layer)
    np.testing.assert_array_equal(twin.weight.grad, layer.weight.grad)
    layer.zero_grad()
    assert pickle.loads(pickle.dumps(layer)).weight.grad is None
    assert len(pickle.dumps(layer)) < 1.5 * layer.weight.data.nbytes
