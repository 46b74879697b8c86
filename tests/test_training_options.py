"""The pages of the site have every option of what trains, with its default and a description."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from onepass import train
from onepass.optim import full_batch, lr_scheduler
from onepass.train import regularizers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generate import docstrings, names, reference  # noqa: E402

# They are made by what a training gives, or take another's options.
NOT_CALLED = {
    "CheckpointError", "Fold", "History", "LRFinderResult", "RegressionReport", "Restart", "Run",
    "SearchResult", "Trial",
}  # fmt: skip
METHODS = ("fit", "evaluate", "predict", "save", "load", "load_weights")
# A description that says nothing where nothing stands above it.
UNFINISHED = re.compile(r"(see )?(above|below)\b|[<>]|of \w\.$", re.I)


def options() -> list[tuple[names.Name, str, Any]]:
    """(what has the page, heading of the part, what is called)."""
    packages = (train, regularizers, lr_scheduler, full_batch)
    known = {name.full: name for name in names.names()}
    found = []
    for package in packages:
        for public in package.__all__:
            value = getattr(package, public)
            if public not in NOT_CALLED and not inspect.ismodule(value):
                found.append((known[f"{package.__name__}.{public}"], public, value))
    trainer = known["onepass.train.Trainer"]
    return found + [(trainer, f"### `{name}`", getattr(train.Trainer, name)) for name in METHODS]


OPTIONS = options()


@pytest.mark.parametrize(("name", "part", "value"), OPTIONS, ids=[part for _, part, _ in OPTIONS])
def test_every_option_stands_on_its_page_with_its_default(name, part, value) -> None:
    text = reference._entry(name, set())
    text = text.partition(part)[2].partition("\n### `")[0]
    described = docstrings.arguments(inspect.getdoc(value) or "")
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or parameter.name in ("self", "cls", "args"):
            continue
        without = parameter.default is parameter.empty
        default = "" if without else f" = `{docstrings.default_of(parameter)}`"
        row = rf"^(.*, )?`{parameter.name}`{re.escape(default)}(, .*)?\n: \S"
        assert re.search(row, text, re.M), f"{name.page}: no row {parameter.name}{default}"
        assert not UNFINISHED.match(described[parameter.name]), (
            f"{part}: {parameter.name!r} is described as {described[parameter.name]!r}, expected "
            "words that can stand alone"
        )


@pytest.mark.parametrize("text", ["see above; >= 0.", "> 0.", "of v.", "Above."])
def test_a_description_that_cannot_stand_alone_is_seen(text) -> None:
    assert UNFINISHED.match(text)
    assert not UNFINISHED.match(f"the rate, {text}"[:-1])
