"""What a norm with running statistics says of them: initialisation and estimates read it here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from onepass._array import Array


class Running:
    """Mixin of a norm whose ``buffer_names`` are running statistics, or None without them.

    Its ``momentum`` is the weight of a new batch.
    """

    buffer_names: ClassVar[tuple[str, ...]]
    momentum: Any

    def _fresh(self) -> dict[str, Any]:
        """Name of each buffer → its value before the first batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its buffers begin")

    def fresh_statistics(self) -> Iterator[tuple[Array, Any]]:
        """(buffer, its value before the first batch), of those that there are."""
        fresh = self._fresh()
        for name in self.buffer_names:
            if (array := getattr(self, name)) is not None:
                yield array, fresh[name]

    def has_statistics(self) -> bool:
        return any(getattr(self, name) is not None for name in self.buffer_names)
