"""``onepass search``."""

from __future__ import annotations

import dataclasses
import shlex
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from onepass.cli._arguments import Arguments
from onepass.cli._device import device_of
from onepass.cli._output import fail, note, say
from onepass.cli._space import space_of
from onepass.cli._train import renewed

if TYPE_CHECKING:
    from onepass.runs._evaluation import Evaluated
    from onepass.runs._recipe import Recipe
    from onepass.runs._search import OptionSearch
    from onepass.train import SearchResult

ROWS = 10  # of the table at the end


def search(options: Arguments) -> int:
    """Search; returns the exit status."""
    from onepass.runs._search import OptionSearch, of_search

    chosen = vars(options)
    try:
        device_of(chosen)
        made = _made(OptionSearch, chosen)
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        return fail(of_search(error), 2)
    if "quiet" not in chosen:
        say(made.describe())
    return _searched(made, "quiet" in chosen)


def _made(searching: type[OptionSearch], chosen: dict[str, Any]) -> OptionSearch:
    from onepass.runs._options import Options
    from onepass.runs._search import HOW

    fields = {field.name for field in dataclasses.fields(Options)}
    given = {name: value for name, value in chosen.items() if name in fields}
    how = {name: chosen[name] for name in (*HOW, "space") if name in chosen}
    out = chosen.get("out")
    notes = []
    if "resume" in chosen:
        earlier = searching.earlier(given, how, out)
        if earlier is None:
            notes.append("there is no search to resume; this one begins")
        else:
            given, how, out = earlier
    if "data" not in given:
        where = f"; {out or 'runs/'} has no search to resume" if notes else ""
        raise ValueError(f"search: 'DATA' is missing, expected a data set or a file{where}")
    space = space_of(how["space"]) if "space" in how else None
    fresh = "resume" not in chosen
    made = searching(given, how, space, out, fresh=fresh, progress="quiet" not in chosen)
    made.notes += notes
    return made


def _searched(made: OptionSearch, quiet: bool) -> int:
    from onepass.runs._search import of_search

    again = f"onepass search --resume --out {shlex.quote(str(made.out))}"
    try:
        result = made.run()
        if not result.count("complete"):
            _table(result)
            return fail(f"search: no trial is complete; they are in {made.out}", 1)
        picture = _picture(made, result)
        run = made.best(result)
        evaluated = _trained(run)
    except KeyboardInterrupt as error:
        ended = getattr(error, "result", None)  # of train.search
        told = "" if ended is None else f", {len(ended.trials)} of {made.trials} trials have ended"
        return fail(f"interrupted{told}; go on with: {again}", 130)
    except (OSError, ImportError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        return fail(of_search(error), 2 if isinstance(error, ImportError) else 1)
    if not quiet:
        say("")
        _table(result)
        say("")
    say(f"{evaluated}  (trial {result.best.number})")
    files = ", ".join([*picture, "trials.csv"])
    say(f"the search is in {made.out}: {files}; its best run in {run.out}")
    say(f"train it again with: {made.command(result)}", wrapped=False)
    folder = shlex.quote(str(run.out))
    say(f"predict with: onepass predict {folder} NEW.csv --out predictions.csv")
    return 0


def _trained(run: Recipe) -> Evaluated:
    """The best trial, trained again as a run; its record says how that ended."""
    try:
        with closing(run.folder):
            try:
                evaluated = run.train()
                _drawn(run)
                run.finish()
            except KeyboardInterrupt:
                with suppress(Exception):
                    run.ended("interrupted")
                raise
            except Exception as error:
                with suppress(OSError):
                    run.ended("failed", str(error))
                raise
    finally:
        renewed(run)
    return evaluated


def _table(result: SearchResult) -> None:
    say(f"{result.summary()}\n{result.table(ROWS)}", wrapped=False)


def _picture(made: OptionSearch, result: SearchResult) -> list[str]:
    try:
        return [made.plot(result)]
    except ImportError:
        return []
    except Exception as error:  # matplotlib raises anything, such as for a wrong MPLBACKEND
        note(f"there is no search.png: {error}")
        return []


def _drawn(run: Any) -> None:
    try:
        run.plot()
    except ImportError:
        pass
    except Exception as error:
        note(f"there is no curves.png: {error}")
