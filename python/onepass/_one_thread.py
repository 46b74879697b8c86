"""A section for one thread at a time; any other thread gets an error."""

from __future__ import annotations

from threading import get_ident
from typing import Any


class OneThread:
    """``with`` this around what two threads must not do at once.

    A call that is interrupted while it enters or leaves stops other threads alone: the thread
    itself may always enter again.

    Args:
        owner: the class or function that the user called, for the message.

    Attributes:
        held: {"by": thread} during a call. A hot path that must do without the calls of ``with``
            does what `__enter__` and `__exit__` do. ``setdefault`` and ``clear`` are atomic, also
            without the GIL.

    Raises:
        RuntimeError: on entering, while another thread is inside.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.held: dict[str, int] = {}

    def error(self) -> RuntimeError:
        """What a second thread gets."""
        return RuntimeError(
            f"{self._owner} is in use in another thread, expected one thread at a time; give each "
            "a copy of its own"
        )

    def __enter__(self) -> None:
        me = get_ident()
        if self.held.setdefault("by", me) != me:
            raise self.error()

    def __exit__(self, *error: object) -> None:
        self.held.clear()

    def __reduce__(self) -> Any:  # a copy is not in use
        return type(self), (self._owner,)
