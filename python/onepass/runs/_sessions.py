"""When a training began, went on and ended, as run.json keeps it."""

from __future__ import annotations

import datetime

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


class Began(Callback):
    """Note when a training began or went on, after which epoch, and on what machine."""

    rank_0_only = True

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def on_fit_begin(self, run: Run) -> None:
        if run.epoch >= run.max_epochs:
            return  # nothing is left to train
        began = {"began": now(), "epoch": run.epoch, "environment": environment()}
        self.folder.write(sessions=[*self.folder.record.get("sessions", []), began])
