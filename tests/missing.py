"""The line to add where a new kernel lacks one of its parts, told from what went wrong without it.

The package and the records of tests/cases name each part where it is used, as `nn.ReLU` or
`ops.lion_`, so a missing one stops every test. conftest.py shows the cure once instead.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import ModuleType

# Module of a part → its file, and what to add there.
FILES = {
    "onepass.ops._activation": "`@activation` on `def {name}(x: Array, …)`",
    "onepass.ops._update": "`@update({kernel!r})` on `def {name}(params, grads, …)`",
    "onepass.ops._pointwise_loss": "`@loss_of_elements` on `def {name}(input, target, …)`",
    "onepass.ops._row_norm": "`def {name}(…)`",
    "onepass.nn._activation": "`class {name}(Activation, op=ops.…): ...`",
    "onepass.optim._optimizers": "`class {name}(Optimizer, op=ops.…_)` with a constructor",
}
# A file of records → the module that has its functions; a file of `nn` has the module's name.
RECORDS = {"losses": "_pointwise_loss", "row_norms": "_row_norm"}
BACKWARD = "`{name} = backward_of({kernel}, …)`"


def path_of(module: str) -> str:
    return f"python/{module.replace('.', '/')}.py"


def cure(error: BaseException) -> str | None:
    """The file and the line that it lacks; None for any other error."""
    package, name = _asked(error)
    asked = package
    package = next((m for m in FILES if asked.startswith(f"{m}_")), asked)  # of a family
    places = [m for m in FILES if package in (m, m.rpartition(".")[0])]
    for place in _with_families(places):
        if package != place and hasattr(sys.modules.get(place), name):
            return f"{path_of(place)}: __all__ lacks {name!r}, expected every name it defines"
    if not places:
        return None
    asking = Path(traceback.extract_tb(error.__traceback__)[-1].filename).stem
    family = "_update" if name.endswith("_") else RECORDS.get(asking, asking)
    place = next((m for m in places if m.endswith(f".{family}")), places[0])
    backward = name.endswith("_backward") and place.endswith("ops._activation")
    line = (BACKWARD if backward else FILES[place]).format(
        name=name, kernel=name.removesuffix("_backward").rstrip("_")
    )
    where = path_of(place)
    if asked != package:
        where = path_of(asked)
    elif family == "_update":
        where = f"{where.removesuffix('.py')}_*.py, the file of its family,"
    return f"{where} has no {name!r}: add {line}, and the name to __all__"


def _with_families(modules: list[str]) -> list[str]:
    """The modules, and those that a module joins: onepass.ops._update_adam beside _update."""
    return [m for m in sys.modules if any(m == own or m.startswith(f"{own}_") for own in modules)]


def _asked(error: BaseException) -> tuple[str, str]:
    """The module that lacks a name, and the name."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return error.obj.__name__, error.name
    if isinstance(error, NameError) and error.__traceback__ is not None:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        return frame.f_globals["__name__"], error.name
    return "", ""


def stops_everything(error: BaseException) -> str | None:
    """The message for an error at the import of the package or of the records; None for others."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if frame.name == "<module>"]
    if not places or not any(_is_shared(frame.filename) for frame in frames):
        return None
    last = next((frame for frame in reversed(places) if _is_shared(frame.filename)), places[-1])
    said = cure(error) or f"{type(error).__name__}: {error}"
    return f"{said} ({last.filename}:{last.lineno}: {last.line})"


def _is_shared(file: str) -> bool:
    package = getattr(sys.modules.get("onepass"), "__file__", None)
    folders = [Path(__file__).with_name("cases"), *([Path(package).parent] if package else [])]
    return any(folder in Path(file).parents for folder in folders)
