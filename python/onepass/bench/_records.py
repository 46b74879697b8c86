"""The table of kernels (tests/cases): what each computes, how exactly, and its rivals.

A wheel contains it as ``onepass.bench._cases``; in a source tree it is read where it is. It has no
types: this file is the border.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

NAME = "onepass.bench._cases"


def _records() -> Any:
    if importlib.util.find_spec(NAME) is None:
        folder = Path(__file__).resolve().parents[3] / "tests" / "cases"
        spec = importlib.util.spec_from_file_location(
            NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"onepass is not whole: it lacks {NAME}; install it again")
        module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return importlib.import_module(NAME)


cases: Any = _records()
case: Any = importlib.import_module(f"{NAME}._case")
