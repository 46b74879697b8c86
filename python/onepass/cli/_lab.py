"""``onepass lab``: lists the experiments, runs one or all, makes a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onepass.cli._arguments import Arguments, UsageError
from onepass.cli._output import fail, say

FOLDER = Path("lab")


def lab(options: Arguments) -> int:
    """Run the command; returns its exit status: 1 where a claim does not hold."""
    from onepass._files import ready_folder
    from onepass.lab import experiments, find
    from onepass.lab._text import listed

    given = vars(options)
    name: str | None = given.get("name")
    everything = "all" in given or "report" in given
    if name is not None and everything:
        raise UsageError(f"lab: {name!r} and --all or --report, expected one of them")
    if name is None and not everything:
        if {"seed", "out"} & given.keys():
            raise UsageError("lab: --seed or --out without an experiment, expected NAME or --all")
        say(listed(experiments()), wrapped=False)
        say("\nonepass lab NAME runs one.")
        return 0
    try:
        chosen = experiments() if name is None else [find(name)]
    except ValueError as error:
        raise UsageError(str(error)) from None
    folder = Path(given.get("out", FOLDER))
    try:
        ready_folder("lab", "--out", folder)
    except OSError as error:
        raise UsageError(str(error)) from None
    try:
        again = name is not None or "all" in given
        results = _run(chosen, given.get("seed", 0), folder, again)
        if "report" in given:
            from onepass.lab._report import report

            say(str(report(results, folder)), wrapped=False)
    except (ImportError, OSError) as error:
        return fail(error, 1)
    failed = [experiment.name for experiment, outcome, _ in results if not outcome.holds]
    if everything:
        say(f"{len(results) - len(failed)} of {len(results)} experiments hold what they claim")
    if failed:
        return fail(f"lab: the claim does not hold: {', '.join(failed)}", 1)
    return 0


def _run(
    chosen: Sequence[Any], seed: int, folder: Path, again: bool
) -> list[tuple[Any, Any, bytes]]:
    """Run the experiments, or take what earlier runs with this seed have left in the folder: each
    with its outcome and picture."""
    from onepass.lab import run
    from onepass.lab._run import save, saved
    from onepass.lab._text import introduction, shown

    results = []
    for experiment in chosen:
        known = None if again else saved(experiment.name, seed, folder)
        if known is None:
            say(introduction(experiment), wrapped=False)
            outcome = run(experiment.name, seed)
            say(shown(outcome), wrapped=False)
            known = outcome, save(outcome, folder)
            say(f"\n{folder / experiment.name}.png\n", wrapped=False)
        results.append((experiment, *known))
    return results
