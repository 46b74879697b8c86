"""What a row of the benchmark is: functions that do the same work, and what that work must move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from onepass._streams import Function, Streams

GROUPS = ("optim", "norm", "dropout", "activation", "loss", "conv", "end-to-end")
DTYPES = ("float32", "float64", "float16", "bfloat16")


# Libraries that a run without ``--against`` leaves out, and what it says of each.
ON_DEMAND = {"torch-compile": "compiles for seconds a row; measured with --against torch-compile"}


class UsageError(Exception):
    """Wrong use of the command, in one line."""


class FunctionError(RuntimeError):
    """What one of the functions that are timed raised, which is the cause; says which one."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"{label!r} raised {line_of(error)}")


def line_of(error: BaseException) -> str:
    """An exception on one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:160]}" if first else type(error).__name__


# First words of labels that name no other library, and how labels of rivals begin that compute less
# than ours.
_OURS = "onepass"
_WITHOUT_LIBRARY = (_OURS, "limit", "products")
_LESS = ("sklearn plain",)


def is_ours(label: str) -> bool:
    """Whether a function is a form of ours."""
    return label.split()[0] == _OURS


def is_other(label: str) -> bool:
    """Whether it is of another library, so that its time over ours means something."""
    return label.split()[0] not in _WITHOUT_LIBRARY


def is_rival(label: str) -> bool:
    """Whether it is of another library and does all that ours does, so that it can be the best."""
    return is_other(label) and not label.startswith(_LESS)


def own_form(label: str, labels: Collection[str]) -> str:
    """The form of ours that a rival's time is set against.

    "onepass" makes a new result at each call. Where a rival writes into memory that is there, which
    its label says, "onepass out=" does as well.

    Args:
        label: the rival's, or "limit" or "products".
        labels: all that the row has.
    """
    into = "onepass out="
    return into if "out=" in label and into in labels else "onepass"


def named(shape: tuple[int, ...]) -> str:
    """A shape as rows have it: "4096x512"."""
    return "x".join(map(str, shape))


@dataclasses.dataclass(frozen=True)
class Check:
    """How far ours is from the float64 reference."""

    error: float  # largest |got - want| over the bound of that element; more than 1 is WRONG
    ulps: float | None = None  # largest error in units in the last place, where it means something
    note: str = ""  # what was left out

    @property
    def wrong(self) -> bool:
        return not self.error <= 1


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a row's maker returns.

    functions  "onepass" first; then rivals, whose label starts with the library: "torch fused"
    elements   in all
    bytes      fewest bytes in all: each input read once, each output written once; None: memory
               sets no limit (a whole training step)
    streams    that move them, on the CPU
    check      runs ours once on fresh copies, and compares with float64
    products   the matrix products of the step alone
    missing    rival -> one line that says why it is not there
    graph      on a GPU, captured calls are replayed
    dtype      of the arrays, None: the one that the user asked for
    rotates    the functions take turns between copies of their arrays, so the limit does as well
    """

    functions: dict[str, Function]
    elements: int
    bytes: float | None = None
    streams: Streams | None = None
    check: Callable[[], Check] | None = None
    products: Function | None = None
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    graph: bool = False
    dtype: str | None = None
    rotates: bool = False


@dataclasses.dataclass(frozen=True)
class Context:
    """What the user asked for.

    shape    instead of the row's own
    against  libraries to measure against; None: all that are installed, but none that compile for
             seconds
    """

    device: str = "cpu"
    dtype: str = "float32"
    shape: tuple[int, ...] | None = None
    threads: int = 1
    against: frozenset[str] | None = None

    def wants(self, library: str) -> bool:
        if self.against is None:
            return library not in ON_DEMAND
        return library in self.against

    def left_out(self, library: str) -> str | None:
        """Why a library that the user may expect is not measured, in a line."""
        return ON_DEMAND.get(library) if self.against is None else None

    def mentions(self, library: str) -> bool:
        """Whether it is measured, or a line that says why not."""
        return self.wants(library) or self.left_out(library) is not None

    def of_dtype(self, dtype: str | None) -> Context:
        """The same with another dtype; None: the same."""
        return self if dtype is None else dataclasses.replace(self, dtype=dtype)


Make = Callable[[Context], Workload]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    quick  part of ``--quick``
    """

    name: str
    group: str
    make: Make
    quick: bool = False
