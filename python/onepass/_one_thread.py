"""One thread at a time, and an error for the others."""

from __future__ import annotations

from typing import Any


class OneThread:
    """``with`` this around a call that must not run twice at once.

    Args:
        what: the call, for the message.

    Raises:
        RuntimeError: on entering, if the call is running already.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._free = [True]  # list.pop and append are atomic, also without the GIL

    def __enter__(self) -> None:
        try:
            self._free.pop()
        except IndexError:
            raise RuntimeError(
                f"{self._what} is running already, in another thread or further up in this one; "
                "expected one call at a time"
            ) from None

    def __exit__(self, *error: object) -> None:
        self._free.append(True)

    def __reduce__(self) -> Any:
        return type(self), (self._what,)
