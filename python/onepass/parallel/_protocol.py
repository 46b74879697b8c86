"""What a communicator must have, the arrays that it takes, and the one of a single process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from onepass._array import Array, empty_like, is_contiguous, library
from onepass._numbers import integer

DTYPES = ("float32", "float64", "int64")
_OF_NUMPY = frozenset(map(np.dtype, DTYPES))


class Communicator(Protocol):
    """The processes that train together: two numbers and three verbs, called by all of them.

    Every rank calls the verbs in the same order, with arrays of the same shapes and dtypes. That is
    all a communicator of your own must have to be used in place of `MPI`, `NCCL` or `Torch`.

    Attributes:
        rank: of this process, 0 to size - 1.
        size: how many processes there are.

    Example:
        >>> from onepass import parallel
        >>> comm: parallel.Communicator = parallel.find("auto")
        >>> comm.rank, comm.size
        (0, 1)
    """

    rank: int
    size: int

    def sum_(self, array: Array) -> None:
        """Leaves Σ over ranks of ``array`` in it, the same bits on every rank.

        Args:
            array: float32, float64 or int64 in C order: NumPy's, or of the library and device that
                the communicator is for.
        """

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Overwrites ``array`` with that of rank ``root``."""

    def barrier(self) -> None:
        """Returns when every rank has called it."""


class Engine(Communicator, Protocol):
    """What our own communicators may have beside the verbs, each of them alone.

    Nobody calls these but the functions below, and `ops.fill_rows`: what a communicator lacks is
    done by its verbs.
    """

    def _carrier(self, array: Array) -> Communicator:
        """The communicator that an array goes by, such as the one for arrays on the host."""

    def _enter(self) -> None:
        """Before each call that others wait for: counts it, for `Calls`."""

    def _fail(self, why: str) -> None:
        """This rank ends a fit by an error that others may not have: who waits for it raises."""

    def _exchange(self, send: Array, receive: Array, partner: int) -> None:
        """Sends an array to another rank, which calls it too, and receives its array."""

    def _room(self, like: Array) -> Array:
        """Memory for an array like that, until the next call."""

    def _fill_rows(self, table: Array) -> None:
        """As ``sum_`` of a table of which each rank has its own row, and zeros elsewhere."""


def carrier(comm: Communicator, array: Array) -> Communicator:
    """What an array goes by: the communicator itself, unless it has another for such arrays."""
    found: Communicator = getattr(comm, "_carrier", lambda _: comm)(array)
    return found


def exchanges(comm: Communicator) -> bool:
    """Whether it has messages between two ranks."""
    return getattr(comm, "_exchange", None) is not None


def room(comm: Communicator, like: Array) -> Array:
    """Memory for an array like that, until the next call for this communicator."""
    return getattr(comm, "_room", empty_like)(like)


def enter(comm: Communicator) -> Callable[[], None]:
    """What is called before each call that others wait for, by other means than the verbs."""
    found: Callable[[], None] = getattr(comm, "_enter", lambda: None)
    return found


def fail(comm: Communicator, why: str) -> None:
    """Let the others know of an error of this rank, where the communicator can."""
    getattr(comm, "_fail", lambda _: None)(why)


class Alone:
    """The communicator of a single process, which has nobody to wait for.

    A program that is written for several ranks runs with it as it is.

    Example:
        >>> import numpy as np
        >>> from onepass import parallel
        >>> comm, x = parallel.Alone(), np.float32([1, 2])
        >>> comm.sum_(x)
        >>> comm.rank, comm.size, x
        (0, 1, array([1., 2.], dtype=float32))
    """

    rank, size = 0, 1

    def sum_(self, array: Array) -> None:
        """Leaves ``array`` as it is: the sum over one rank."""
        check("Alone", array)

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Leaves ``array`` as it is: ``root`` can only be this rank."""
        check("Alone", array)
        check_root("Alone", root, self.size)

    def barrier(self) -> None:
        """Returns at once."""


def check(owner: str, array: Any, on: str | None = None) -> None:
    """``array`` is one that can be summed over ranks in place.

    Args:
        on: "cpu" if it must lie there.

    Raises:
        TypeError: no array, of another dtype, elsewhere. ValueError: not in C order, or read-only.
    """
    if type(array) is np.ndarray and array.dtype in _OF_NUMPY and array.flags.carray:
        return  # at once: every step comes here
    try:
        lib = library(array)
        if lib is np and not isinstance(array, np.ndarray):
            raise TypeError  # of another library: nobody may write to it
    except TypeError:
        shown = "None" if array is None else f"a {type(array).__name__}"
        raise TypeError(f"{owner}: 'array' is {shown}, expected an array") from None
    if str(array.dtype).removeprefix("torch.") not in DTYPES:  # a big-endian one is ">f4"
        raise TypeError(
            f"{owner}: 'array' has dtype {array.dtype}, expected {', '.join(DTYPES)}; gradients of "
            "16 bits are summed by parallel.all_reduce_gradients, in float32"
        )
    if on == "cpu" and lib is not np and getattr(array.device, "type", "cuda") != "cpu":
        raise TypeError(
            f"{owner}: 'array' is on {array.device}, expected the CPU; for arrays of CuPy there is "
            "parallel.NCCL(), for tensors of PyTorch parallel.Torch()"
        )
    if not is_contiguous(array):
        raise ValueError(
            f"{owner}: 'array' of shape {tuple(array.shape)} has gaps or another order in memory, "
            "expected C order: pass a contiguous copy"
        )
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise ValueError(f"{owner}: 'array' is read-only, expected one to write the result to")


def check_root(owner: str, root: Any, size: int) -> None:
    """``root`` is a rank."""
    integer(owner, "root", root, 0, size)


def is_interactive() -> bool:
    """Whether somebody types: in a notebook, IPython or Python's own prompt."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return hasattr(sys, "ps1") or shell() is not None
