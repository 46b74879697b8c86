"""A row of the table, the bounds of its results, and inputs that rows share."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    BFLOAT16 = None

DTYPES = [np.dtype(d) for d in ("float32", "float64", "float16")]
DTYPES += [BFLOAT16] if BFLOAT16 is not None else []
SIGNIFICAND = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}

quiet = np.errstate(all="ignore")


class Lazily:
    """A module that is imported when an attribute is first read: PyTorch takes seconds."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute in ("__wrapped__", "__file__", "__path__", "__spec__"):  # doctest, inspect
            raise AttributeError(attribute)  # they look, and import nothing
        # torch.compile follows the look-up, and no import.
        module = sys.modules.get(self._name) or importlib.import_module(self._name)
        try:
            return getattr(module, attribute)
        except AttributeError:  # a submodule that nobody has imported yet
            return importlib.import_module(f"{self._name}.{attribute}")


torch, functional = Lazily("torch"), Lazily("torch.nn.functional")


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def computing(dtype) -> np.dtype:
    """float64 for float64; float32 for everything else, the 16-bit types being storage only."""
    return np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")


# ----------------------------------------------------------------------------------------- bounds


def roundings(count: int, *ulps: float) -> float:
    """A relative error in eps: half an eps for each rounding, an eps for each ulp.

    To derive a bound, walk through the formula as the kernel computes it. Count one rounding for
    each + - * / and sqrt whose result is not exact, and one for each constant that is rounded to
    the computing type. A function of core/math.h brings its error in ulp, the larger of the two
    numbers in the comment above it. The square of a value counts its error twice, its root half.
    """
    return (count / 2 + sum(ulps)) * (1 + 1e-6)  # the errors' products are below 1e-6 of them


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """|got - want| <= storage·|want| + eps·(rel·|want| + peak·max|want|) + the smallest number.

    eps is that of the computing type; storage is half a unit in the last place of a 16-bit result
    (0 for the others, whose last rounding is counted in rel).

    rel   derive it with `roundings`, where no sum cancels.
    peak  where a sum cancels, the error is relative to its largest term: count that term's
          roundings here. Inputs are of size 1; of fewer than 64 results even the largest may have
          cancelled, so max|want| is then at least `least`.
    why   the derivation, in words.
    sums  multiplies rel and peak for float64, in which the reference rounds too: its sums over
          many elements have no wider type.
    least as above: √n for sums of n terms, about what they are where they do not cancel.
    """

    rel: float
    peak: float = 0.0
    why: str = ""
    sums: float = 1.0
    least: float = 1.0

    def bound(self, want: np.ndarray, stored: np.dtype, computed: np.dtype) -> np.ndarray:
        if stored.name not in SIGNIFICAND:  # bool, bytes of packed bits
            return np.zeros(want.shape)
        eps = 2.0 ** (1 - SIGNIFICAND[computed.name])
        eps *= self.sums if computed == np.float64 else 1.0
        storage = storage_error(stored)
        size = np.abs(want)
        finite = size[np.isfinite(size)]
        top = max(finite.max(initial=0.0), self.least if finite.size < 64 else 0.0)
        return (storage + eps * self.rel) * size + eps * self.peak * top + SMALLEST[stored.name]


@dataclasses.dataclass(frozen=True)
class Steps:
    """A formula as the kernel computes it: (what, roundings) for each step, in order.

    The roundings are of terms up to the largest one. `eps` adds them up and `why` lists them, so
    that a reader can go through both beside the formula.
    """

    steps: Sequence[tuple[str, int]]

    def __add__(self, others: Steps) -> Steps:
        return Steps([*self.steps, *others.steps])

    @property
    def eps(self) -> float:
        return roundings(sum(count for _, count in self.steps))

    @property
    def why(self) -> str:
        return ", ".join(f"{what} ({count})" for what, count in self.steps)


def fused(before: Steps, own: Sequence[Tolerance], behind: Steps, sums: float = 1.0) -> Tolerance:
    """The bound where an activation follows `before`, and `behind` follows it.

    own   the activations' bounds; the largest counts. No slope exceeds 1.7581, selu's at -0.
    """
    rel, peak = (max(getattr(bound, part) for bound in own) for part in ("rel", "peak"))
    return Tolerance(
        rel + behind.eps,
        peak + 1.7581 * before.eps,
        why=f"roundings of the largest term: {before.why}; the activation's own, {rel:.3g} eps and "
        f"{peak:.3g} of the largest; of the result: {behind.why}",
        sums=sums,
    )


def summed(term: Tolerance) -> Tolerance:
    """The bound of `term`, and of sums over its elements.

    Errors of terms are independent, so n of them add up to √n standard deviations. Terms of both
    signs leave the largest of the sums at about √n of a term as well. So relative to that one the
    error is a term's: k roundings, each anywhere in half an eps, have a standard deviation of
    √(k/12) eps, and we allow four.
    """
    count = 2 * (term.rel + term.peak)
    return dataclasses.replace(
        term,
        peak=term.peak + 4 * math.sqrt(count / 12),
        why=f"{term.why}; sums over a channel: four standard deviations of their terms' errors",
    )


def cancelling(bound: Tolerance) -> Tolerance:
    """The bound of a difference of such terms, of which nothing may be left."""
    why = f"{bound.why}; its terms may cancel"
    return dataclasses.replace(bound, peak=bound.peak + bound.rel, why=why)


def widest(**bounds: Tolerance) -> Tolerance:
    """One bound for results that have different ones, by name."""
    return Tolerance(
        max(bound.rel for bound in bounds.values()),
        max(bound.peak for bound in bounds.values()),
        why=". ".join(f"{name}: {bound.why}" for name, bound in bounds.items()),
        sums=max(bound.sums for bound in bounds.values()),
    )


@dataclasses.dataclass(frozen=True)
class Derived:
    """|got - want| <= storage·|want| + u·roundings + the smallest number.

    u is the unit roundoff of the computing type, and `roundings` what the formula yields for each
    element when `Rounded` evaluates it; in float64 twice that, as the reference rounds as often.
    """

    why: str = "running error analysis: each operation of the formula rounds once (_rounding.py)"

    def bound(self, want: np.ndarray, stored: np.dtype, computed: np.dtype) -> np.ndarray:
        double = computed == np.float64
        u = 2.0 ** -SIGNIFICAND[computed.name] * (1 + 1e-3)  # and products of errors
        size, roundings = np.abs(np.asarray(want)), (1 + double) * want.roundings[int(double)]
        return storage_error(stored) * size + u * roundings + SMALLEST[stored.name]


def storage_error(stored: np.dtype) -> float:
    """Half a unit in the last place of a 16-bit result; other results are not rounded again."""
    return 0.0 if stored.itemsize > 2 else 2.0 ** -SIGNIFICAND[stored.name]


EXACT = Tolerance(0, why="nothing is rounded, or the reference rounds it too")


# ------------------------------------------------------------------------------------------- rows


# A family's group in the benchmark, and whether a row of its results depends on that row of its
# inputs alone; a Case may say of itself that it does not.
FAMILIES = {
    "activation": ("activation", True),
    "channels": ("activation", False),
    "dropout": ("dropout", True),
    "loss": ("loss", False),
    "mask": ("dropout", False),
    "norm": ("norm", False),
    "reduction": ("optim", False),
    "row_norm": ("norm", True),
    "rows": ("activation", True),
    "update": ("optim", True),
    "windows": ("conv", False),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row.

    name         the kernel (a column of the benchmark and the id of its tests)
    family       one of FAMILIES
    op           op(*inputs, **keywords) -> an array or a tuple of arrays; a function of onepass.ops
                 or a thin wrapper around one
    make         make(rng, shape, dtype, **options) -> inputs: arrays, lists of arrays, None
    reference    the same call in float64, where it returns the results and, behind them, the inputs
                 of `written` as they must be afterwards
    torch        the same call on float64 tensors, which judges `reference`; None where PyTorch has
                 no such function
    options      keyword sweeps; a key that starts with "with_" is read by `make` alone
    shapes       for the tests; (N, C, ...) where channels matter, whatever the layout
    bench_shapes, bench_options, bytes(itemsize) -> fewest bytes an element of shape can cost
    rivals       rivals(inputs, keywords) -> {label: function}: what the benchmark times beside
                 `op`, on NumPy's arrays or on tensors of a device. A label starts with the library
    no_rival     why PyTorch is not among the rivals, "" where it is
    both         both(inputs, keywords) -> {label: function} of a backward row: forward and gradient
                 together, "onepass" and its rivals, in the benchmark's workloads; or None
    written      indices of the inputs that are updated in place
    prepare      turns inputs into the arguments of op: a backward runs its forward there
    out, alias   whether op takes `out`, for its first result; which inputs may be that
    sums         over rows, unlike its family: the benchmark then checks fewer rows, not the first
    """

    name: str
    family: str
    op: Callable[..., Any]
    make: Callable[..., tuple]
    reference: Callable[..., Any]
    torch: Callable[..., Any] | None
    tolerance: Tolerance | Derived
    bytes: Callable[[int], float]
    shapes: Sequence[tuple[int, ...]]
    bench_shapes: Sequence[tuple[int, ...]]
    rivals: Callable[[tuple, dict[str, Any]], dict[str, Callable[[], object]]]
    options: Sequence[dict[str, Any]] = ({},)
    bench_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    written: Sequence[int] = ()
    prepare: Callable[..., tuple] = lambda *inputs, **_: inputs
    out: bool = False
    alias: Sequence[int] = ()
    no_rival: str = ""
    both: Callable[[tuple, dict[str, Any]], dict[str, Callable[[], object]]] | None = None
    sums: bool = False

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"{self.name}: family {self.family!r}, expected one of {[*FAMILIES]}")

    @property
    def group(self) -> str:
        """In the benchmark."""
        return FAMILIES[self.family][0]

    @property
    def by_rows(self) -> bool:
        """Whether the first rows of its results depend on the first rows of its inputs alone."""
        return FAMILIES[self.family][1] and not self.sums

    @property
    def elementwise(self) -> bool:
        """Each element by itself, so every backend gives the same bits."""
        return self.family in ("activation", "dropout", "update")

    @property
    def keeps_dtype(self) -> bool:
        """The first result has the dtype of the inputs."""
        if self.name == "depthwise_conv2d_weight_backward":  # long sums
            return False
        return self.family not in ("mask", "loss", "reduction")

    def inputs(self, shape, dtype, options) -> tuple:
        """Fresh inputs, the same at every call."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), *shape])
        return self.make(rng, shape, np.dtype(dtype), **options)

    def run(self, inputs, options, **more) -> tuple:
        """Everything the call gives: the results, then the inputs that it updates."""
        keywords = keywords_of(options)
        got = self.op(*self.prepare(*inputs, **keywords), **keywords, **more)
        results = list(got) if isinstance(got, tuple) else [] if got is None else [got]
        return tuple(results + [inputs[i] for i in self.written])

    def expect(self, inputs, options) -> tuple:
        want = self.reference(*map(as_float64, inputs), **keywords_of(options))
        return tuple(want) if isinstance(want, tuple) else (want,)


def total(terms: np.ndarray, axis: Any) -> np.ndarray:
    """Their sum along axes, rounded once: NumPy adds rows one after another, each time rounding."""
    # Terms of long double keep it: tests/norm_range.py goes beyond double.
    return terms.sum(axis=axis, dtype=np.longdouble).astype(np.result_type(terms, np.float64))


def keywords_of(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if not k.startswith("with_")}


def as_float64(value):
    """Floating arrays, also in lists, widened; anything else as it is. Their dtype remembers the
    one before, see `epsilon`."""
    if isinstance(value, list):
        return [as_float64(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.name in SIGNIFICAND:
        return value.astype(np.dtype(np.float64, metadata={"before": value.dtype.name}))
    return value


def epsilon(value: np.ndarray) -> float:
    """The machine epsilon of an array's dtype, of a widened one that before."""
    return 2.0 ** (1 - SIGNIFICAND[(value.dtype.metadata or {}).get("before", value.dtype.name)])


def label_of(options: dict[str, Any]) -> str:
    """Options as a part of a test's id: "approximate=tanh"."""
    return ",".join(f"{key}={value}" for key, value in options.items())


# ----------------------------------------------------------------------------------------- inputs

SIZES = [0, 1, 3, 15, 16, 17, 31, 33, 63, 65, 1023, 1025, 65539]
SHAPES = [(n,) for n in SIZES] + [(), (3, 5, 7), (4, 0, 2), (129, 33)]
BENCH = [(1 << 16,), (1 << 20,), (1 << 24,)]


def normal(rng, shape, dtype, scale=1.0):
    return np.asarray(rng.standard_normal(shape) * scale).astype(dtype)


def vector(rng, n, dtype, low=0.5, high=1.5):
    """Per-channel values: float32 with 16-bit arrays, as PyTorch keeps them."""
    return rng.uniform(low, high, n).astype(computing(dtype))


def tensors(rng, shape, dtype, draw=normal):
    """Arrays of the shape asked for, of a small one, and an empty one: a list's usual mistakes."""
    return [draw(rng, s, dtype) for s in listed(shape)]


def listed(shape):
    """The shapes of `tensors`."""
    return [shape, (5, 3), (0,)]


# ------------------------------------------------------------------------------------------ torch


def tensor_of(value: Any) -> Any:
    """A copy as a tensor, also in lists; what is not an array comes back as it is."""
    if isinstance(value, list):
        return [tensor_of(v) for v in value]
    if hasattr(value, "detach"):
        return value.detach().clone()
    if not isinstance(value, np.ndarray):
        return value
    copy = np.array(value, order="C")  # keeps 0-d
    if copy.dtype == BFLOAT16 and BFLOAT16 is not None:  # PyTorch does not know NumPy's
        return torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(copy)


def copy_of(value: Any) -> Any:
    """Of an array or a tensor."""
    return value.copy() if isinstance(value, np.ndarray) else value.detach().clone()


def array_of(tensor: Any) -> np.ndarray:
    """A tensor as an array of NumPy's."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def empty_like(array: Any) -> Any:
    """Memory for a result beside an array of NumPy's or a tensor."""
    return np.empty_like(array) if isinstance(array, np.ndarray) else torch.empty_like(array)


def gradients(y, dy, inputs):
    """dy·dy/dx for each input, None where the input is None."""
    wanted = [i for i in inputs if i is not None]
    found = iter(torch.autograd.grad(y, wanted, dy, allow_unused=True, materialize_grads=True))
    return [None if i is None else next(found) for i in inputs]


def without_grad(function: Callable[..., Any], *args: Any) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return function(*args)

    return run


def backward_only(
    function: Callable[[Any], Any], leaves: Sequence[Any], x: Any, dy: Any
) -> Callable[[], object]:
    """The graph of function(x) run backwards once more at each call, as below."""
    wanted, gradient = _wanted(leaves, x), tensor_of(dy)
    y = function(wanted[0])
    return lambda: torch.autograd.grad(y, wanted, gradient, retain_graph=True)


def forward_and_backward(
    function: Callable[[Any], Any], leaves: Sequence[Any], x: Any, dy: Any
) -> Callable[[], object]:
    """function(x), then the gradients of x and of the leaves that `function` reads, None aside."""
    wanted, gradient = _wanted(leaves, x), tensor_of(dy)
    return lambda: torch.autograd.grad(function(wanted[0]), wanted, gradient)


def _wanted(leaves: Sequence[Any], x: Any) -> list[Any]:
    return [tensor_of(x).requires_grad_(), *(tensor for tensor in leaves if tensor is not None)]
