"""The rivals: one module a library, which says what rows it has and makes functions for them.

A library that is not installed, a function that raises and an option that it does not have are
lines of `missing`; nothing is left out in silence.

To add a library, write its module, whose labels begin with the library's name, "-" as a space
(`library_of`), and name it in LIBRARIES; if it compiles for seconds a row, in `_row.ON_DEMAND`; if
it computes less than ours, its label in `_row._LESS`. docs/generate/performance.py has in VERSIONS
how its version is written, which a test asks for. A new group of rows is named in `_row.GROUPS`,
in GROUPS of docs/generate/performance.py, which a test asks for, and in bench/README.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from onepass._streams import Function
from onepass.bench._peers import (
    _bitsandbytes,
    _cupy,
    _jax_network,
    _keras,
    _numpy,
    _onednn,
    _optax,
    _sklearn,
    _thinc,
    _torch,
    _torch_compile,
)
from onepass.bench._peers._library import (
    CLASSES_ALONE,
    Functions,
    Lacks,
    Library,
    Step,
    Steps,
)
from onepass.bench._records import cases
from onepass.bench._row import Context, is_ours, line_of
from onepass.bench._training import AdamWOptions, Network

LIBRARIES: dict[str, Library] = {
    module.LIBRARY.name: module.LIBRARY
    for module in (
        _torch,
        _torch_compile,
        _jax_network,
        _optax,
        _numpy,
        _thinc,
        _sklearn,
        _keras,
        _onednn,
        _bitsandbytes,
        _cupy,
    )
}


class Found(NamedTuple):
    """Functions by label, and why others are not there: {library or label: one line}."""

    functions: Functions
    missing: dict[str, str]


def kernel(context: Context, case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Found:
    """Rivals of a row of the table, its record's among them, on the same inputs.

    Args:
        context: libraries that are asked for, threads, dtype.
        case: the row.
        inputs: of the row, NumPy's arrays.
        keywords: of the call.
    """
    if case.family == "update":
        variant = cases.optimizers.BY_NAME[case.name]
        options = {name: value for name, value in keywords.items() if name != "step"}
        return steps(context, variant, inputs[0], inputs[1], options, functional=True)

    def has(library: Library) -> bool:
        return case.name in library.kernels

    def make(library: Library) -> Functions:
        return library.kernel(case, inputs, keywords)

    return _found(context, make, lambda: case.rivals(inputs, keywords), has)


def both(context: Context, case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Found:
    """Rivals of forward and gradient together; `case` is the row of the gradient."""

    def has(library: Library) -> bool:
        return library.both is not None and case.name in library.kernels

    def make(library: Library) -> Functions:
        return {} if library.both is None else library.both(case, inputs, keywords)

    def recorded() -> Functions:
        functions: Functions = dict(case.both(inputs, keywords))
        functions.pop("onepass")
        return functions

    return _found(context, make, recorded, has)


def steps(
    context: Context,
    variant: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    options: dict[str, Any] | None = None,
    functional: bool = False,
    without: Collection[str] = (),
) -> Found:
    """Rivals of an optimizer's step over a list.

    Args:
        context: libraries that are asked for, threads, dtype.
        variant: of the optimizer, from tests/cases.
        params, grads: arrays, or tensors on a GPU, which the functions do not write to.
        options: of the class; ``state_dtype="int8"`` asks for those with states of 8 bits.
        functional: without a class around it.
        without: libraries whose steps the caller makes.
    """
    given = dict(options or {})
    small = given.pop("state_dtype", None) is not None
    given = variant.options | given

    def has(library: Library) -> bool:
        fits = variant.name in library.optimizers and library.small_state == small
        return fits and library.name not in without

    def make(library: Library) -> Steps:
        found = library.functional if functional else library.steps
        if found is None:
            raise Lacks(CLASSES_ALONE)
        return found(variant, params, grads, given)

    return _found(context, make, dict, has)


def networks(context: Context, network: Network, options: AdamWOptions) -> Found:
    """Training steps of a network with dropout, of all libraries that are asked for."""

    def make(library: Library) -> Steps:
        made: Steps = {}
        for label, step in library.networks.items():
            try:
                made[label] = step(network, options, True)
            except Lacks as lack:
                made[label] = lack
            except Exception as error:
                made[label] = Lacks(line_of(error))
        return made

    return _found(context, make, dict, lambda library: bool(library.networks))


def need_torch() -> None:
    """Lacks where PyTorch is not there: for rows of ours that work on its tensors."""
    why = LIBRARIES["torch"].absent()
    if why is not None:
        raise Lacks(f"PyTorch is {why}")


def versions(names: Sequence[str] = tuple(LIBRARIES)) -> dict[str, str | None]:
    """Of the libraries, None for one that is not installed."""
    return {name: LIBRARIES[name].version() for name in names}


def library_of(label: str) -> str:
    """The name in LIBRARIES of the library that a label starts with."""
    known = [name for name in LIBRARIES if label.startswith(name.replace("-", " "))]
    return max(known, key=len, default=label.split()[0])


def libraries_of(label: str) -> frozenset[str]:
    """Names in LIBRARIES of all libraries that the function of a label runs in: its own, those
    that it needs, and those that the label names, as JAX in "keras jax"."""
    named = {library_of(label), *label.split()} & LIBRARIES.keys()
    return frozenset(named.union(*(LIBRARIES[name].needs for name in named)))


def tried(functions: Functions) -> Found:
    """Calls each function once: those that raise become lines."""
    good: Functions = {}
    missing: dict[str, str] = {}
    for label, function in functions.items():
        try:
            function()
        except Exception as error:
            missing[label] = line_of(error)
        else:
            good[label] = function
    return Found(good, missing)


ELSEWHERE = "it computes in other threads, whose processor time is not counted"


def counted(functions: Functions) -> Found:
    """Those of the functions that compute in the thread that calls them: for a clock of that
    thread's processor time, others would cost nothing."""
    good = {
        label: function
        for label, function in functions.items()
        if is_ours(label) or _computes_here(function)
    }
    return Found(good, {label: ELSEWHERE for label in functions if label not in good})


def _computes_here(function: Function) -> bool:
    """Whether hardly any processor time of the process is another thread's. Threads that other
    libraries left behind may spin on for a while, so one measurement of a few is enough."""
    return any(_share_of_others(function) < 0.1 for _ in range(5))


def _share_of_others(function: Function) -> float:
    start, here = time.process_time(), time.thread_time()
    while time.thread_time() - here < 1e-3 and time.process_time() - start < 1e-2:
        function()
    here, process = time.thread_time() - here, time.process_time() - start
    return (process - here) / process


def _unfit(library: Library, context: Context) -> str | None:
    """Why a library has no rows on the device, in a line."""
    if context.device in library.devices:
        return None
    return f"measured on {'the CPU' if context.device == 'cuda' else 'a GPU'} alone"


def concerns(library: Library, context: Context) -> bool:
    """Whether a run says anything of a library: one for GPUs alone is silent on the CPU unless it
    is asked for."""
    silent = context.against is None and "cpu" not in library.devices and context.device == "cpu"
    return context.mentions(library.name) and not silent


def _found(
    context: Context,
    make: Callable[[Library], Functions | Steps],
    recorded: Callable[[], Functions],
    has: Callable[[Library], bool],
) -> Found:
    functions: Functions = {}
    missing: dict[str, str] = {}
    for library in LIBRARIES.values():
        if not concerns(library, context) or not has(library):
            continue
        why = _unfit(library, context) or library.absent() or context.left_out(library.name)
        if why is None and context.dtype not in library.dtypes:
            why = f"not in {context.dtype}"
        if why is not None:
            missing[library.name] = why
            continue
        try:
            library.pin(context.threads)
            for label, made in make(library).items():
                if isinstance(made, Lacks):
                    missing[label] = str(made)
                else:
                    functions[label] = made.run if isinstance(made, Step) else made
        except Lacks as lack:
            missing[library.name] = str(lack)
        except Exception as error:
            missing[library.name] = line_of(error)
    try:
        functions = (recorded() if context.wants("torch") else {}) | functions
    except Exception as error:
        missing["torch"] = line_of(error)
    good, raised = tried(functions)
    return Found(good, missing | raised)
