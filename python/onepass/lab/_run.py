"""Running an experiment, and what it leaves in a folder."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import onepass
from onepass._figures import save_figure
from onepass._files import alone_in, path_of, ready_folder, replacing
from onepass.lab._catalogue import find
from onepass.lab._lab import Check, Lab, Outcome, Table

# Of Okabe & Ito: to be told apart by every kind of eye, and in grey.
COLOURS = "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9', '000000'])"
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": COLOURS,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def run(name: str, seed: int = 0, out: str | Path | None = None) -> Outcome:
    """Run an experiment.

    Args:
        name: its name or code.
        seed: of all that is random in it, below 2**32.
        out: a folder for ``NAME.png`` and ``NAME.json`` (tables, checks, verdict); None for none.

    Raises:
        ValueError: there is no such experiment, or the seed is out of its range.
        TypeError: the seed is not a whole number, or ``out`` not a path.
        OSError: nothing can be written to ``out``, which is tried before the experiment runs.
        ImportError: Matplotlib or scikit-learn is missing.

    Example:
        >>> from onepass import lab
        >>> outcome = lab.run("momentum")
        >>> outcome.holds, len(outcome.tables) > 0
        (True, True)
    """
    experiment = find(name)
    lab = Lab(experiment.name, seed)
    folder = None if out is None else path_of("lab", "out", out)
    if folder is not None:
        ready_folder("lab", "out", folder)
    with _style():
        verdict = " ".join(experiment.function(lab).split())
    lab.outcome.verdict = verdict if lab.outcome.holds else f"Not shown: {verdict}"
    if folder is not None:
        save(lab.outcome, folder)
    return lab.outcome


def _style() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("lab: it draws with Matplotlib: pip install 'onepass[demo]'") from error
    return matplotlib.rc_context(STYLE)


def save(outcome: Outcome, folder: Path) -> bytes:
    """Write the picture and the numbers into the folder, which is there; returns the picture."""
    with alone_in(folder):
        picture = b""
        if outcome.figure is not None:
            with _style():
                picture = save_figure(outcome.figure, folder / f"{outcome.name}.png")
        # Numbers and picture are known to be of one run.
        _save_numbers(outcome, zlib.crc32(picture), folder / f"{outcome.name}.json")
    return picture


def _save_numbers(outcome: Outcome, picture: int, path: Path) -> None:
    fields = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
    del fields["figure"]
    fields |= {"version": onepass.__version__, "picture": picture}
    fields["tables"] = [
        {**vars(table), "rows": [[_number(value) for value in row] for row in table.rows]}
        for table in outcome.tables
    ]
    text = json.dumps(fields, indent=1, default=_plain, ensure_ascii=False, allow_nan=False)
    with replacing(path, "numbers") as file:
        file.write(text.encode())


def _number(value: Any) -> Any:
    """The cell of a table; JSON has no NaN and no Inf, so they are words there."""
    return value if isinstance(value, str) or math.isfinite(value) else str(float(value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return dataclasses.asdict(value)


def saved(name: str, seed: int, folder: Path) -> tuple[Outcome, bytes] | None:
    """The outcome without its figure, and the picture, that an earlier run has left in the folder.

    None where there is none of this seed by this version, or a file is missing or not as it was
    left.
    """
    try:
        with alone_in(folder):
            fields = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            picture = (folder / f"{name}.png").read_bytes()
        left = [fields.pop(key) for key in ("version", "picture")]
        tables = [
            Table(tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["title"])
            for t in fields.pop("tables")
        ]
        checks = [Check(**check) for check in fields.pop("checks")]
        outcome = Outcome(tables=tables, checks=checks, **fields)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    wanted = [name, seed, onepass.__version__, zlib.crc32(picture)]
    return (outcome, picture) if [outcome.name, outcome.seed, *left] == wanted else None
