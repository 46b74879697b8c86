"""The ``--device`` option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def device_of(chosen: Mapping[str, Any]) -> str:
    """The device that was chosen; ValueError if it cannot be used."""
    from onepass import config

    device = chosen.get("device", "cpu")
    if device == "cuda" and not config.cuda_available():
        raise ValueError(f"--device cuda: {config.cuda_why_not()}")
    return str(device)
