"""What a rival library is to the benchmark."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from onepass._streams import Function
from onepass.bench._check import copied as copied
from onepass.bench._records import case
from onepass.bench._row import line_of

if TYPE_CHECKING:
    from onepass.bench._training import AdamWOptions, Network

Functions = dict[str, Function]
Lazily = case.Lazily  # a module that is imported when an attribute is first read


class Step(NamedTuple):
    """A step over a library's own copies of the parameters: run() is what is timed, and read()
    gives the parameters as they are, for a check."""

    run: Callable[[], Any]
    read: Callable[[], Sequence[Any]]


Steps = dict[str, "Step | Lacks"]


# Of an optimizer, beside a kernel.
CLASSES_ALONE = "a class takes its steps: it is in rows of lists of tensors"


class Lacks(Exception):  # noqa: N818 - not an error: a line of the table
    """A library has a row, but not with these options; says which."""


def nothing(*_: Any, **__: Any) -> dict[str, Any]:
    return {}


def unpinned(threads: int) -> None:
    """For a library that computes on the thread that calls it."""


MakeNetwork = Callable[["Network", "AdamWOptions", bool], Step]
MakeSteps = Callable[[Any, Sequence[Any], Sequence[Any], dict[str, Any]], Steps]


@dataclasses.dataclass(frozen=True)
class Library:
    """A rival. Its module imports nothing of it until a function is made.

    name        as in ``--against``; labels of its functions start with its first word
    module      what is imported
    install     what to give to pip
    needs       other libraries, as named here, that do its work: of another version, they make it
                another library too. One that a label names, as "keras jax", needs no mention
    kernels     the rows of tests/cases that it has
    optimizers  the optimizers that it has, named as their variants
    kernel      kernel(case, inputs, keywords) -> {label: function} on the same inputs; a function
                returns the results in the order of the row's
    both        both(case, inputs, keywords): forward and gradients together, of a backward row;
                a function returns the gradients
    steps       steps(variant, params, grads, options) -> {label: Step}, or {label: Lacks} of a form
                that is not there: a step of its optimizer, with all that its class does
    functional  the same without a class around it: beside our kernels, which have none either
    networks    {label: make(network, options, dropout) -> Step} of a whole training step, with
                those options of AdamW; a label of ours starts with "onepass"
    pin         pin(threads): as many threads as the others have; Lacks where it cannot
    dtypes      that it computes in
    before      what must be done before it is imported
    own_version where it is a part of another distribution
    small_state whether its optimizers keep their states in 8 bits: the rows with state_dtype="int8"
    devices     on which its functions take the arrays of a row: NumPy's, or PyTorch's on a GPU
    waits       its functions wait for their device themselves, which works on streams of its own
    """

    name: str
    module: str
    install: str
    needs: Collection[str] = ()
    kernels: Collection[str] = ()
    optimizers: Collection[str] = ()
    kernel: Callable[[Any, tuple[Any, ...], dict[str, Any]], Functions] = nothing
    both: Callable[[Any, tuple[Any, ...], dict[str, Any]], Functions] | None = None
    steps: MakeSteps = nothing
    functional: MakeSteps | None = None
    networks: Mapping[str, MakeNetwork] = dataclasses.field(default_factory=dict)
    pin: Callable[[int], None] = unpinned
    dtypes: Collection[str] = ("float32",)
    before: Callable[[], None] = lambda: None
    own_version: Callable[[], str | None] | None = None
    small_state: bool = False
    devices: Collection[str] = ("cpu",)
    waits: bool = False

    def absent(self) -> str | None:
        """Why it cannot be had, in a line; None where it is installed."""
        self.before()
        why = _absent(self.module)
        return f"not installed (pip install {self.install})" if why == "" else why

    def version(self) -> str | None:
        """Of the distribution that has its module; None where there is none."""
        if importlib.util.find_spec(self.module) is None:
            return None
        if self.own_version is not None:
            return self.own_version() or "unknown"
        for name in (self.install, self.module):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                pass
        return "unknown"


@functools.cache  # what fails to be imported takes its time again
def _absent(module: str) -> str | None:
    """Why it cannot be imported: "" where it is not there; None where it can be."""
    if importlib.util.find_spec(module) is None:
        return ""
    try:
        importlib.import_module(module)
    except Exception as error:  # a wheel of another system, a missing shared library
        return f"installed, but it cannot be imported: {line_of(error)}"
    return None


def only(options: dict[str, Any], **had: Any) -> dict[str, Any]:
    """The options without those of `had`, which must have the values given there.

    For what a library cannot choose: ``only(options, nesterov=False)``.
    """
    for name, value in had.items():
        if name in options and options[name] != value:
            raise Lacks(f"no {name}={options[name]!r}")
    return {name: value for name, value in options.items() if name not in had}
