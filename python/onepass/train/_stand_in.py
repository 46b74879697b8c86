"""Stands in for a method of one layer, which calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any


class StandIn:
    """An attribute of a layer that is called in the place of a method.

    A layer with a method of its own runs by itself instead of inside a fused kernel, which gives
    the same bits. Several may stand in for one method; each can leave first. A copy of the layer
    has none.

    Attributes:
        layer: the layer.
        inner: what the stand-in calls.
    """

    method = "forward"

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def install(self) -> None:
        """Be called from now on, before those that are there."""
        self._before = vars(self.layer).get(self.method)
        self.inner = getattr(self.layer, self.method)
        setattr(self.layer, self.method, self)

    def remove(self) -> None:
        """Be called no more; nothing where the layer has got another method meanwhile."""
        above, found = None, vars(self.layer).get(self.method)
        while isinstance(found, StandIn) and found is not self:
            above, found = found, found._before
        if found is not self:
            return
        if above is not None:
            above._before, above.inner = self._before, self.inner
        elif self._before is not None:
            setattr(self.layer, self.method, self._before)
        else:
            delattr(self.layer, self.method)

    def sees(self) -> bool:
        """Whether this call is one of training, whose values count."""
        return bool(self.layer.training) and not _of_thread.is_blind

    def __reduce__(self) -> Any:
        return getattr, (self.layer, self.method)


class _OfThread(local):
    is_blind: bool = False


_of_thread = _OfThread()


@contextmanager
def unseen() -> Iterator[None]:
    """Inside, what this thread takes through a model in training counts for nobody."""
    _of_thread.is_blind = True
    try:
        yield
    finally:
        _of_thread.is_blind = False


def of_class(layer: Any) -> bool:
    """Whether ``layer.forward``, behind the stand-ins, is a method of its class."""
    forward = layer.forward
    while isinstance(forward, StandIn):
        forward = forward.inner
    return getattr(forward, "__func__", None) is type(layer).forward
