"""``--space``: what of the options of ``onepass train`` a search varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onepass._suggest import suggestion
from onepass.cli import _arguments as types
from onepass.cli._arguments import UsageError

if TYPE_CHECKING:
    from onepass.train._search_space import Distribution

FORM = "NAME=LOW..HIGH or NAME=A/B/C"
# Name → how a range is drawn, and what reads one value.
VARIED: dict[str, tuple[str | None, Callable[[str], Any]]] = {
    "lr": ("log", types.number("--space lr", "search", above=0)),
    "weight_decay": ("log", types.number("--space weight_decay", "search", low=0)),
    "dropout": ("uniform", types.number("--space dropout", "search", low=0, high=1)),
    "label_smoothing": (
        "uniform",
        types.number("--space label_smoothing", "search", low=0, high=1),
    ),
    "batch_size": ("integer", types.count("--space batch_size", owner="search")),
    "hidden": (None, types.sizes("--space hidden", "search")),
    "optimizer": (None, str),
    "activation": (None, str),
    "norm": (None, str),
    "init": (None, str),
    "schedule": (None, str),
}
NORMS = ("batch", "none")


def space_of(texts: Sequence[str]) -> dict[str, Distribution]:
    """The space of some texts, such as ``lr=1e-4..1e-1`` and ``hidden=64/256,256``.

    Raises:
        UsageError: one that cannot be read.
    """
    found: dict[str, Distribution] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not values.strip():
            raise UsageError(f"search: '--space' is {text!r}, expected {FORM}")
        if name not in VARIED:
            known = ", ".join(VARIED)
            raise UsageError(
                f"search: '--space' is {text!r}, expected one of {known}{suggestion(name, VARIED)}"
            )
        if name in found:
            raise UsageError(f"search: '--space' has {name!r} twice, expected it once")
        found[name] = _distribution(name, text, values.strip())
    return found


def _distribution(name: str, text: str, values: str) -> Distribution:
    from onepass.train import Choice, Integer, LogUniform, Uniform

    kind, read = VARIED[name]
    try:
        if ".." in values:
            if kind is None:
                raise ValueError(f"a range, expected values: {name}=A/B/C")
            ends = [read(part) for part in values.split("..", 1)]
            if kind == "integer":
                return Integer(*ends, log=True)
            return (LogUniform if kind == "log" else Uniform)(*ends)
        listed = [read(part.strip()) for part in values.split("/")]
        if name == "norm" and (other := next((n for n in listed if n not in NORMS), None)):
            raise ValueError(f"{other!r}, expected batch or none")
        return Choice([v.lower() if isinstance(v, str) else v for v in listed])
    except (TypeError, ValueError) as error:
        raise UsageError(f"search: '--space' is {text!r}: {error}") from None
