"""``onepass train``."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import warnings
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from onepass.cli._arguments import Arguments
from onepass.cli._device import device_of
from onepass.cli._output import columns, fail, note, say

if TYPE_CHECKING:
    from onepass.parallel import Communicator
    from onepass.runs._evaluation import Evaluated
    from onepass.runs._recipe import Recipe


OF_RANK = ("command", "names", "quiet", "parallel")  # these may differ, or have been looked at


def option(name: str) -> str:
    """As it is typed."""
    return "DATA" if name == "data" else f"--{name.replace('_', '-')}"


def train(options: Arguments) -> int:
    """Train; returns the exit status."""
    from onepass.parallel import Alone, find
    from onepass.parallel._errors import OtherRankError
    from onepass.runs._options import Options
    from onepass.runs._ranks import agree, refuse_others
    from onepass.runs._recipe import Recipe

    chosen = vars(options)
    quiet = "quiet" in chosen
    fields = {field.name for field in dataclasses.fields(Options)}
    switches: dict[str, Any] = {
        name: name in chosen for name in ("resume", "overwrite", "diagnose", "profile")
    }
    comm: Communicator = Alone()
    try:
        comm = find("auto" if chosen.get("parallel", "auto") == "auto" else None)
        agree(comm)  # with those that `refused`
        given = {option(name): value for name, value in chosen.items() if name not in OF_RANK}
        refuse_others(comm, "options", given)
        quiet = quiet or comm.rank > 0
        device_of(chosen)
        with warnings.catch_warnings():
            if comm.rank:
                warnings.simplefilter("ignore")  # rank 0 gives the same
            run = Recipe(
                {name: value for name, value in chosen.items() if name in fields},
                chosen.get("out"),
                progress=not quiet,
                comm=comm,
                **switches,
            )
        if comm.rank:
            who = f"rank {comm.rank} of {comm.size}: "
            warnings.showwarning = lambda message, *rest, **more: note(f"{who}{message}")
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if not isinstance(error, OtherRankError):
            agree(comm, error)
        return 2 if comm.rank else fail(error, 2)
    if not quiet:
        say(run.describe())
        if importlib.util.find_spec("matplotlib") is None:
            say("note: there will be no curves.png, matplotlib is not installed")
    with closing(run.folder):
        status = _followed(run) if comm.rank else _trained(run, quiet)
    if comm.rank == 0:
        renewed(run)
    return status


def refused(error: Exception, arguments: list[str]) -> int:
    """Report wrong use that a rank has found before it has met the others, which wait for it."""
    from onepass.parallel import find
    from onepass.runs._ranks import agree

    if "--parallel none" in " ".join(arguments).replace("--parallel=", "--parallel "):
        return fail(error, 2)
    try:
        comm = find("auto")
    except (ImportError, RuntimeError):
        return fail(error, 2)  # the others have no communicator either
    agree(comm, error)
    return 2 if comm.rank else fail(error, 2)


def renewed(run: Recipe) -> None:
    """The page of the run shows it as it is now; a note where that fails."""
    if failure := run.renew_page():
        note(failure)


def _trained(run: Recipe, quiet: bool) -> int:
    import numpy as np

    from onepass.parallel._errors import OtherRankError

    try:
        with np.errstate(all="ignore"):  # no warnings: the error below is one line
            folds = _cross_validate(run, quiet)
            result = run.train()
            pictures = _pictures(run)
            run.finish()
    except KeyboardInterrupt:
        with suppress(Exception):
            run.ended("interrupted")
        with suppress(Exception):  # matplotlib, cut while it was imported, may raise anything
            run.plot()
        again = f"onepass train --resume --out {shlex.quote(str(run.out))}"
        return fail(f"interrupted; go on with: {again}", 130)
    except FloatingPointError:
        where = f"epoch {run.trainer.epoch + 1}, with a learning rate of {run.trainer.lr:g}"
        why = f"not finite: the loss or a gradient in {where}"
        with suppress(OSError):
            run.ended("failed", why, where)
        return fail(f"{why}; pass a lower --lr", 1)
    except (OSError, ValueError, MemoryError, OtherRankError) as error:
        with suppress(OSError):
            run.ended("failed", str(error))
        return fail(error, 1)
    _report(run, result, pictures, folds, quiet)
    return 0


def _followed(run: Recipe) -> int:
    """What ranks do beside rank 0, which tells of what all of them have: numbers that are not
    finite, and Ctrl-C."""
    import numpy as np

    from onepass.parallel._errors import OtherRankError

    try:
        with np.errstate(all="ignore"):
            run.fit()
    except KeyboardInterrupt:
        return 130
    except (FloatingPointError, OtherRankError):
        return 1
    except (OSError, ValueError, MemoryError) as error:
        return fail(f"rank {run.comm.rank}: {error}", 1)
    return 0


def _cross_validate(run: Recipe, quiet: bool) -> str:
    """A line for each fold, and a table of all; returns the summary, or ""."""
    from onepass.runs._cross_validation import shown, summary

    for line in run.cross_validate():
        if not quiet:
            say(line)
    if not run.folds:
        return ""
    if not quiet:
        say(f"\n{shown(run.folds)}\n", wrapped=False)
    return summary(run.folds)


def _pictures(run: Recipe) -> list[str]:
    """The names of the pictures; a note for each that cannot be drawn: the model is there."""
    try:
        drawn = run.plot()
    except ImportError:
        return []
    for name, error in run.undrawn.items():
        note(f"there is no {name}: {error}")
    return drawn


def _report(run: Recipe, result: Evaluated, pictures: list[str], folds: str, quiet: bool) -> None:
    """Figures, and three lines: the scores, the place of the model, how to predict with it."""
    from onepass.runs._names import CHECKPOINTS, FOLDS, HELD_OUT, HISTORY, MODEL, RECORD

    if not quiet:
        say(f"\n{run.judged()}", wrapped=run.diagnosis is None)
    if run.profile is not None:  # asked for, so shown with --quiet too
        say(f"\n{run.profile.table()}\n", wrapped=False)
    if not quiet:
        say(f"\n{result.report.text(columns())}", wrapped=False)
        if result.imbalanced and run.options.class_weight is None:
            say("\nrare classes count little; --class-weight balanced makes them count")
        say("")
    best = f", best epoch {run.stopping.best_epoch}" if run.stopping.best_epoch else ""
    across = f"; {folds}" if folds else ""
    epochs = f"{run.trainer.epoch} epoch{'s' * (run.trainer.epoch != 1)}"
    say(f"{result}  ({epochs}{best}){across}")
    folders = [CHECKPOINTS] + [FOLDS] * bool(run.folds)
    files = ", ".join([MODEL, *pictures, HISTORY, HELD_OUT, RECORD, *folders])
    say(f"the run is in {run.out}: {files}")
    folder = shlex.quote(str(run.out))
    say(f"predict with: onepass predict {folder} NEW.csv --out predictions.csv")
