"""Rivals that a row makes by hand, in the net of `_peers`: what is not installed, what a version
does not have yet and what raises are lines of `missing`, and the row goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onepass._streams import Function
from onepass.bench._peers import LIBRARIES, Found, library_of, tried
from onepass.bench._peers._library import Functions, Lacks
from onepass.bench._row import Context, line_of

Makers = Mapping[str, Callable[[], Function]]


def beside(context: Context, makers: Makers) -> Found:
    """Their functions, each called once.

    Args:
        context: libraries that are asked for, threads.
        makers: by the function's label, which starts with its library. One may raise `Lacks`.
    """
    functions: Functions = {}
    missing: dict[str, str] = {}
    for label, make in makers.items():
        library = LIBRARIES[library_of(label)]
        if not context.mentions(library.name):
            continue
        why = library.absent() or context.left_out(library.name)
        if why is not None:
            missing[library.name] = why
            continue
        try:
            library.pin(context.threads)
            found = tried({label: make()})
        except Lacks as lack:
            missing[label] = str(lack)
        except Exception as error:
            missing[label] = line_of(error)
        else:
            functions |= found.functions
            missing |= found.missing
    return Found(functions, missing)
