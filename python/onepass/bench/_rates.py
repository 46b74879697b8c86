"""What a roofline is made of: places of data, and rates."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the data are: sizes of all arrays together, for one thread and for each more."""

    name: str
    size: int
    per_thread: bool = False

    def bytes(self, threads: int) -> int:
        return self.size * threads if self.per_thread else self.size

    @property
    def title(self) -> str:
        return f"{self.name}, {size_text(self.size)}" + (" a thread" if self.per_thread else "")


@dataclasses.dataclass(frozen=True)
class Rate:
    """Bytes a second of one shape: the median of the samples, and 10 to 90 % of them."""

    shape: str
    place: str
    threads: int
    bytes_per_second: float
    low: float
    high: float


def size_text(count: int) -> str:
    """Of bytes: "4 MiB"."""
    units = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
    unit, scale = next((each for each in units if count >= each[1]), units[-1])
    value = count / scale
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
