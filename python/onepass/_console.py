"""Text for a console of any encoding, which may be missing, closed, or no terminal."""

from __future__ import annotations

import sys
from typing import Any


def write(text: str, file: Any) -> bool:
    """Write and flush; a character that the encoding lacks becomes ``?``.

    False where nothing was written: there is no console (``pythonw``), it is closed, or its reader
    has gone. A training does not end for that.
    """
    if file is None:
        return False
    try:
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = getattr(file, "encoding", None) or "ascii"
            file.write(text.encode(encoding, "replace").decode(encoding))
        flush = getattr(file, "flush", None)
        if flush is not None:
            flush()
    except (OSError, ValueError, AttributeError):  # ValueError: closed
        return False
    return True


def is_terminal(file: Any) -> bool:
    """Whether ``file`` is a terminal, where a line can be written over."""
    try:
        return bool(file.isatty())
    except (OSError, ValueError, AttributeError):
        return False


def is_notebook(file: Any) -> bool:
    """Whether ``file`` is the output of a cell of Jupyter: no terminal, but it knows ``\\r``."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel") and file is sys.stdout
