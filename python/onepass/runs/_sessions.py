"""When a training began, went on and ended, as run.json keeps it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from onepass._machine import environment
from onepass.runs._folder import Folder
from onepass.train._callbacks import Callback
from onepass.train._run import Run


def now() -> str:
    """The time, for a record."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def ended(folder: Folder, how: str, why: str = "", where: str = "") -> None:
    """Keep that the training was "interrupted" or "failed", and why, for who reads the folder
    later.

    Args:
        where: of a loss or a gradient that is not finite.
    """
    folder.write(ended={"how": how, "why": why, "where": where, "when": now()})


def lengths(record: Mapping[str, Any]) -> list[tuple[int, int]]:
    """After which epoch a training went on as one of how many, for each that it was in turn."""
    kept: list[tuple[int, int]] = []
    for session in record.get("sessions", []):
        if "epochs" in session:
            epoch = session.get("epoch", 0)
            kept = [pair for pair in kept if pair[0] < epoch]  # others have left nothing
            if not kept or kept[-1][1] != session["epochs"]:
                kept.append((epoch, session["epochs"]))
    return kept


class Began(Callback):
    """Note when a training began or went on, after which epoch, up to which one, and where."""

    rank_0_only = True

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def on_fit_begin(self, run: Run) -> None:
        if run.epoch >= run.max_epochs:
            return  # nothing is left to train
        began = {
            "began": now(),
            "epoch": run.epoch,
            "epochs": run.max_epochs,
            "environment": environment(),
        }
        self.folder.write(sessions=[*self.folder.record.get("sessions", []), began])
