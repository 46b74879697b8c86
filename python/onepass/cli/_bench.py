"""``onepass bench``."""

from __future__ import annotations

from onepass.bench._command import main as bench

__all__ = ["bench"]
