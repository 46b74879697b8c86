"""SparseAdam: the rows that a gradient names are stepped as in PyTorch, and no others."""

import copy

import numpy as np
import pytest
from onepass import nn, ops, optim
from small_steps import assert_resumes

SHAPES = [(50, 4), (33,), (5, 3, 2), (1, 1), (9, 0), (7, 17)]
SWEEP = [
    {},
    {"lr": 0.1, "betas": (0.8, 0.9)},
    {"lr": 0.05, "betas": (0.0, 0.5), "eps": 1e-2, "maximize": True},
]


def drawn(rng, shape, dtype=np.float64):
    """A gradient with rows that repeat, in no order; sometimes none at all."""
    indices = rng.integers(0, shape[0], rng.integers(0, 12))
    return indices, np.asarray(rng.standard_normal((len(indices), *shape[1:])), dtype)


class Reference:
    """The formula, row by row, in float64."""

    def __init__(self, params, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, maximize=False):
        self.params = [np.array(p, np.float64) for p in params]
        self.m, self.v = ([np.zeros_like(p) for p in self.params] for _ in range(2))
        self.steps = [0] * len(params)
        self.lr, self.betas, self.eps, self.sign = lr, betas, eps, -1 if maximize else 1

    def step(self, grads):
        b1, b2 = self.betas
        for i, grad in enumerate(grads):
            if grad is None:
                continue
            self.steps[i] += 1
            t = self.steps[i]
            for row in np.unique(grad[0]):
                g = self.sign * sum(
                    np.float64(value) for index, value in zip(*grad, strict=True) if index == row
                )
                m, v, p = self.m[i], self.v[i], self.params[i]
                m[row] = b1 * m[row] + (1 - b1) * g
                v[row] = b2 * v[row] + (1 - b2) * g * g
                size = self.lr * np.sqrt(1 - b2**t) / (1 - b1**t)
                p[row] -= size * m[row] / (np.sqrt(v[row]) + self.eps)


def start(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng, [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", SWEEP, ids=str)
def test_sixty_steps_are_the_formula(options, dtype):
    rng, params = start(dtype)
    mine = copy.deepcopy(params)
    lists = [[np.zeros_like(p) for p in params] for _ in range(2)]
    want = Reference(params, **options)
    optimizer = optim.SparseAdam(params, **options)
    counts = np.zeros(len(SHAPES), int)
    for step in range(60):
        grads = [
            drawn(rng, p.shape, dtype) if (step + i) % 5 else None for i, p in enumerate(params)
        ]
        counts += [g is not None for g in grads]
        optimizer.step(grads)
        ops.sparse_adam_(mine, grads, *lists, step=[max(1, int(t)) for t in counts], **options)
        want.step(grads)
    for i, (p, q, w) in enumerate(zip(params, mine, want.params, strict=True)):
        bound = 1e-12 if dtype == np.float64 else 60 * 8 * 6e-8
        np.testing.assert_allclose(p, w, bound, bound * options.get("lr", 1e-3) * 60, str(i))
        np.testing.assert_array_equal(p, q, f"function, {i}")
        state = optimizer.state[p]
        assert state["step"] == counts[i]
        np.testing.assert_allclose(state["exp_avg"], want.m[i], 100 * bound, bound)
        np.testing.assert_allclose(state["exp_avg_sq"], want.v[i], 100 * bound, bound)


def test_rows_that_no_gradient_names_keep_their_bits():
    rng, _ = start()
    table = rng.standard_normal((40, 3))
    optimizer = optim.SparseAdam([table], lr=0.1)
    before, moments = table.copy(), None
    optimizer.step([(np.arange(20, 40), rng.standard_normal((20, 3)))])
    np.testing.assert_array_equal(table[:20], before[:20])
    assert (table[20:] != before[20:]).all()
    before, moments = table.copy(), copy.deepcopy(dict(optimizer.state[table]))
    optimizer.step([(np.array([3, 3, 25]), rng.standard_normal((3, 3)))])
    moved = [3, 25]
    for old, new in ((before, table), *((moments[k], optimizer.state[table][k])
                                        for k in ("exp_avg", "exp_avg_sq"))):  # fmt: skip
        assert np.unique(np.nonzero(old != new)[0]).tolist() == moved


def test_a_strided_table_is_stepped_where_it_lies():
    rng, _ = start()
    whole = rng.standard_normal((20, 12))
    views = [whole[::2, :5], whole[1::2, 6:].T]
    copies = [np.array(v) for v in views]
    gap = whole[::2, 5:].copy()
    a, b = (optim.SparseAdam(list(p), lr=0.1) for p in (views, copies))
    for _ in range(5):
        grads = [drawn(rng, v.shape) for v in views]
        a.step(grads)
        b.step(grads)
    for view, plain in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, plain)
    np.testing.assert_array_equal(whole[::2, 5:], gap)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tables_of_sixteen_bits_are_float32_rounded_once(dtype):
    kind = np.float16 if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    rng, _ = start()
    table = rng.standard_normal((30, 5)).astype(kind)
    wide = table.astype(np.float32)
    indices = np.array([4, 9, 4, 29])  # of each 16 bits sums are exact in float32
    values = rng.standard_normal((4, 5)).astype(kind)
    optim.SparseAdam([table], lr=0.1).step([(indices[1:], values[1:])])
    optim.SparseAdam([wide], lr=0.1).step([(indices[1:], values[1:].astype(np.float32))])
    np.testing.assert_array_equal(table.astype(np.float32), wide.astype(kind).astype(np.float32))
    repeated = optim.SparseAdam([table], lr=0.1)
    repeated.step([(indices, values)])
    total = (values[0].astype(np.float32) + values[2].astype(np.float32)).astype(kind)
    np.testing.assert_allclose(
        repeated.state[table]["exp_avg"][4], 0.1 * total.astype(np.float32), 1e-6
    )


# ------------------------------------------------------------------------------------------ PyTorch


def coo(torch, grad, shape):
    indices, values = map(torch.from_numpy, grad)
    return torch.sparse_coo_tensor(indices[None], values, shape, check_invariants=True)


@pytest.mark.parametrize("options", SWEEP, ids=str)
def test_tensors_go_as_in_pytorch_and_states_go_both_ways(options):
    torch = pytest.importorskip("torch")
    rng, arrays = start()
    arrays = [a for a in arrays if a.size]
    ours, theirs = ([torch.nn.Parameter(torch.tensor(a)) for a in arrays] for _ in range(2))
    a, b = optim.SparseAdam(ours, **options), torch.optim.SparseAdam(theirs, **options)
    for step in range(60):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            grad = drawn(rng, p.shape) if (step + i) % 7 else None
            p.grad = None if grad is None else coo(torch, grad, p.shape)
            q.grad = None if grad is None else coo(torch, grad, p.shape)
        versions = [p._version for p in ours]
        a.step()
        assert [p._version > v for p, v in zip(ours, versions, strict=True)] == [
            p.grad is not None for p in ours
        ]
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), 1e-9, 1e-12)
        if step == 20:
            a.load_state_dict(copy.deepcopy(b.state_dict()))
        if step == 40:
            b.load_state_dict(copy.deepcopy(a.state_dict()))


def test_states_begin_at_their_storage():
    """PyTorch's dense.add_(sparse) writes beside a vector that begins elsewhere."""
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.ones(33)) for _ in range(2)]
    optimizer = optim.SparseAdam(params)
    for _ in range(2):
        optimizer.step([coo(torch, (np.array([3]), np.ones(1, np.float32)), (33,))] * len(params))
        for p in params:
            assert optimizer.state[p]["exp_avg"].storage_offset() == 0
        if len(params) == 2:
            params.append(torch.nn.Parameter(torch.ones(33)))
            optimizer.add_param_group({"params": params[2:]})


def test_pairs_of_tensors_are_the_sparse_tensor():
    torch = pytest.importorskip("torch")
    rng, _ = start()
    a, b = (torch.ones(30, 4, dtype=torch.float64) for _ in range(2))
    first, second = optim.SparseAdam([a], lr=0.1), optim.SparseAdam([b], lr=0.1)
    for _ in range(5):
        grad = drawn(rng, (30, 4))
        first.step([tuple(map(torch.from_numpy, grad))])
        second.step([coo(torch, grad, (30, 4))])
        assert torch.equal(a, b)


def test_an_embedding_trains_as_with_pytorch():
    torch = pytest.importorskip("torch")
    results = []
    for cls in (optim.SparseAdam, torch.optim.SparseAdam):
        torch.manual_seed(0)
        model = torch.nn.Embedding(100, 8, sparse=True)
        optimizer, losses = cls(model.parameters(), lr=0.05), []
        for step in range(20):
            words = torch.tensor([step, 3, 3, 99 - step])
            loss = (model(words) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        results.append(losses)
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert results[0][-1] < results[0][0]


def test_a_gradient_with_two_sparse_axes_moves_single_elements():
    torch = pytest.importorskip("torch")
    ours, theirs = (torch.nn.Parameter(torch.ones(6, 5, 2)) for _ in range(2))
    a, b = optim.SparseAdam([ours], lr=0.1), torch.optim.SparseAdam([theirs], lr=0.1)
    for p, optimizer in ((ours, a), (theirs, b)):
        p.grad = torch.sparse_coo_tensor(
            [[1, 1, 5], [2, 2, 0]], torch.arange(6.0).reshape(3, 2), (6, 5, 2),
            check_invariants=True,
        )  # fmt: skip
        optimizer.step()
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), 1e-6)
    assert int((ours != 1).sum()) == 4


# ---------------------------------------------------------------- what it shares with the others


def test_resumed_training_has_the_same_bits():
    rng, params = start(np.float32)
    grads = [[drawn(rng, p.shape, np.float32) for p in params] for _ in range(20)]
    assert_resumes(optim.SparseAdam, params, grads, lr=0.1)


def test_the_norm_is_that_of_summed_rows_and_clips_them():
    table, other = np.ones((5, 2)), np.ones((5, 2))
    grad = (np.array([1, 1, 4]), np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 4.0]]))
    optimizer = optim.SparseAdam([table], lr=0.1, eps=1.0)
    info = optimizer.step([grad], max_norm=1.0, grad_scale=2.0)
    assert info.grad_norm == pytest.approx(2.5)
    scaled = np.array([[1.5, 0.0], [0.0, 2.0]]) / (2.5 + 1e-6)
    optim.SparseAdam([other], lr=0.1, eps=1.0).step([(np.array([1, 4]), scaled)])
    np.testing.assert_allclose(table, other, 1e-12)
    clamped, plain = np.ones((5, 2)), np.ones((5, 2))
    optim.SparseAdam([clamped], eps=1.0).step([grad], max_value=2.0)
    summed = (np.array([1, 4]), np.array([[2.0, 0.0], [0.0, 2.0]]))
    optim.SparseAdam([plain], eps=1.0).step([summed])
    np.testing.assert_array_equal(clamped, plain)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_gradient_that_is_not_finite_changes_nothing(nonfinite):
    _, params = start()
    optimizer = optim.SparseAdam(params, lr=0.1)
    rng = np.random.default_rng(1)
    optimizer.step([drawn(rng, p.shape) for p in params])
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    grads = [drawn(rng, p.shape) for p in params]
    grads[2] = (np.array([0]), np.full((1, 3, 2), np.inf))
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match="SparseAdam: the gradient of parameter 2"):
            optimizer.step(grads, nonfinite=nonfinite)
    else:
        info = optimizer.step(grads, nonfinite=nonfinite, zero_grad=True)
        assert (info.skipped, info.nonfinite_param) == (True, 2)
        assert not grads[2][1].any()
    np.testing.assert_equal((params, optimizer.state_dict()["state"]), before)


def test_zero_grad_fills_values_with_zeros():
    torch = pytest.importorskip("torch")
    values = np.ones((2, 2))
    optim.SparseAdam([np.ones((4, 2))]).step([(np.array([1, 1]), values)], zero_grad=True)
    assert not values.any()
    p = torch.nn.Parameter(torch.ones(4, 2))
    p.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2), check_invariants=True)
    optimizer = optim.SparseAdam([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.is_sparse
    assert not p.grad.to_dense().any()
    optimizer.zero_grad()
    assert p.grad is None


def test_parameters_groups_and_frozen_ones():
    tables = [nn.Parameter(np.ones((4, 2), np.float32)) for _ in range(3)]
    optimizer = optim.SparseAdam(
        [{"params": tables[:1], "lr": 0.5}, {"params": tables[1:2]}], lr=0.1
    )
    optimizer.add_param_group({"params": tables[2:], "lr": 0.25})
    tables[1].requires_grad = False
    for p in tables:
        p.grad = (np.array([2]), np.ones((1, 2), np.float32))
    optimizer.step(zero_grad=True)
    moved = [float(1 - p.data[2, 0]) for p in tables]
    assert moved == pytest.approx([0.5, 0.0, 0.25], rel=1e-5)
    assert [optimizer.state[p].get("step") for p in tables] == [1, None, 1]
    assert all(p.grad is None for p in tables)


def test_diagnostics_measure_the_rows():
    table = np.ones((5, 2))
    optimizer = optim.SparseAdam([table], lr=0.1, diagnostics=True)
    optimizer.step([(np.array([1, 1]), np.array([[1.0, 1.0], [2.0, 3.0]]))])
    measured = optimizer.per_parameter
    assert measured.grad_norm == pytest.approx([5.0])
    assert measured.update_norm == pytest.approx([np.sqrt(2) * 0.1], rel=1e-6)
    assert measured.param_norm == pytest.approx([np.sqrt(10)])


ROWS = np.ones((2, 3))
WRONG = [
    (np.ones((4, 3)), TypeError, r"'grads\[0\]' is a ndarray, expected a pair \(indices, values\)"),
    ((np.array([0, 4]), ROWS), IndexError, "has the index 4, expected 0 <= index < 4"),
    ((np.array([-1, 0]), ROWS), IndexError, "has the index -1"),
    ((np.array([0.0, 1.0]), ROWS), TypeError, "are float64 of shape"),
    ((np.array([[0, 1]]), ROWS), TypeError, "in one axis"),
    ((np.array([0]), ROWS), ValueError, r"have shape \(2, 3\), expected \(1, 3\)"),
    ((np.array([0, 1]), ROWS[:, :2]), ValueError, r"have shape \(2, 2\), expected \(2, 3\)"),
    ((np.array([0, 1]), ROWS.astype(int)), TypeError, "are int64, expected floats"),
    ((np.array([0, 1]), ROWS.astype(np.float32)), TypeError, "grads"),
    ((np.array([0, 1]), [[1, 2, 3]] * 2), TypeError, "are a list, expected an array"),
    ((np.array([0, 1]), ROWS, 3), TypeError, "expected a pair"),
    (3.0, TypeError, "is a float, expected a pair"),
]


@pytest.mark.parametrize(("grad", "kind", "words"), WRONG, ids=lambda v: str(v)[:24])
def test_what_is_no_sparse_gradient_is_refused_and_changes_nothing(grad, kind, words):
    params = [np.ones((4, 3)), np.ones((4, 3))]
    optimizer = optim.SparseAdam(params, lr=0.1)
    with pytest.raises(kind, match=words):
        optimizer.step([grad, (np.array([0]), ROWS[:1])])
    assert all((p == 1).all() for p in params)
    assert optimizer.state_dict()["state"] == {}
    with pytest.raises(kind, match=words):
        ops.sparse_adam_(params, [grad, None], *([np.zeros((4, 3))] * 2 for _ in range(2)))


def test_dense_gradients_of_tensors_and_other_shapes_are_refused():
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = optim.SparseAdam([p])
    p.grad = torch.ones(4, 2)
    with pytest.raises(TypeError, match=r"is a Tensor, expected a pair .* use Adam"):
        optimizer.step()
    wrong = torch.sparse_coo_tensor([[1]], torch.ones(1, 3), (4, 3), check_invariants=True)
    with pytest.raises(ValueError, match=r"has shape \(4, 3\), expected \(4, 2\)"):
        optimizer.step([wrong])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "'lr' is -1.0, expected a number >= 0"),
        ({"eps": 0.0}, "'eps' is 0.0, expected a number > 0"),
        ({"betas": (0.9, 1.0)}, r"'betas\[1\]' is 1.0"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        optim.SparseAdam([np.ones((2, 2))], **options)
    with pytest.raises(TypeError, match="unknown keyword 'weight_decay'"):
        optim.SparseAdam([np.ones((2, 2))], weight_decay=0.1)
    with pytest.raises(ValueError, match="'grads' has 1 entries, expected 2"):
        optim.SparseAdam([np.ones((2, 2)), np.ones((2, 2))]).step([None])


def test_a_parameter_without_axes_has_no_rows():
    with pytest.raises(ValueError, match="no axes"):
        optim.SparseAdam([np.ones(())]).step([(np.array([0]), np.ones(1))])
