"""``model.npz``: everything that a prediction needs, in one file.

An archive of NumPy, without pickles, that ``numpy.load`` reads too: an array for each weight and
``about.json`` for the rest. It is replaced as a whole, and equal contents give equal bytes.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _npz
from onepass._files import replacing
from onepass.runs._names import CHECKPOINTS, MODEL

FORMAT = 1


def write(
    folder: Path, about: dict[str, Any], arrays: dict[str, NDArray[Any]], name: str = MODEL
) -> None:
    """Write the file into ``folder``.

    Raises:
        OSError: the file, and what is kept.
    """
    text = json.dumps({"format": FORMAT, **about}, indent=1, allow_nan=False)
    with replacing(folder / name, "model") as file:
        _npz.write(file, {k: np.asarray(array, order="C") for k, array in arrays.items()}, text)


def damaged(path: Path, error: Exception) -> ValueError:
    """The error of a file that cannot be read as ``write`` wrote it, with the cure."""
    return ValueError(f"{path} is damaged ({error or type(error).__name__}){written_anew(path)}")


def written_anew(path: Path) -> str:
    """How the file is written anew from the run's checkpoints; "" if it has none."""
    if not any((path.parent / CHECKPOINTS).glob("step_*/state.json")):
        return ""
    return f"; write it anew with: onepass train --resume --out {shlex.quote(str(path.parent))}"


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The arguments of ``write``.

    Raises:
        ValueError: the file is damaged, or of a later version. OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            text, arrays = _npz.read(file)
            about = json.loads(text or "")
            newer = about["format"] > FORMAT
        except Exception as error:  # an archive can be damaged in every way
            raise damaged(path, error) from error
    if newer:
        raise ValueError(
            f"{path} has format {about['format']}, expected at most {FORMAT}: it was written by "
            f"onepass {about.get('version')}, a later version than this one"
        )
    return about, arrays
