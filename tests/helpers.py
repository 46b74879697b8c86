"""Shared by the tests: comparisons that name the worst element, layouts, canaries."""

import itertools

import numpy as np
import pytest
from cases import BFLOAT16, CASES, DTYPES, as_float64, computing, label_of
from cases.activations import FORMS
from cases.optimizers import VARIANTS
from onepass import _C
from onepass.ops._declare_update import RULES

CASE_IDS = [case.name for case in CASES]
DTYPE_IDS = [dtype.name for dtype in DTYPES]
FORM_IDS = ["-".join(filter(None, [a.name, label_of(form.options)])) for a, form in FORMS]
SWEEPS = [(variant, options) for variant in VARIANTS for options in variant.sweep]
SWEEP_IDS = [f"{variant.record.cls.__name__}-{options}" for variant, options in SWEEPS]

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=[v.label for v in VARIANTS])
each_sweep = pytest.mark.parametrize(("variant", "sweep"), SWEEPS, ids=SWEEP_IDS)
each_form = pytest.mark.parametrize(("record", "form"), FORMS, ids=FORM_IDS)


class Extent:
    """How much of what rows ask for is run."""

    whole = False  # with --all-cases


def sweep(case, shapes=None, options=None, *, dtype=None):
    """(label, shape, options) of everything a row asks for; with ``dtype`` the part of a test over
    every dtype that belongs to this one: each two of shape, options and dtype meet in some part.
    With --all-cases every part is everything."""
    shapes, options = shapes or case.shapes, options or case.options
    for (i, shape), (j, option) in itertools.product(enumerate(shapes), enumerate(options)):
        if dtype is None or Extent.whole or _meet(i, j, len(shapes), len(options), dtype):
            yield f"{case.name}{shape} {option}", shape, option


def _meet(i, j, shapes, options, dtype):
    count, turn = len(DTYPES), DTYPES.index(dtype)
    return (
        (i + j) % count == turn  # each shape with each option
        or (options < count and j == (i + turn) % options)  # too few to meet this dtype above
        or (shapes < count and i == (j + turn) % shapes)
    )


def flat(results):
    """Results with lists taken apart: a flat list of arrays, numbers and None."""
    parts = [r if isinstance(r, list) else [r] for r in results]
    return list(itertools.chain.from_iterable(parts))


def copied(inputs):
    return tuple(
        [None if a is None else a.copy() for a in v]
        if isinstance(v, list)
        else v.copy()
        if hasattr(v, "copy")
        else v
        for v in inputs
    )


def mapped(function, inputs):
    """function applied to every array of inputs, also inside lists."""
    return tuple(
        [None if a is None else function(a) for a in v]
        if isinstance(v, list)
        else function(v)
        if isinstance(v, np.ndarray)
        else v
        for v in inputs
    )


def bits(array):
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.itemsize}")


def assert_same(got, want, label=""):
    """Equal bit for bit: dtype, shape, every element, the sign of zeros and the payload of NaN."""
    if want is None or got is None:
        assert got is want, f"{label}: got {got!r}, want {want!r}"
        return
    got, want = np.asarray(got), np.asarray(want)
    given, wanted = f"{got.dtype}{got.shape}", f"{want.dtype}{want.shape}"
    assert given == wanted, f"{label}: got {given}, want {wanted}"
    wrong = np.flatnonzero(bits(got).ravel() != bits(want).ravel())
    assert wrong.size == 0, (
        f"{label}: {wrong.size} of {want.size} elements differ, the first at {wrong[0]}: "
        f"got {got.ravel()[wrong[0]]}, want {want.ravel()[wrong[0]]}"
    )


def assert_all_same(got, want, label=""):
    got, want = flat(got), flat(want)
    assert len(got) == len(want), f"{label}: {len(got)} results, want {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert_same(g, w, f"{label} result {i}")


def assert_close(got, want, tolerance, dtype, label=""):
    """Every element of got within the row's tolerance of the float64 want."""
    if want is None:
        assert got is None, f"{label}: got {got!r}, want None"
        return
    got, want = np.asarray(got), np.asanyarray(want, np.float64)  # a Bounded brings its bound
    assert got.shape == want.shape, f"{label}: got shape {got.shape}, want {want.shape}"
    stored = got.dtype if got.dtype.itemsize <= np.dtype(dtype).itemsize else np.dtype(dtype)
    if want.ndim:
        stored = got.dtype
    wide = as_float64(got)
    with np.errstate(invalid="ignore"):
        error = np.abs(wide - np.asarray(want))
        limit = tolerance.bound(want, stored, computing(dtype))
        bad = ~(error <= limit)
    bad &= ~((wide == want) | (np.isnan(wide) & np.isnan(want)))
    if bad.any():
        at = np.unravel_index(np.nanargmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1)),
                              want.shape)  # fmt: skip
        limit = np.broadcast_to(limit, want.shape)
        raise AssertionError(
            f"{label} {np.dtype(dtype).name}: {bad.sum()} of {want.size} elements off; at {at} got "
            f"{wide[at]!r}, want {want[at]!r}, error {error[at]:.3g}, allowed {limit[at]:.3g}"
        )


def assert_all_close(got, want, tolerance, dtype, label=""):
    got, want = flat(got), flat(want)
    assert len(got) == len(want), f"{label}: {len(got)} results, want {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert_close(g, w, tolerance, dtype, f"{label} result {i}")


# ---------------------------------------------------------------------------------------- layouts
# Each gives an array equal to `a` that lies differently in memory, filled around with canaries.

CANARY = 0xA5


class Layout:
    """An array equal to `a` inside a larger buffer of canaries; `check` says whether they live."""

    def __init__(self, a, name):
        self.name = name
        axes = list(range(a.ndim))
        steps, reverse, lead = [1] * a.ndim, False, 64
        if name == "fortran":
            axes = axes[::-1]
        elif name == "channels_last" and a.ndim > 2:
            axes = [0, *axes[2:], 1]
        elif name == "step" and a.ndim:
            steps[-1] = 2
        elif name == "rows" and a.ndim:
            steps[0] = 3
        elif name == "reversed":
            reverse = True
        elif name == "offset":
            lead = 64 + a.itemsize
        elif name == "misaligned":
            lead = 65
        room = [a.shape[i] * steps[i] for i in axes]
        size = int(np.prod(room)) * a.itemsize
        self.buffer = np.full(lead + size + 64, CANARY, np.uint8)
        view = self.buffer[lead : lead + size].view(a.dtype).reshape(room)
        view = view.transpose(np.argsort(axes)) if axes else view
        self.view = view[tuple(slice(None, None, -s if reverse else s) for s in steps)]
        if not a.ndim:
            self.view = view
        self.view[...] = self.initial = a
        self.before = self.buffer.copy()

    def check(self, label):
        """No byte outside the view has changed. The view itself goes back to its first values."""
        self.view[...] = self.initial
        changed = np.flatnonzero(self.buffer != self.before)
        assert changed.size == 0, f"{label}: {changed.size} bytes written outside the view"


LAYOUTS = ["fortran", "channels_last", "step", "rows", "reversed", "offset", "misaligned"]


# ------------------------------------------------------------------------------------------ torch


def to_torch(array):
    """A tensor on the same memory."""
    import torch

    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(tensor):
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


# ---- the border


def values(shape, dtype=np.float32):
    """Different numbers of both signs, none of them zero."""
    size = int(np.prod(shape))
    return (np.arange(size) - size / 2 + 0.25).astype(dtype).reshape(shape)


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


def shifted(array, offset):
    """A copy that begins `offset` bytes behind a multiple of 64."""
    room = np.zeros(array.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def row_of(kernel, *values):
    """A row of hyper-parameters for a plan: the first of them, and the formula as in PyTorch."""
    rule = RULES[kernel]
    names = next(k["hyper"] for k in _C.kernels() if k["name"] == kernel)
    rest = {"bias_correction": True, **dict.fromkeys(rule.switches, False), **rule.decided}
    rest |= rule.compat["torch"]
    return (*values, *(float(rest[n]) for n in names[len(values) :] if n != "step"))
