"""Gradients summed over ranks, and loops that train with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cases import BFLOAT16, as_float64
from helpers import assert_same
from onepass import nn, optim, parallel
from onepass.parallel import _gradients
from ranks import Verbs, run_ranks, run_threads

SHAPES = [(7, 5), (33,), (), (0,), (3, 4, 2, 2)]
DTYPES = ["float32", "float64", "float16"] + ["bfloat16"] * (BFLOAT16 is not None)


def dtype_of(name):
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def whole(rank, shape, dtype):
    """Whole numbers: their sums are exact in float32."""
    rng = np.random.default_rng([rank, len(shape), *shape])
    return np.asarray(rng.integers(-99, 100, shape)).astype(dtype)


def test_every_gradient_is_the_sum_over_ranks():
    kinds = [(shape, dtype_of(name)) for name in DTYPES for shape in SHAPES]

    def call(comm):
        params = [nn.Parameter(np.zeros(shape, dtype)) for shape, dtype in kinds]
        optimizer = optim.SGD(params, lr=0.1)
        for step in range(2):
            for p, (shape, dtype) in zip(params, kinds, strict=True):
                p.grad = whole(comm.rank + 10 * step, shape, dtype)
            parallel.all_reduce_gradients(optimizer, comm)
        return [p.grad for p in params], len(comm.calls)

    for grads, calls in run_threads(call, 3):
        for grad, (shape, dtype) in zip(grads, kinds, strict=True):
            want = sum(as_float64(whole(rank + 10, shape, dtype)) for rank in range(3))
            assert_same(grad, np.asarray(want).astype(dtype))
        # Once parameters and values are compared; each time: which there are, float32, float64.
        assert calls == 2 + 2 * 3


def test_rounding_is_that_of_the_engines_sum():
    given = [np.random.default_rng(rank).standard_normal((50, 3)) for rank in range(3)]

    def call(comm):
        grads = [given[comm.rank].astype(np.float32)]
        params = [np.zeros((50, 3), np.float32)]
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm, grads)
        return grads[0]

    exact = sum(x.astype(np.float32).astype(np.float64) for x in given)
    bound = 2 * 2.0**-24 * sum(abs(x) for x in given) * (1 + 1e-6)  # two additions
    for got in run_threads(call, 3):
        assert (abs(got - exact) <= bound).all()


@pytest.mark.parametrize("name", DTYPES[2:])
def test_16_bits_are_summed_in_float32_and_rounded_once(name):
    top = {"float16": 2048, "bfloat16": 256}[name]  # 1 more is not one of its numbers

    def call(comm):
        grads = [np.array([top if comm.rank == 0 else 1.0]).astype(dtype_of(name))]
        params = [np.zeros(1, dtype_of(name))]
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm, grads)
        return float(grads[0][0])

    assert run_threads(call, 3) == [top + 2] * 3


@pytest.mark.filterwarnings("error")
def test_a_sum_above_all_numbers_of_float16_is_infinite_without_a_warning():
    def call(comm):
        params, grads = [[np.float16([x]) for x in (0.0, 65504.0)] for _ in "ab"]
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm, grads)
        return [float(g[0]) for g in grads]

    assert run_threads(call, 2) == [[0.0, np.inf]] * 2


@pytest.mark.parametrize("listed", [False, True], ids=["grad", "grads="])
def test_one_that_some_ranks_lack_counts_as_zero_there(listed):
    def call(comm):
        params = [nn.Parameter(np.zeros(2, np.float32)) for _ in range(3)]
        grads = [np.float32([1, 2]), None if comm.rank else np.float32([3, 4]), None]
        optimizer = optim.SGD(params, lr=0.1)
        if listed:
            parallel.all_reduce_gradients(optimizer, comm, grads)
        else:
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            parallel.all_reduce_gradients(optimizer, comm)
            grads = [p.grad for p in params]
        optimizer.step(grads)
        return [g if g is None else g.tolist() for g in grads]

    assert run_threads(call, 3) == [[[3, 6], [3, 4], None]] * 3


def test_gradients_that_are_one_array_already_are_not_copied():
    def call(comm):
        room = np.arange(20, dtype=np.float32)
        params = [nn.Parameter(np.zeros(shape, np.float32)) for shape in [(2, 3), (), (5,)]]
        params[0].grad = room[4:10].reshape(2, 3)
        params[1].grad, params[2].grad = room[10:11].reshape(()), room[11:16]
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm)
        assert comm.calls[-1] == ("sum_", room.ctypes.data + 16)
        return room.tolist()

    want = np.arange(20.0)
    want[4:16] *= 2  # and what lies around them is as it was
    assert run_threads(call, 2) == [want.tolist()] * 2


@pytest.mark.parametrize(
    "layout",
    [
        lambda room: [room[2:5], room[6:9]],
        lambda room: [room[5:8], room[2:5]],
        lambda room: [room[2:8:2], room[8:11]],
        lambda room: [room[2:5], np.ones(3, np.float32)],
        lambda room: [np.frombuffer(room.data, np.float32, 3, offset)[:] for offset in (0, 12)],
        lambda room: [np.frombuffer(room.tobytes(), np.float32)[:3].copy(), room[0:3]],
    ],
)
def test_gradients_with_something_between_them_leave_it_alone(layout):
    def call(comm):
        room = np.arange(12, dtype=np.float32)
        params = [nn.Parameter(np.zeros(3, np.float32)) for _ in range(2)]
        params[0].grad, params[1].grad = layout(room)
        want = [2 * p.grad for p in params]
        before = room.copy()
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm)
        for p, w in zip(params, want, strict=True):
            assert_same(p.grad, w)
            if np.may_share_memory(p.grad, room):
                p.grad /= 2
        assert_same(room, before)

    run_threads(call, 2)


def test_a_single_gradient_is_not_copied():
    def call(comm):
        grad = np.ones((3, 4))
        parallel.all_reduce_gradients(optim.SGD([np.ones((3, 4))], lr=0.1), comm, [grad])
        return comm.calls[-1] == ("sum_", grad.ctypes.data) and grad[0, 0]

    assert run_threads(call, 2) == [2.0, 2.0]


def test_little_numbers_ride_along():
    def call(comm):
        optimizer = optim.SGD([np.ones(3, np.float32)], lr=0.1)
        extra = np.float64([[comm.rank, 0.5]])
        grads = [np.ones(3, np.float32)]
        reduction = _gradients.Reduction(optimizer, comm)
        before = len(comm.calls)
        reduction(grads, extra)
        return extra.tolist(), grads[0].tolist(), len(comm.calls) - before

    assert run_threads(call, 2) == [([[1, 1]], [2, 2, 2], 2)] * 2


def test_the_optimizers_of_pytorch_and_tensors_of_every_dtype():
    torch = pytest.importorskip("torch")

    class OnTensors(Verbs):
        def sum_(self, array):
            super().sum_(array if isinstance(array, np.ndarray) else array.numpy())

    dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

    def call(comm):
        params = [torch.nn.Parameter(torch.zeros(2, 3, dtype=dtype)) for dtype in dtypes]
        for p in params:
            p.grad = torch.full_like(p, comm.rank + 1)
        params += [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))]
        if comm.rank:
            params[-1].grad = torch.ones(2)
        parallel.all_reduce_gradients(torch.optim.SGD(params, lr=0.1), comm)
        assert [p.grad.dtype for p in params[:4]] == dtypes
        return [None if p.grad is None else p.grad.unique().tolist() for p in params]

    assert run_threads(call, 2, OnTensors) == [[[3.0], [3.0], [3.0], [3.0], None, [1.0]]] * 2


@pytest.mark.parametrize("size", [2, 3])
def test_one_that_a_rank_lacks_has_the_dtype_of_the_others(size):
    """Not that of its parameter: kinds are summed one after the other, alike on all ranks."""

    def call(comm):
        params = [nn.Parameter(np.zeros(3, np.float32)) for _ in range(3)]
        grads = [np.ones(3), np.ones(3, np.float32), np.ones(3, np.float16)]
        if comm.rank == 1:
            grads = [None] * 3
        parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm, grads)
        return [(str(grad.dtype), grad.tolist()) for grad in grads]

    sums = [float(size - 1)] * 3
    expected = [("float64", sums), ("float32", sums), ("float16", sums)]
    assert run_threads(call, size) == [expected] * size


@pytest.mark.parametrize("others", [(np.float64, np.float32), (np.float16, None, np.float64)])
def test_dtypes_that_differ_between_ranks_are_refused_by_all(others):
    def call(comm):
        params = [nn.Parameter(np.zeros(3, np.float32)) for _ in range(2)]
        dtype = others[comm.rank]
        grads = [np.ones(3, np.float32), None if dtype is None else np.ones(3, dtype)]
        with pytest.raises(
            ValueError, match=r"'grads\[1\]' has another dtype on another rank"
        ) as e:
            parallel.all_reduce_gradients(optim.SGD(params, lr=0.1), comm, grads)
        return str(e.value)

    found = run_threads(call, len(others))
    assert "here it is one of float" in found[0]


def test_gradients_that_are_no_floats_are_refused():
    def call(comm):
        optimizer = optim.SGD([nn.Parameter(np.zeros(3, np.float32))], lr=0.1)
        with pytest.raises(TypeError, match="a gradient has dtype int64, expected float16, bfloat"):
            parallel.all_reduce_gradients(optimizer, comm, [np.ones(3, np.int64)])

    run_threads(call, 2)


def test_sparse_gradients_are_refused():
    torch = pytest.importorskip("torch")
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)

    def call(comm):
        with pytest.raises(TypeError, match=r"'grads\[0\]' is sparse, expected a dense array"):
            parallel.all_reduce_gradients(optimizer, comm)

    run_threads(call, 2)


# ------------------------------------------------------------------------------- what is refused


def build(order, named, dtype="float32"):
    shapes = {"weight": (3, 2), "bias": (3,), "scale": (3,)}
    made = [(name, nn.Parameter(np.zeros(shapes[name], dtype))) for name in order]
    return optim.SGD(made if named else [p for _, p in made], lr=0.1)


FIRST = ["weight", "bias", "scale"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((["bias", "weight", "scale"], False), "rank 2 has 3: float32(3,), float32(3, 2), float32"),
        ((["weight", "scale", "bias"], True), "rank 2 has 3: weight float32(3, 2), scale float32("),
        ((["weight", "bias"], False), "rank 2 has 2: float32(3, 2), float32(3,)"),
        ((FIRST, False, "float64"), "rank 2 has 3: float64(3, 2), float64(3,), float64(3,)"),
    ],
)
def test_other_parameters_on_a_rank_are_refused_on_all(other, said):
    def call(comm):
        optimizer = build(*other) if comm.rank == 2 else build(FIRST, other[1])
        with pytest.raises(ValueError, match="ranks 0 and 2 have other parameters, expected") as e:
            parallel.all_reduce_gradients(optimizer, comm)
        return str(e.value)

    messages = run_threads(call, 3)
    assert said in messages[2]
    assert "rank 0 has 3: " in messages[0]


def other_order():
    comm = parallel.find("auto")
    names = FIRST[::-1] if comm.rank == 1 else FIRST
    try:
        parallel.all_reduce_gradients(build(names, True), comm)
    except ValueError as error:
        print(error)


@pytest.mark.parametrize("launcher", ["mpi", "torch"])
def test_another_order_is_refused_by_processes_too(launcher):
    outputs = run_ranks(other_order, 2, launcher=launcher)
    assert all("ranks 0 and 1 have other parameters" in text for text in outputs)


def of_equal_shapes(order, dtype="float32"):
    rng = np.random.default_rng(0)
    made = [nn.Parameter(rng.standard_normal((4, 4)).astype(dtype_of(dtype))) for _ in range(4)]
    return [made[i] for i in order]


def in_groups(order, dtype):
    params = of_equal_shapes(order, dtype)
    return [{"params": params[:2]}, {"params": params[2:]}]


def of_torch(order, dtype):
    torch = pytest.importorskip("torch")
    params = of_equal_shapes(order)
    return [torch.nn.Parameter(torch.from_numpy(p.data).to(getattr(torch, dtype))) for p in params]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [of_equal_shapes, in_groups, of_torch])
def test_another_order_of_parameters_of_one_shape_is_refused_on_all(given, dtype):
    """Without names: the values show it."""

    def call(comm):
        optimizer = optim.SGD(given([0, 2, 1, 3] if comm.rank else range(4), dtype), lr=0.1)
        with pytest.raises(ValueError, match="parameter 1 has other values on rank 1 than on") as e:
            parallel.all_reduce_gradients(optimizer, comm)
        return "expected equal parameters in the same order on every rank" in str(e.value)

    assert run_threads(call, 3) == [True] * 3


def test_other_values_are_refused_by_name_and_broadcasting_them_is_a_cure():
    def call(comm):
        model = nn.Linear(3, 2)
        model.weight.data[...], model.bias.data[...] = 1, comm.rank == 2
        optimizer = optim.SGD(model.named_parameters(), lr=0.1)
        model.weight.grad, model.bias.grad = np.ones((2, 3), np.float32), np.ones(2, np.float32)
        with pytest.raises(ValueError, match="parameter bias has other values on rank 2 than on"):
            parallel.all_reduce_gradients(optimizer, comm)
        for p in model.parameters():
            comm.broadcast_(p.data)
        parallel.all_reduce_gradients(optimizer, comm)
        return model.bias.grad.tolist()

    assert run_threads(call, 3) == [[3.0, 3.0]] * 3


@pytest.mark.parametrize(
    ("grads", "error", "words"),
    [
        ([], ValueError, "'grads' has 0 entries, expected 1: an array or None for each parameter"),
        ((None,), TypeError, "'grads' is a tuple, expected a list with an array or None for each"),
        (None, TypeError, r"'grads' is None and a parameter has no \.grad; pass the gradients"),
        ([[1.0]], TypeError, r"'grads\[0\]' is a list, expected a dense array or None"),
        ([np.zeros(2)], ValueError, r"'grads\[0\]' has shape \(2,\), expected \(3,\), that of its"),
    ],
)
def test_wrong_gradients_are_refused(grads, error, words):
    def call(comm):
        with pytest.raises(error, match=f"^all_reduce_gradients: {words}"):
            parallel.all_reduce_gradients(optim.SGD([np.ones(3)], lr=0.1), comm, grads)

    run_threads(call, 2)


def test_one_process_leaves_all_as_it_is():
    grad = np.ones(3, np.float16)
    optimizer = optim.SGD([np.ones(3, np.float16)], lr=1)
    parallel.all_reduce_gradients(optimizer, parallel.Alone(), [grad])
    assert_same(grad, np.ones(3, np.float16))


# -------------------------------------------------------------------------------------- training


def train(comm):
    """A loop of one's own, on the share of each rank: the last batch leaves one without a row."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((26, 6)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    loss = nn.CrossEntropyLoss(reduction="sum")
    for _ in range(5):
        for begin in range(0, 26, 8):
            rows = np.arange(begin, min(begin + 8, 26))
            own = np.array_split(rows, comm.size)[comm.rank]
            if len(own):
                _, dy = loss(model(X[own]), y[own])
                model.backward(dy)
            parallel.all_reduce_gradients(optimizer, comm)
            optimizer.step(grad_scale=len(rows), max_norm=0.5, zero_grad=True)
    return [p.data for p in model.parameters()]


def training():
    data = train(parallel.find("auto"))
    print(json.dumps([[x.tolist() for x in data], hashlib.sha256(b"".join(data)).hexdigest()]))


@pytest.mark.parametrize(("launcher", "n"), [("mpi", 2), ("mpi", 3), ("torch", 2)])
def test_ranks_train_what_one_process_trains_and_stay_equal(launcher, n):
    want = train(parallel.Alone())
    outputs = [json.loads(text) for text in run_ranks(training, n, launcher=launcher)]
    assert len({digest for _, digest in outputs}) == 1
    for got, w in zip(outputs[0][0], want, strict=True):
        np.testing.assert_allclose(got, w, rtol=0, atol=2e-5)  # 20 steps of Adam, of 0.05 each


def page():
    text = Path(__file__).parents[1].joinpath("docs/start/parallel.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "parallel.md", "exec"), {"__name__": "__main__"})


def test_the_program_of_the_page_prints_the_same_on_any_number_of_ranks():
    alone = run_ranks(page, 1)
    assert alone[0].strip()
    assert run_ranks(page, 3) == [alone[0], "", ""]
