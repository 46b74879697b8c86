"""The command that repeats a run."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from onepass.runs._options import Options


def command_line(options: Mapping[str, Any]) -> str:
    """``onepass train DATA`` and the options that are not left at their defaults.

    Args:
        options: as a run's record has them.

    Example:
        >>> from onepass.runs._command_line import command_line
        >>> command_line({"data": "my prices.csv", "hidden": [8], "seed": 0})
        "onepass train 'my prices.csv' --hidden 8"
    """
    words = ["onepass", "train", str(options.get("data", "DATA"))]
    for name, value in changed(options).items():
        option = "--" + name.replace("_", "-")
        if name == "header":
            words.append(option if value else "--no-header")
            continue
        text = _text(name, value)
        words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(words)


def changed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that have another value than by default."""
    given = {name: value for name, value in options.items() if name in Options.__dataclass_fields__}
    plain = Options(data="").as_json()
    name = plain["optimizer"]
    with_it = Options.of({"data": "", "optimizer": given.get("optimizer", name)}).as_json()
    usual = {**with_it, "optimizer": name}  # some optimizers go with another schedule
    return {name: value for name, value in given.items() if name != "data" and value != usual[name]}


def _text(name: str, value: Any) -> str:
    if name in ("hidden", "schedule_options"):
        return ",".join(map(str, value))
    if name == "sep" and value == "\t":
        return "tab"
    if isinstance(value, Sequence) and not isinstance(value, str):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value)
        return line.getvalue()
    return str(value)
