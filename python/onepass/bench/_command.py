"""The command ``onepass bench``: its options, and errors of one line."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it with these arguments; returns its exit status."""
    from onepass.bench import _run

    return _run.main(arguments)
