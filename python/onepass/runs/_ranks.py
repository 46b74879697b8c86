"""A run of several processes: rank 0 alone has its folder, and an error of one is one of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onepass.parallel import Communicator
from onepass.parallel._collectives import broadcast_object, first_other, first_text
from onepass.parallel._errors import OtherRankError, of_all
from onepass.runs._folder import Folder
from onepass.train._from_rank_0 import by_rank_0


class _Follower(Folder):
    """The folder of a run as ranks see it that do not write."""

    def write(self, **more: Any) -> None:
        """Keep the entries in ``record`` alone."""
        self.record = {k: v for k, v in {**self.record, **more}.items() if v is not None}

    def put_damaged_history_aside(self) -> str:
        """Nothing: rank 0 does it."""
        return ""

    def remove_figures(self) -> None:
        """Nothing: rank 0 does it."""

    def finish(self) -> None:
        """Nothing: rank 0 does it."""


def folder_of(comm: Communicator, make: Callable[[], Folder | None]) -> Folder | None:
    """What ``make()`` gives on rank 0, whose errors are raised on all ranks."""
    own: list[Folder | None] = []

    def made() -> dict[str, Any] | None:
        own.append(folder := make())
        if folder is None:
            return None
        return {"path": str(folder.path), "record": folder.record, "note": folder.note}

    about = by_rank_0(comm, made)
    if own:
        return own[0]
    if about is None:
        return None
    return _Follower(Path(about["path"]), [], about["record"], about["note"])


def refuse_others(comm: Communicator, what: str, values: Mapping[str, Any]) -> None:
    """Refuse values that are not those of rank 0, on all ranks.

    Args:
        what: they are, for the message.

    Raises:
        ValueError: with the first that differs, and the rank.
    """
    texts = {name: str(value) for name, value in values.items()}
    rank = None if comm.size == 1 else first_other(comm, json.dumps(texts))
    if rank is None:
        return
    first, other = (broadcast_object(comm, texts, root) for root in (0, rank))
    name = next(n for n in [*first, *other] if first.get(n) != other.get(n))
    shown = [of_rank.get(name, "not given") for of_rank in (first, other)]
    raise of_all(
        ValueError(
            f"train: {name!r} is {shown[0]} on rank 0 and {shown[1]} on rank {rank}, expected the "
            f"same {what} on all ranks"
        )
    )


def agree(comm: Communicator, error: Exception | None = None) -> None:
    """Every rank calls it, where it has come so far without an error, or with the one it has.

    Raises:
        OtherRankError: on the ranks without one, where one has.
    """
    if comm.size == 1:
        return
    first = first_text(comm, None if error is None else str(error))
    if first is not None and error is None:
        raise OtherRankError(f"rank {first[0]} of {comm.size}: {first[1]}")
