"""What stands on the verbs of any communicator: threads with a stand-in that has them alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from cases import BFLOAT16
from helpers import assert_same, bits
from onepass.parallel import _collectives
from onepass.parallel._protocol import Alone
from onepass.train._from_rank_0 import by_rank_0, sent
from onepass.train._store import CheckpointError
from ranks import Exchanging, Verbs, run_threads

each_kind = pytest.mark.parametrize("kind", [Verbs, Exchanging])


# ---------------------------------------------------------------------------------------- gather


def of_kind(dtype, rows, seed):
    """Any bits that the dtype can have: infinities, -0, NaN with a payload."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    raw = rng.integers(0, 256, rows * 3 * dtype.itemsize, np.uint8)
    if dtype.kind == "b":
        raw %= 2
    return raw.view(dtype).reshape(rows, 3)


KINDS = ["float32", "float64", "float16", ">f4", "int64", "int8", "bool", "complex64", "S5"]


@pytest.mark.parametrize("dtype", KINDS + ([BFLOAT16] if BFLOAT16 is not None else []), ids=str)
@pytest.mark.parametrize("rows", [(2, 1, 4), (0, 3, 0), (0, 0, 0), (5,)], ids=str)
def test_gather_brings_every_bit_in_order_of_rank(dtype, rows):
    want = [of_kind(dtype, n, seed) for seed, n in enumerate(rows)]
    got = run_threads(lambda comm: _collectives.gather(comm, want[comm.rank]), len(rows))
    for shares in got:
        assert [(s.dtype, s.shape) for s in shares] == [(w.dtype, w.shape) for w in want]
        assert [s.tobytes() for s in shares] == [w.tobytes() for w in want]
        assert all(share.flags.writeable for share in shares)


def test_gather_of_arrays_in_another_order_in_memory():
    want = [np.arange(12.0).reshape(4, 3).T, np.arange(8.0).reshape(2, 4)[:, ::-1]]
    for shares in run_threads(lambda comm: _collectives.gather(comm, want[comm.rank]), 2):
        for share, array in zip(shares, want, strict=True):
            assert_same(share, array)


def test_gather_of_one_axis_and_of_one_rank():
    assert [x.tolist() for x in _collectives.gather(Alone(), np.arange(3))] == [[0, 1, 2]]
    want = [np.arange(3), np.arange(2)]
    for shares in run_threads(lambda comm: _collectives.gather(comm, want[comm.rank]), 2):
        assert [x.tolist() for x in shares] == [[0, 1, 2], [0, 1]]


def test_the_kind_of_a_share_without_rows_does_not_matter():
    given = [np.zeros((0,), np.int8), np.ones((2, 4), np.float32), np.zeros((0, 9))]
    for shares in run_threads(lambda comm: _collectives.gather(comm, given[comm.rank]), 3):
        assert [(s.dtype.name, s.shape) for s in shares] == [
            ("float32", (0, 4)), ("float32", (2, 4)), ("float32", (0, 4))
        ]  # fmt: skip


@pytest.mark.parametrize("other", [np.zeros((2, 4)), np.zeros((2, 3), np.float32)])
def test_rows_of_different_kinds_are_refused_on_every_rank(other):
    given, said = [np.zeros((0, 3)), np.zeros((1, 3)), other], []

    def call(comm):
        with pytest.raises(ValueError, match="gather: the arrays of ranks 1 and 2 differ") as e:
            _collectives.gather(comm, given[comm.rank])
        said.append(str(e.value))

    run_threads(call, 3)
    assert len(said) == 3


def test_gather_of_objects_is_refused():
    with pytest.raises(TypeError, match="'array' has dtype object"):
        _collectives.gather(Alone(), np.array([None]))


# ----------------------------------------------------------------------------- objects and texts

OBJECTS = [None, 0.1, [1, "ä", {"b": [True]}], float("inf"), 2**70, "", b"", b"\x00\xff" * 9, b"x"]


@pytest.mark.parametrize("obj", OBJECTS, ids=repr)
@pytest.mark.parametrize("root", [0, 2])
def test_an_object_of_one_rank_comes_to_all(obj, root):
    def call(comm):
        return _collectives.broadcast_object(comm, obj if comm.rank == root else "wrong", root)

    for got in run_threads(call, 3):
        assert got == obj
        assert type(got) is type(obj)


def test_an_object_comes_alike_on_one_rank_and_several():
    alone = _collectives.broadcast_object(Alone(), {"a": (1, 2)})
    assert alone == {"a": [1, 2]}
    got = run_threads(lambda comm: _collectives.broadcast_object(comm, {"a": (1, 2)}), 2)
    assert got == [alone, alone]
    with pytest.raises(TypeError):
        _collectives.broadcast_object(Alone(), {1, 2})


@pytest.mark.parametrize(
    ("texts", "first"),
    [(["a", "a", "a"], None), (["a", "a", "b"], 2), (["b", "a", "b"], 1), (["a"], None)],
)
def test_the_first_text_that_differs(texts, first):
    got = run_threads(lambda comm: _collectives.first_other(comm, texts[comm.rank]), len(texts))
    assert got == [first] * len(texts)


# ---------------------------------------------------------------------------------- the tree


def tree(parts):
    """The balanced binary tree over parts, in order."""
    while len(parts) > 1:
        parts = [parts[i] + parts[i + 1] for i in range(0, len(parts), 2)]
    return parts[0]


def values(rank, shape, dtype):
    """Of very different sizes: the order of additions shows in the last bits."""
    rng = np.random.default_rng(rank)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape)
    return np.asarray(x * (1e6 if dtype == "int64" else 1)).astype(dtype)


SHAPES = [(), (0,), (1,), (3, 5), (4096,), (4097,), (30_001,)]


@each_kind
@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_the_tree_has_the_bits_of_the_balanced_one(kind, n, dtype):
    for shape in SHAPES:
        parts = [values(rank, shape, dtype) for rank in range(n)]
        want = tree(parts)

        def call(comm, parts=parts):
            x = parts[comm.rank].copy()
            _collectives.tree_sum_(comm, x)
            return x

        for got in run_threads(call, n, kind):
            assert_same(got, want, f"{shape}")
        if n > 2 and shape == (30_001,) and dtype != "int64":
            in_order = sum(parts[1:], parts[0])
            assert (bits(in_order) != bits(want)).any(), "the order does not show"


@each_kind
def test_two_ranks_with_sums_of_two_have_the_bits_of_four(kind):
    parts = [values(rank, (999,), "float32") for rank in range(4)]

    def call(comm):
        x = parts[2 * comm.rank] + parts[2 * comm.rank + 1]
        _collectives.tree_sum_(comm, x)
        return x

    for got in run_threads(call, 2, kind):
        assert_same(got, tree(parts))


@each_kind
def test_signs_of_zeros_and_infinities_are_those_of_the_tree(kind):
    special = np.float32([-0.0, 0.0, np.inf, -np.inf, 1e38, 1e-45])
    parts = [special, np.roll(special, 1), special[::-1].copy(), -np.float32([0] * 6)]
    with np.errstate(all="ignore"):
        want = tree(parts)

    def call(comm):
        x = parts[comm.rank].copy()
        with np.errstate(all="ignore"):
            _collectives.tree_sum_(comm, x)
        return x

    for got in run_threads(call, 4, kind):
        np.testing.assert_array_equal(got, want)
        assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


def test_large_arrays_are_halved_among_ranks():
    """Each rank sends 2·(1 - 1/size) arrays, as few bytes as there can be."""

    def call(comm):
        _collectives.tree_sum_(comm, np.ones(80_000))
        return sum(size for name, size in comm.calls if name == "_exchange")

    assert run_threads(call, 8, Exchanging) == [2 * 70_000] * 8
    assert run_threads(call, 2, Exchanging) == [80_000] * 2


@pytest.mark.parametrize("size", [4097, 8193, 8195, 16_387])
def test_every_rank_makes_as_many_calls(size):
    """By which one that leaves knows whether others wait for it."""

    def call(comm):
        _collectives.tree_sum_(comm, np.ones(size))
        return len(comm.calls)

    assert len(set(run_threads(call, 4, Exchanging))) == 1


@pytest.mark.parametrize("n", [3, 6])
def test_a_tree_needs_a_power_of_two(n):
    def call(comm):
        with pytest.raises(ValueError, match=f"there are {n} ranks, expected a power of two"):
            _collectives.tree_sum_(comm, np.ones(3))

    run_threads(call, n)


def test_a_tensor_on_verbs_alone():
    torch = pytest.importorskip("torch")

    def call(comm):
        x = torch.full((3,), comm.rank + 0.5)
        _collectives.tree_sum_(comm, x)
        return x.tolist()

    assert run_threads(call, 2) == [[2.0] * 3] * 2


def test_no_pickle_is_sent():
    """What comes is read as JSON, or is bytes."""
    pickled = pickle.dumps({"a": 1})

    class Wire(Verbs):
        def broadcast_(self, array, root=0):
            array[:] = (len(pickled), 0) if array.shape == (2,) else _collectives._packed(pickled)

    def call(comm):
        return _collectives.broadcast_object(comm, None, 1 - comm.rank)

    with pytest.raises(ValueError, match=r"codec can't decode|Expecting value"):
        run_threads(call, 2, Wire)


# ---------------------------------------------------------------------------- from rank 0


@pytest.mark.parametrize(
    "error",
    [
        TypeError("a"), KeyError("a key"), PermissionError(13, "Permission denied", "f"),
        NotADirectoryError("no folder"), FloatingPointError("nan"), CheckpointError("damaged"),
        ModuleNotFoundError("no h5py"), ValueError("x"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_error_of_rank_0_is_of_one_class_on_all(error):
    def call(comm):
        def fail():
            raise error

        with pytest.raises(type(error)) as caught:
            by_rank_0(comm, fail)
        return type(caught.value), str(caught.value)

    found = run_threads(call, 3)
    assert found[0] == (type(error), str(error))
    assert len(set(found)) == 1


def test_arrays_of_rank_0_come_whole():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = {
        "big": np.arange(3, dtype=">f4"), "yes": np.array([True, False]), "one": np.float16(2.5),
        "half": np.ones((2, 3), ml_dtypes.bfloat16), "empty": np.zeros((0, 2), np.int8),
        "of": [True, None, 1.5, "x", {"step": np.array(3)}],
    }  # fmt: skip

    def call(comm):
        return sent(comm, value if comm.rank == 0 else None)

    for found in run_threads(call, 2):
        assert found.keys() == value.keys()
        for name in ("big", "yes", "half", "empty"):
            np.testing.assert_array_equal(found[name], value[name])
            assert found[name].dtype == value[name].dtype or name == "big"
        assert found["of"][:4] == value["of"][:4]
        assert int(found["of"][4]["step"]) == 3
