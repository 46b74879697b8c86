"""The targets, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fuzz import arrays, files, tables


class Target(NamedTuple):
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


TARGETS = {
    "checkpoint": Target(files.checkpoint, files.seeds_of_checkpoint),
    "model": Target(files.model, files.seeds_of_model),
    "table": Target(tables.table, tables.seeds_of_table),
    "border": Target(arrays.border, arrays.seeds_of_border),
}
