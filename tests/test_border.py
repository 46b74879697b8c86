"""The border between Python and the kernels: which arrays get through, as what, and which do not.

test_errors.py holds the wrong calls of the public functions; here are the things only `_C` sees:
protocols, views, alignment, overlap, references, and the plan of an optimizer step.
"""

import contextlib
import ctypes
import gc
import itertools
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest
from onepass import _C

HYPER = ((0.1, 0.9, 0.999, 1e-8, 0.01),)


def values(shape, dtype=np.float32):
    size = int(np.prod(shape))
    return (np.arange(size) - size / 2 + 0.25).astype(dtype).reshape(shape)


relu = _C.activation["relu"]


# ---- protocols


class Exported:
    """An array of another library: only DLPack, of the version that is asked for."""

    def __init__(self, array, device=(1, 0), versioned=True):
        self.array, self.device, self.versioned, self.asked = array, device, versioned, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **options):
        self.asked.append(options)
        if "max_version" in options and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack(versioned):
    x = Exported(values((3, 4)), versioned=versioned)
    out = np.zeros((3, 4), np.float32)
    assert np.array_equal(relu(x, out), np.maximum(x.array, 0))
    assert x.asked == [{"max_version": (1, 0)}] + [{}] * (not versioned)
    target = Exported(np.zeros((3, 4), np.float32), versioned=versioned)
    assert np.array_equal(relu(x, target).array, out)


def test_dlpack_strides_are_counted_in_elements():
    x = values((4, 6))
    out = np.zeros((6, 4), np.float32)
    relu(Exported(x[::-1].T), Exported(out))
    assert np.array_equal(out, np.maximum(x[::-1].T, 0))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy exports no flag")
def test_dlpack_read_only_flag_is_honoured():
    frozen = values(4)
    frozen.setflags(write=False)
    relu(Exported(frozen), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="relu: 'out' is read-only"):
        relu(values(4), Exported(frozen))


def test_errors_of_a_producer_are_told():
    class Broken(Exported):
        def __dlpack__(self, **options):
            raise BufferError("no memory today\nand a backtrace")

    with pytest.raises(TypeError, match=r"^relu: 'x' cannot be read: no memory today$"):
        relu(Broken(values(3)), np.zeros(3, np.float32))


class Lie(ctypes.Structure):
    """A DLManagedTensor before DLPack 1.0."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


@pytest.mark.parametrize(
    ("shape", "ndim", "null"),
    [((3,), 1, True), ((-1,), 1, False), ((2**32, 2**32), 2, False), ((2**61, 2), 2, False),
     ((3,), 65, False), ((3,), -1, False)],
)  # fmt: skip
@pytest.mark.parametrize("strided", [True, False])
def test_producers_that_describe_impossible_memory(shape, ndim, null, strided):
    memory, dims = np.zeros(4, np.float32), (ctypes.c_int64 * 128)(*shape)
    ones = (ctypes.c_int64 * 128)(1, 1)
    strides = ctypes.addressof(ones) if strided else None
    lie = Lie(None if null else memory.ctypes.data, (1, 0), ndim, 2, 32, 1,
              ctypes.addressof(dims), strides)  # fmt: skip
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    class Liar:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, max_version=None):
            return make(ctypes.addressof(lie), b"dltensor", None)

    with pytest.raises(TypeError, match=r"'x' of type .*Liar describes memory that cannot be"):
        relu(Liar(), memory)


def test_devices_must_agree_and_be_usable():
    cpu, cuda, other = values(4), Exported(values(4), (2, 0)), Exported(values(4), (8, 0))
    with pytest.raises(TypeError, match=r"'\w+' lies on .* but '\w+' on .*; move them"):
        relu(cpu, cuda)
    with pytest.raises(TypeError, match="neither CPU nor CUDA"):
        relu(other, cpu)
    from onepass import config

    if not config.cuda_available():
        with pytest.raises(RuntimeError, match=r"CUDA device, but CUDA is not usable: .+"):
            relu(cuda, cuda)
        assert cuda.asked == []  # nothing was exported for it


def test_cuda_array_interface_without_cuda():
    from onepass import config

    class OnCuda:
        __cuda_array_interface__: ClassVar = {"shape": (3,), "typestr": "<f4", "data": (8, False)}

    if config.cuda_available():
        pytest.skip("a made-up device pointer must not reach CUDA")
    with pytest.raises(RuntimeError, match="CUDA"):
        relu(OnCuda(), OnCuda())


@pytest.mark.parametrize("said", ["x", 3, (1,), ("a", 0), (2**40, 0), None])
def test_producers_that_do_not_know_their_device(said):
    class Lost:
        def __dlpack_device__(self):
            return said

        def __dlpack__(self, **options):
            raise AssertionError("where would that be?")

    with pytest.raises(TypeError, match=r"'x' of type .*Lost describes memory that cannot be"):
        relu(Lost(), None)


def test_cuda_array_interface_is_the_objects():
    """A type may serve both devices, and an object may have the interface alone."""

    class Both(Exported):
        @property
        def __cuda_array_interface__(self):
            raise AttributeError("not on CUDA")

    x = values(5)
    out = np.zeros_like(x)
    relu(Both(x, (1, 0)), out)
    assert np.array_equal(out, np.maximum(x, 0))

    class Bare:
        pass

    bare = Bare()
    with pytest.raises(TypeError, match="expected an array"):
        relu(bare, out)
    bare.__cuda_array_interface__ = {"shape": (5,), "typestr": "<f4", "data": (0, False)}
    from onepass import config

    if not config.cuda_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            relu(bare, out)


def test_numpy_subclasses(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 5))
    x[:] = values((3, 5))
    assert np.array_equal(relu(x, np.zeros_like(x)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="MaskedArray"):
        relu(np.ma.masked_array(values(3), [0, 1, 0]), np.zeros(3, np.float32))


def test_bfloat16_by_the_name_of_its_dtype():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = values(40, ml_dtypes.bfloat16)
    assert np.array_equal(relu(x, np.zeros_like(x)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="float8"):
        relu(x.astype(ml_dtypes.float8_e4m3fn), x)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int32", "int64", "complex64", "longdouble", ">f4", "O"],
)
def test_dtypes_that_are_refused(dtype):
    x = np.zeros(3, dtype)
    with pytest.raises(TypeError, match=r"^relu: 'x' has dtype .*expected float32, float64"):
        relu(x, x)


# ---- views, alignment

VIEWS = {
    "transposed": lambda a: a.T,
    "every other": lambda a: a[::2, 1::2],
    "reversed": lambda a: a[::-1],
    "both reversed": lambda a: a[::-1, ::-1],
    "column": lambda a: a[:, 3],
    "one element": lambda a: a[2:3, 1:2],
    "empty": lambda a: a[:, :0],
    "0-d": lambda a: a[3, 4, ...],
    "cube": lambda a: a.reshape(4, 3, 2, 4).transpose(2, 0, 3, 1),
    "new axes": lambda a: a[:, None, ::3, None],
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("of_x", VIEWS)
@pytest.mark.parametrize("of_out", VIEWS)
def test_views(of_x, of_out, dtype):
    x = VIEWS[of_x](values((12, 8), dtype))
    base = np.full((12, 8), 7, dtype)
    want = base.copy()
    out = VIEWS[of_out](base)
    if out.shape != x.shape:
        out = np.full(x.shape[::-1], 7, dtype).T
    else:
        VIEWS[of_out](want)[...] = np.maximum(x, 0)
    relu(x, out)
    assert np.array_equal(out, np.maximum(x, 0))
    assert out.base is not base or np.array_equal(base, want)  # nothing beside the view


def test_broadcast_input():
    x = np.broadcast_to(values(5), (3, 5))
    assert np.array_equal(relu(x, np.zeros((3, 5), np.float32)), np.maximum(x, 0))


def test_dimensions():
    deep = np.zeros((2,) * 24, np.float16)
    relu(deep, deep)  # dense: one run
    even = np.zeros((4,) * 11, np.float16)[(slice(None, None, 2),) * 11]
    assert np.array_equal(relu(even, np.ones_like(even, order="C")), even)
    gaps = [2 * 3**i for i in reversed(range(17))]  # no two dimensions merge
    deep = np.lib.stride_tricks.as_strided(np.zeros(3**17 // 2 + 1, np.float16), (2,) * 17, gaps)
    with pytest.raises(ValueError, match="needs 17 dimensions after merging, at most 16"):
        relu(deep, np.zeros((2,) * 17, np.float16))


def shifted(array, offset):
    """A copy that begins `offset` bytes behind a multiple of 64."""
    room = np.zeros(array.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("offset", range(1, 16))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_misaligned(offset, dtype):
    x = shifted(values((5, 7), dtype), offset)
    for out in (np.zeros((5, 7), dtype), shifted(np.zeros((5, 7), dtype), offset), x):
        want = np.maximum(x, 0)
        assert np.array_equal(relu(x, out), want)


def records(dtype):
    return np.zeros(9, np.dtype([("pad", "u1"), ("x", dtype), ("y", dtype)]))


def test_strides_that_are_no_multiple_of_the_item():
    table = records("f4")
    table["x"], table["y"], table["pad"] = values(9), 5, 3
    relu(table["x"], table["y"])
    assert np.array_equal(table["y"], np.maximum(values(9), 0))
    assert np.array_equal(table["x"], values(9))
    assert (table["pad"] == 3).all()


# ---- overlap


def line(base, start, count, step):
    return (
        base[start : start + count * step : step]
        if step > 0
        else base[start : (start + count * step) if start + count * step >= 0 else None : step]
    )


def test_overlap_of_lines():
    """Every pair of equally long lines in a small buffer, against the elements they consist of."""
    where = np.arange(12)
    lines = [(s, n, t) for n in (1, 2, 3, 4) for t in (-3, -2, -1, 1, 2, 3) for s in range(12)
             if 0 <= s + (n - 1) * t < 12]  # fmt: skip
    seen = {True: 0, False: 0}
    for a, b in itertools.product(lines, lines):
        if a[1] != b[1]:
            continue
        one, other = line(where, *a), line(where, *b)
        alias = np.array_equal(one, other)
        shared = bool(set(one.tolist()) & set(other.tolist())) and not alias
        base = values(12)
        x, out = line(base, *a), line(base, *b)
        if shared:
            before = base.copy()
            with pytest.raises(ValueError, match="'out' overlaps 'x' in memory"):
                relu(x, out)
            assert np.array_equal(base, before)
        else:
            want = np.maximum(x, 0)
            assert np.array_equal(relu(x, out), want)
        seen[shared] += 1
    assert min(seen.values()) > 500


def test_overlap_of_blocks():
    rng = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for _ in range(3000):
        base = values((8, 9))
        h, w = rng.integers(1, 5, 2)
        (i, k), (j, m) = rng.integers(0, 8 - h + 1, 2), rng.integers(0, 9 - w + 1, 2)
        x, out = base[i : i + h, j : j + w], base[k : k + h, m : m + w]
        if rng.integers(2) and h == w:
            out = out.T
        alias = x.ctypes.data == out.ctypes.data and (x.strides == out.strides or x.size == 1)
        shared = np.shares_memory(x, out) and not alias
        try:
            relu(x, out)
            refused = False
        except ValueError:
            refused = True
        assert refused == shared, (x.strides, out.strides, i, j, k, m, h, w)
        seen[shared] += 1
    assert min(seen.values()) > 300


def test_outputs_that_overlap_themselves():
    window = np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 4), (4, 8))
    with pytest.raises(ValueError, match="'out' overlaps itself"):
        relu(np.zeros((3, 4), np.float32), window)
    flat = np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 4), (0, 4))
    with pytest.raises(ValueError, match="'out' has stride 0 along axis 0"):
        relu(np.zeros((3, 4), np.float32), flat)


def test_two_outputs_may_not_be_one_array():
    x, d, m = values((4, 3)), np.zeros(3, np.float32), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="'running_mean' overlaps 'running_var'"):
        _C.batch_norm(x, d, d, m, m[:], None, None, 1, True, 0.1, 1e-5, "relu", (), 0.0, 0, 0)


# ---- per-channel calls


def test_channel_vectors_may_be_strided():
    x = values((4, 3))
    results = []
    for step in (1, 2, -1):
        mean, var, weight = (np.zeros(6, np.float32)[::step][:3] for _ in range(3))
        weight[:] = [1, -2, 3]
        y, _ = _C.batch_norm(
            x, weight, None, mean, var, None, None, 1, True, 0.1, 1e-5, "tanh", (), 0.0, 0, 0
        )
        results.append((y, mean.copy(), var.copy()))
    for y, mean, var in results[1:]:
        assert np.array_equal(y, results[0][0])
        assert np.array_equal(mean, results[0][1])
        assert mean.any()
        assert np.array_equal(var, results[0][2])
        assert var.any()


def test_labels_of_every_integer_type():
    logits, want = values((3, 4)), None
    for dtype in "bhilqBHILQ":
        loss, got = _C.cross_entropy(
            logits, np.array([0, 3, 1], dtype), None, None, 0.0, -100, "sum"
        )
        want = want or (loss, got)
        assert loss == want[0]
        assert np.array_equal(got, want[1])


@pytest.mark.parametrize("label", [-1, 4, 2**63 - 1, -(2**63)])
def test_labels_out_of_range(label):
    dlogits = np.full((2, 4, 3), 7, np.float32)
    target = np.zeros((2, 3), np.int64)
    target[1, 2] = label
    with pytest.raises(
        IndexError, match=rf"'target' holds {label} at \(1, 2\), expected 0 <= label < 4"
    ):
        _C.cross_entropy(values((2, 4, 3)), target, None, dlogits, 0.0, -100, "mean")
    assert (dlogits == 7).all()
    _C.cross_entropy(values((2, 4, 3)), target, None, dlogits, 0.0, label, "mean")


def test_unsigned_label_beyond_int64():
    with pytest.raises(IndexError, match="'target' holds"):
        _C.cross_entropy(
            values((1, 4)), np.array([2**64 - 100], np.uint64), None, None, 0.0, -100, "mean"
        )


# ---- references


def test_no_reference_is_kept():
    x, out, label = values((3, 4)), np.zeros((3, 4), np.float32), np.zeros(3, np.int32)
    exported = Exported(values((3, 4)))
    vector = np.ones(4, np.float32)
    strided = np.zeros(8, np.float32)[::2]
    held = [x, out, label, vector, strided, exported.array, np.float32, np.ndarray, Exported]

    def calls():
        relu(x, out)
        relu(exported, out)
        _C.dropout(x, out, 0.5, 1, 2)
        _C.bias_act(x, strided, out, 1, "relu", (), 0.5, 1, 2)
        for made in (out, None):
            inputs = [x, vector, None, strided, strided.copy(), x.copy(order="F"), made]
            y, saved = _C.batch_norm(*inputs, 1, True, 0.1, 1e-5, "leaky_relu", (0.1,), 0.0, 0, 0)
            _C.batch_norm_backward(y, *saved, None)
            _C.cross_entropy(x, label, None, made, 0.0, -100, "mean")
            _C.bias_act_backward(x, x, vector, made, 1, "relu", (), 0.5, 1, 2)
            relu(x, made)
        _C.global_norm([x, out, x], 2)
        plan = _C.Plan("sgd", [out], [None], [0])
        plan.step([x], (TENTH,), 1.0, None, 1.0, True, False, False, True)
        for wrong in ([1], "x", x.astype(int), x.T):
            with contextlib.suppress(TypeError, ValueError):
                relu(x, wrong)
                raise AssertionError(wrong)
        exported.asked.clear()

    for _ in range(100):
        calls()
    gc.collect()
    before, blocks = [sys.getrefcount(h) for h in held], sys.getallocatedblocks()
    for _ in range(10_000):
        calls()
    gc.collect()
    assert [sys.getrefcount(h) for h in held] == before
    assert abs(sys.getallocatedblocks() - blocks) < 2000  # a leak would be 10,000 or more


def test_a_plan_holds_its_parameters_and_no_gradient():
    param, grad = np.ones(3, np.float32), np.ones(3, np.float32)
    before = sys.getrefcount(param), sys.getrefcount(grad)
    plan = _C.Plan("sgd", [param], [None], [0])
    plan.step([grad], (TENTH,), 1.0, None, None, False, False, False, True)
    assert sys.getrefcount(param) == before[0] + 1
    assert sys.getrefcount(grad) == before[1]
    del plan
    assert sys.getrefcount(param) == before[0]


# ---- the plan


def adamw(params, **options):
    states = [[np.zeros_like(p) for p in params] for _ in range(2)]
    return _C.Plan("adamw", params, [*states, None], [0] * len(params)), states


PLAIN, TENTH = (1.0, 0, 0, 0, 0), (0.1, 0, 0, 0, 0)  # SGD's


def run(plan, grads, hyper=HYPER, *, unscale=1.0, max_value=None, max_norm=None, check=False,
        zero=False, maximize=False):  # fmt: skip
    return plan.step(grads, hyper, unscale, max_value, max_norm, check, zero, maximize, True)


def test_a_refused_step_changes_nothing_and_the_next_one_is_right():
    wrong = {
        "shape": np.ones((3, 2), np.float32),
        "dtype": np.ones((2, 3), np.float64),
        "integers": np.ones((2, 3), np.int64),
        "list": [[1.0] * 3] * 2,
        "device": Exported(np.ones((2, 3), np.float32), (2, 0)),
    }
    params = [values(4), values((2, 3))]
    plan, states = adamw(params)
    twins = [p.copy() for p in params]
    twin, _ = adamw(twins)
    grads = [np.ones_like(p) for p in params]
    for label, bad in {**wrong, "parameter": params[1], "state": states[0][1]}.items():
        run(plan, grads)
        run(twin, grads)
        before = [p.copy() for p in params], plan.steps
        with pytest.raises((TypeError, ValueError), match=r"^adamw: 'grads\[1\]'"):
            run(plan, [grads[0], bad])
        with pytest.raises((TypeError, ValueError), match=r"^adamw: 'grads\[1\]'"):
            run(plan, [grads[0], bad])  # nor is it accepted the second time
        assert plan.steps == before[1], label
        for got, want in zip(params, before[0], strict=True):
            assert np.array_equal(got, want), label
    run(plan, grads)
    run(twin, grads)
    for got, want in zip(params, twins, strict=True):
        assert np.array_equal(got, want)


def test_gradients_may_change_in_every_way_between_steps():
    rng = np.random.default_rng(1)
    params = [rng.standard_normal((6, 5), np.float32) for _ in range(3)]
    twins = [p.copy() for p in params]
    plan, states = adamw(params)
    twin, twin_states = adamw(twins)
    for step in range(12):
        grads = [rng.standard_normal((6, 5), np.float32) for _ in params]
        layouts = [
            lambda g: g,
            np.asfortranarray,
            lambda g: np.repeat(g, 2, 1)[:, ::2],
            lambda g: g[::-1].copy()[::-1],
            lambda g: shifted(g, 3),
            lambda g: None,
        ]
        given = [layouts[(step + i * 5) % 6](g) for i, g in enumerate(grads)]
        run(plan, given)
        run(twin, [None if g is None else np.ascontiguousarray(g) for g in given])
        assert plan.steps == twin.steps
    assert len(set(plan.steps)) == 1
    assert plan.steps[0] == 10
    for got, want in zip(
        params + states[0] + states[1], twins + twin_states[0] + twin_states[1], strict=True
    ):
        assert np.array_equal(got, want)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: shifted(a, 1),
                                    lambda a: np.repeat(a, 3, 0)[::3]])  # fmt: skip
def test_parameters_of_any_layout(layout):
    want = values((4, 6))
    plan, _ = adamw([want])
    base = layout(values((4, 6)))
    assert base.shape == want.shape
    odd = _C.Plan(
        "adamw", [base], [*([layout(np.zeros((4, 6), np.float32))] for _ in "mv"), None], [0]
    )
    for _ in range(3):
        run(plan, [values((4, 6))], max_norm=1.0)
        run(odd, [values((4, 6))], max_norm=1.0)
    assert np.array_equal(base, want)


def test_views_of_one_buffer_are_parameters():
    table = values((6, 10))
    columns = [table[:, :4], table[:, 4:7], table[:, 7:]]
    want = [np.ascontiguousarray(c) for c in columns]
    grads = [np.ones_like(w) for w in want]
    run(adamw(columns)[0], grads)
    run(adamw(want)[0], grads)
    for got, wanted in zip(columns, want, strict=True):
        assert np.array_equal(got, wanted)
    with pytest.raises(ValueError, match=r"'params\[1\]' overlaps 'params\[0\]'"):
        adamw([table[:, :4], table[:, 3:7]])
    with pytest.raises(ValueError, match=r"'params\[1\]' is the same array as 'params\[0\]'"):
        adamw([table, table])


def test_a_plan_that_was_never_made():
    empty = _C.Plan.__new__(_C.Plan)
    for use in (lambda: run(empty, []), lambda: empty.steps):
        with pytest.raises(TypeError, match="not initialised"):
            use()


def test_what_a_plan_refuses():
    p = values((2, 3))
    frozen = values((2, 3))
    frozen.setflags(write=False)
    state = np.zeros_like(p)
    for call, message in [
        (lambda: _C.Plan("adamm", [p], [], [0]), "kernel is 'adamm', expected one of .*adamw"),
        (lambda: _C.Plan("sgd", [frozen], [None], [0]), r"'params\[0\]' is read-only"),
        (
            lambda: _C.Plan("sgd", [np.broadcast_to(values(3), (2, 3))], [None], [0]),
            "read-only|stride 0",
        ),
        (lambda: _C.Plan("sgd", [p], [None], [0, 0]), "'groups' has 2 entries, expected 1"),
        (lambda: _C.Plan("sgd", [p], [None], [-1]), r"groups\[0\] is -1"),
        (lambda: _C.Plan("sgd", [p], [], [0]), "'states' has 0 lists, expected 1"),
        (lambda: _C.Plan("sgd", [p], [[]], [0]), "'momentum_buffers' has 0 entries"),
        (
            lambda: _C.Plan("sgd", [p], [[values(6)]], [0]),
            r"'momentum_buffers\[0\]' has shape",
        ),
        (lambda: _C.Plan("sgd", [p], [[p]], [0]), "is the same array as"),
        (lambda: setattr(_C.Plan("sgd", [p], [None], [0]), "steps", [-1]), r"steps\[0\] is -1"),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [state], ()),
            "'hyper' has 0 groups, expected 1",
        ),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [state], ((1.0,),)),
            r"hyper\[0\] has 1 values",
        ),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [], ((1.0, 0, 0, 0, 0),)),
            "'grads' has 0 entries",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"'momentum_buffers\[0\]' has dtype float64"):
        _C.Plan("sgd", [p], [[np.zeros((2, 3))]], [0])
    with pytest.raises(TypeError, match="'exp_avg_sqs' is None, expected a list of arrays"):
        _C.Plan("adamw", [p], [[state], None, None], [0])
    assert np.array_equal(p, values((2, 3)))


def test_steps_are_counted_where_there_is_a_gradient():
    params = [values(3), values(4)]
    plan, _ = adamw(params)
    run(plan, [None, np.ones(4, np.float32)])
    run(plan, [np.ones(3, np.float32), np.ones(4, np.float32)])
    assert plan.steps == [1, 2]
    plan.steps = [5, 2**40]
    assert plan.steps == [5, 2**40]
    alone = [values(3)]
    other, _ = adamw(alone)
    run(other, [np.ones(3, np.float32)])
    assert np.array_equal(alone[0], params[0])


def test_a_skipped_step():
    params = [values(3), values(4)]
    plan, states = adamw(params)
    run(plan, [np.ones_like(p) for p in params])
    before = [a.copy() for a in params + states[0] + states[1]]
    grads = [np.ones(3, np.float32), np.array([1, np.inf, 1, 1], np.float32)]
    assert run(plan, grads, check=True) == (True, None, 1)
    assert run(plan, [None, grads[1]], check=True, zero=True) == (True, None, 1)
    assert (grads[1] == 0).all()
    assert (grads[0] == 1).all()
    assert plan.steps == [1, 1]
    for got, want in zip(params + states[0] + states[1], before, strict=True):
        assert np.array_equal(got, want)
    assert run(plan, grads, check=True) == (False, None, None)


def test_norm_clip_unscale_and_maximize():
    param, grad = np.zeros(2, np.float32), np.array([6, 8], np.float32)
    sgd = _C.Plan("sgd", [param], [None], [0])
    hyper = (PLAIN,)
    assert run(sgd, [grad], hyper, unscale=0.5, max_norm=1.0) == (False, 5.0, None)
    assert np.allclose(param, [-0.6, -0.8])
    param[:] = 0
    assert run(sgd, [grad], hyper, max_value=3.0, max_norm=1.0, maximize=True)[1] == 10.0
    assert np.allclose(param, [0.5**0.5] * 2)
    param[:] = 0
    assert run(sgd, [grad], hyper, max_norm=100.0, zero=True)[1] == 10.0
    assert np.array_equal(param, [-6, -8])
    assert not grad.any()


def test_zeroed_gradients_may_not_be_shared():
    params = [values(3), values(3)]
    plan, _ = adamw(params)
    grad = np.ones(3, np.float32)
    run(plan, [grad, grad])
    with pytest.raises(ValueError, match=r"'grads\[1\]' is the same array as 'grads\[0\]'"):
        run(plan, [grad, grad], zero=True)
    grad.setflags(write=False)
    run(plan, [grad, grad])
    with pytest.raises(ValueError, match=r"'grads\[0\]' is read-only"):
        run(plan, [grad, None], zero=True)


def test_arrays_that_change_under_the_plan():
    params = [values(6)]
    plan, states = adamw(params)
    grad = np.ones(6, np.float32)
    run(plan, [grad])
    params[0].setflags(write=False)
    before = params[0].copy()
    with pytest.raises(ValueError, match=r"'params\[0\]' is read-only"):
        run(plan, [grad])
    params[0].setflags(write=True)
    assert np.array_equal(params[0], before)
    params[0].shape = (2, 3)
    with pytest.raises(ValueError, match="expected \\(2, 3\\) like 'params\\[0\\]'"):
        run(plan, [grad])
    for array in (grad, states[0][0], states[1][0]):
        array.shape = (2, 3)
    run(plan, [grad])
    assert plan.steps == [2]


def test_two_threads_do_not_share_a_plan():
    params = [np.zeros(1 << 22, np.float32)]
    plan, _ = adamw(params)
    grads = [np.ones(1 << 22, np.float32)]
    failures = []

    def steps():
        for _ in range(10):
            try:
                run(plan, grads)
            except RuntimeError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plan.steps == [40 - len(failures)]
    assert all("another thread is running a step of this plan" in f for f in failures)


# ---- PyTorch


def test_torch_views_and_parameters():
    torch = pytest.importorskip("torch")
    x = torch.linspace(-2, 2, 24).reshape(4, 6)
    for view in (x, x.T, x[::2, 1:], x.expand(3, 4, 6), x.to(torch.bfloat16), x.double(), x.half()):
        out = torch.empty_like(view, memory_format=torch.contiguous_format)
        assert torch.equal(relu(view, out), view.relu())
    parameter = torch.nn.Parameter(x.clone())
    assert torch.equal(relu(parameter, torch.empty(4, 6)), x.relu())
    mixed = np.empty((4, 6), np.float32)
    assert np.array_equal(relu(x, mixed), x.relu().numpy())


def test_torch_without_the_exchange_table():
    torch = pytest.importorskip("torch")

    class Older(torch.Tensor):
        __dlpack_c_exchange_api__ = None

    x = torch.linspace(-1, 1, 6).as_subclass(Older).requires_grad_()
    assert torch.equal(relu(x, torch.empty(6)), torch.linspace(-1, 1, 6).relu())
    with pytest.raises(TypeError, match="resolve_neg"):
        relu(torch._neg_view(x.detach()), torch.empty(6))


def test_torch_negated_views_are_refused():
    torch = pytest.importorskip("torch")
    z = torch.randn(5, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"'x' is a lazily negated torch tensor; .*resolve_neg"):
        relu(z.conj().imag, torch.empty(5))
    relu(z.imag, torch.empty(5))
    param = torch.zeros(5)
    plan = _C.Plan("sgd", [param], [None], [0])
    # Also where the gradient of the step before was the same in every other respect.
    conjugate, grad = z.conj(), z.imag
    run(plan, [grad], (PLAIN,))
    place = id(grad)
    del grad
    tries = []
    while not tries or (id(tries[-1]) != place and len(tries) < 1000):
        tries.append(conjugate.imag)
    with pytest.raises(TypeError, match="resolve_neg"):
        run(plan, [tries[-1]], (PLAIN,))
    with pytest.raises(TypeError, match="resolve_neg"):
        run(plan, [torch._neg_view(torch.ones(5))], (PLAIN,))


@pytest.mark.parametrize("kind", ["meta", "sparse", "complex", "bool"])
def test_torch_tensors_that_are_refused(kind):
    torch = pytest.importorskip("torch")
    x = {
        "meta": lambda: torch.empty(3, device="meta"),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "complex": lambda: torch.ones(3, dtype=torch.complex64),
        "bool": lambda: torch.ones(3, dtype=torch.bool),
    }[kind]()
    with pytest.raises(
        TypeError, match=r"^relu: 'x' (cannot be read: .|has dtype torch\.)"
    ) as error:
        relu(x, torch.empty(3))
    assert "\n" not in str(error.value)


def test_torch_versions_count_in_place_writes():
    torch = pytest.importorskip("torch")
    x, out = torch.ones(3), torch.zeros(3)

    def bumps(call, *tensors):
        before = [t._version for t in tensors]
        call()
        return [t._version > b for t, b in zip(tensors, before, strict=True)]

    assert bumps(lambda: relu(x, out), x, out) == [False, True]
    with torch.inference_mode():
        relu(x, torch.zeros(3))
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4))]
    plan = _C.Plan("sgd", params, [None], [0, 0])
    grads = [torch.ones(3), None]
    assert bumps(lambda: run(plan, grads, (TENTH,)), *params, grads[0]) == [
        True,
        False,
        False,
    ]
    assert bumps(lambda: run(plan, grads, (TENTH,), zero=True), grads[0]) == [True]
    # What the counter is for: autograd notices that a saved tensor was overwritten.
    leaf = torch.ones(3, requires_grad=True)
    square = leaf.exp()
    loss = (square * square).sum()
    relu(torch.ones(3), square.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_parameters_whose_data_is_swapped():
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.zeros(4))
    plan = _C.Plan("sgd", [param], [None], [0])
    old = param.data
    run(plan, [torch.ones(4)], (PLAIN,))
    param.data = torch.full((4,), 5.0)
    run(plan, [torch.ones(4)], (PLAIN,))
    assert old.tolist() == [-1] * 4
    assert param.tolist() == [4] * 4


def test_numpy_alone_never_imports_torch():
    import subprocess

    code = (
        "import sys, numpy as np, onepass; x = np.ones(3, np.float32);"
        "onepass._C.activation['relu'](x, x);"
        "late = {'torch', 'jax', 'cupy', 'onepass.nn', 'onepass.train'};"
        "sys.exit(bool(late & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- JAX


def test_jax_arrays_are_inputs_only():
    jnp = pytest.importorskip("jax.numpy")
    x = jnp.linspace(-1, 1, 8)
    assert np.array_equal(relu(x, np.empty(8, np.float32)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="'out' is a JAX array, which is immutable"):
        relu(x, x)
