"""Running an experiment, and what it leaves in a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from onepass.lab._catalogue import find
from onepass.lab._lab import Check, Lab, Outcome, Table
from onepass.train._files import replacing
from onepass.train._history import save_figure

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
        seed: of all that is random in it.
        out: a folder for ``NAME.png`` and ``NAME.json`` (tables, checks, verdict); None for none.

    Raises:
        ValueError: there is no such experiment.
        ImportError: Matplotlib or scikit-learn is missing.

    Example:
        >>> from onepass import lab
        >>> outcome = lab.run("momentum")
        >>> outcome.holds, len(outcome.tables) > 0
        (True, True)
    """
    entry = find(name)
    lab = Lab(entry.name, seed)
    with _style():
        lab.outcome.verdict = " ".join(entry.function(lab).split())
        if out is not None:
            save(lab.outcome, Path(out))
    return lab.outcome


def _style() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("lab: it draws with Matplotlib: pip install 'onepass[demo]'") from error
    return matplotlib.rc_context(STYLE)


def save(outcome: Outcome, folder: Path) -> None:
    """Write the picture and the numbers into the folder."""
    if outcome.figure is not None:
        save_figure(outcome.figure, folder / f"{outcome.name}.png")
    fields = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
    del fields["figure"]
    text = json.dumps(fields, indent=1, default=_plain, ensure_ascii=False)
    with replacing(folder / f"{outcome.name}.json", "numbers") as file:
        file.write(text.encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return dataclasses.asdict(value)


def saved(name: str, folder: Path) -> Outcome | None:
    """The outcome that an earlier run has left in the folder, without its figure; None for none."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["tables"] = [
        Table(tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["title"])
        for t in fields["tables"]
    ]
    fields["checks"] = [Check(**check) for check in fields["checks"]]
    return Outcome(**fields)
