"""Sparse gradients of the optimizers that take dense ones too, beside PyTorch's."""

import copy

import numpy as np
import onepass.torch
import pytest

torch = pytest.importorskip("torch")
from onepass.torch import optim  # noqa: E402

CASES = {
    "SGD": ("SGD", {}),
    "SGD, maximize": ("SGD", {"maximize": True}),
    "SGD, momentum": ("SGD", {"momentum": 0.9, "dampening": 0.25}),
    "SGD, nesterov": ("SGD", {"momentum": 0.5, "nesterov": True, "maximize": True}),
    "Adagrad": ("Adagrad", {}),
    "Adagrad, all": (
        "Adagrad",
        {"lr_decay": 0.1, "initial_accumulator_value": 0.25, "eps": 1e-3, "maximize": True},
    ),
    "Adagrad, no eps": ("Adagrad", {"eps": 0.0}),  # dense, a row without gradient would be 0/0
    "SparseAdam": ("SparseAdam", {}),
}
each_case = pytest.mark.parametrize("case", CASES)
# Those whose other rows stay where their gradient is zero.
AS_DENSE = [case for case in CASES if case not in ("SparseAdam", "Adagrad, no eps")]


@pytest.fixture(autouse=True)
def checked():
    """PyTorch warns until somebody has said whether it is to check sparse tensors."""
    with torch.sparse.check_sparse_tensor_invariants():
        yield


def coo(rows, values, shape):
    return torch.sparse_coo_tensor(rows, values, shape)


def tables(dtype=torch.float64, seed=0):
    """Two embeddings, one with a gradient of two sparse axes, and dense parameters."""
    made = torch.Generator().manual_seed(seed)
    shapes = [(9, 4), (6, 5, 2), (7,), (3, 2)]
    return [torch.nn.Parameter(torch.randn(s, generator=made).to(dtype)) for s in shapes]


def grads_of(params, rng, *, dense=True):
    """Uncoalesced, with rows that come twice, or not at all."""
    for index, p in enumerate(params):
        axes = (1, 2, 1, 0)[index]
        if not dense:
            axes = max(axes, 1)
        if rng.random() < 0.2:
            p.grad = None
        elif axes == 0:
            p.grad = torch.from_numpy(rng.standard_normal(p.shape)).to(p.dtype)
        else:
            count = int(rng.integers(0, 6))
            rows = [rng.integers(0, n, count) for n in p.shape[:axes]]
            values = torch.from_numpy(rng.standard_normal((count, *p.shape[axes:])))
            p.grad = coo(np.array(rows), values.to(p.dtype), tuple(p.shape))


def apart(state_dict):
    """With memory of its own for each state: ``dense.add_(sparse)`` of PyTorch 2.13 counts the
    beginning of a one-dimensional view twice, and writes elsewhere."""
    state_dict = copy.deepcopy(state_dict)
    for entry in state_dict["state"].values():
        entry.update({k: v.clone() for k, v in entry.items() if isinstance(v, torch.Tensor)})
    return state_dict


@each_case
def test_rows_step_as_in_torch(case):
    name, options = CASES[case]
    mine, rng = tables(), np.random.default_rng(1)
    theirs = copy.deepcopy(mine)
    ours = getattr(optim, name)(mine, lr=0.1, **options)
    other = getattr(torch.optim, name)(theirs, lr=0.1, **options)
    for step in range(40):
        grads_of(mine, rng, dense=name != "SparseAdam")
        for p, q in zip(mine, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        versions = [p._version for p in mine]
        ours.step()
        other.step()
        for p, q, version in zip(mine, theirs, versions, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12, msg=f"step {step}")
            assert p._version > version or p.grad is None
        if step == 20:  # states go to PyTorch and back
            saved = copy.deepcopy(other.state_dict())
            if not options.get("nesterov"):  # PyTorch cannot add a buffer to a sparse gradient
                other.load_state_dict(apart(ours.state_dict()))
            ours.load_state_dict(saved)
    counts = [[float(e.get("step", 0)) for e in o.state_dict()["state"].values()]
              for o in (ours, other)]  # fmt: skip
    if name != "SGD":
        assert counts[0] == counts[1]


@pytest.mark.parametrize("case", AS_DENSE)
@pytest.mark.parametrize("controls", [
    {"max_norm": 0.5}, {"max_value": 0.25, "grad_scale": 4.0},
    {"grad_scale": 8.0, "nonfinite": "skip", "zero_grad": True},
], ids=str)  # fmt: skip
def test_controls_of_a_step_do_to_rows_what_they_do_to_dense_gradients(case, controls):
    name, options = CASES[case]
    mine, rng = tables(torch.float32), np.random.default_rng(2)
    theirs = copy.deepcopy(mine)
    ours = getattr(optim, name)(mine, lr=0.1, diagnostics=True, **options)
    other = getattr(optim, name)(theirs, lr=0.1, diagnostics=True, **options)
    for step in range(12):
        grads_of(mine, rng)
        if step == 7 and mine[0].grad is not None:
            mine[0].grad = mine[0].grad * float("nan")
        for p, q in zip(mine, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone().to_dense()
        ours.step(**controls)
        other.step(**controls)
        a, b = ours.last_step, other.last_step
        assert (a.skipped, a.nonfinite_param) == (b.skipped, b.nonfinite_param)
        assert a.grad_norm == pytest.approx(b.grad_norm, nan_ok=True)
        for p, q in zip(mine, theirs, strict=True):
            assert torch.equal(p, q) or controls.get("max_norm") is not None
            torch.testing.assert_close(p, q, equal_nan=True)
            if p.grad is not None and controls.get("zero_grad"):
                assert not p.grad.to_dense().any()
        for one, two in zip(ours.per_parameter, other.per_parameter, strict=True):
            np.testing.assert_allclose(
                [np.nan if x is None else float(x) for x in one],
                [np.nan if x is None else float(x) for x in two], 1e-5, 1e-7)  # fmt: skip


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_an_embedding_trains_as_in_torch_under_a_scaler(name):
    """torch.amp.GradScaler, and ours, which leaves the search for Inf to the step."""
    losses = {}
    for label, module, scaler in (
        ("torch", torch.optim, torch.amp.GradScaler("cpu", init_scale=2.0**14)),
        ("ours", optim, torch.amp.GradScaler("cpu", init_scale=2.0**14)),
        ("both", optim, onepass.torch.GradScaler("cpu", init_scale=2.0**14)),
    ):
        torch.manual_seed(0)
        words = torch.nn.Embedding(50, 8, sparse=True)
        head = torch.nn.Linear(8, 3)
        optimizer = getattr(module, name)([*words.parameters(), *head.parameters()], lr=0.5)
        losses[label] = []
        for step in range(15):
            x, y = torch.randint(0, 50, (20,)), torch.randint(0, 3, (20,))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(head(words(x)), y)
            if step == 5:
                loss = loss * 1e38 * 1e3
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses[label].append(float(loss.detach()))
        assert scaler.get_scale() == 2.0**13
    for label in ("ours", "both"):
        np.testing.assert_allclose(losses[label], losses["torch"], 1e-5)


def test_other_rows_are_not_written():
    for name in ("SGD", "Adagrad"):
        p = torch.nn.Parameter(torch.full((6, 3), -0.0))
        p.data[4] = float("nan")
        optimizer = getattr(optim, name)([p], lr=1.0)
        p.grad = coo([[2, 2]], torch.ones(2, 3), (6, 3))
        optimizer.step()
        assert torch.isnan(p[4]).all()
        assert (torch.signbit(p[[0, 1, 3, 5]])).all()
        assert (p[2] < 0).all()


@pytest.mark.parametrize(("make", "match"), [
    (lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1), "'weight_decay' is 0.1, expected 0"),
    (lambda p: optim.Adagrad(p, weight_decay=0.1), "'weight_decay' is 0.1, expected 0"),
    (lambda p: optim.SGD(p, lr=0.1, l1=0.5, cautious=True), "has cautious, l1, expected none"),
    (lambda p: optim.SGD(p, lr=0.1, ema_decay=0.0), "has ema_decay, expected none"),
    (lambda p: optim.SGD(p, lr=0.1, ema_decay=1.0), "has ema_decay, expected none"),
    (lambda p: optim.Adagrad(p, state_dtype="bfloat16"), "has state_dtype, expected none"),
])  # fmt: skip
def test_what_concerns_every_row_is_refused_beside_a_sparse_gradient(make, match):
    p = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = make([p])
    p.grad = coo([[1]], torch.ones(1, 2), (4, 2))
    with pytest.raises(ValueError, match=match):
        optimizer.step()
    assert (p == 1).all()
    p.grad = torch.ones(4, 2)
    optimizer.step()
    assert (p != 1).all()


def test_a_sparse_gradient_that_does_not_fit_is_refused():
    p, q = torch.nn.Parameter(torch.ones(4, 2)), torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p, q], lr=0.1)
    grad = coo([[1]], torch.ones(1, 2), (4, 2))
    for wrong, kind in (
        ([coo([[1]], torch.ones(1, 2), (5, 2)), None], ValueError),
        ([grad.double(), None], TypeError),
        ([grad, torch.ones(4)], ValueError),
        ([grad], ValueError),
        ([torch.ones(4, 2).to_mkldnn(), None], TypeError),
    ):
        with pytest.raises(kind, match="grads"):
            onepass.optim.SGD([p, q], lr=0.1).step(wrong)
    p.grad = grad.double().float()
    q.grad = torch.ones(3)
    optimizer.step()
    assert (p[0] == 1).all()
    np.testing.assert_allclose(p[1].detach(), 0.9)
