"""Every public name, and the page that it stands on.

A page is of one thing: ``ops.gelu``, ``ops.gelu_backward`` and ``nn.GELU`` share one. Which names
belong together follows from the names themselves; KIN has those whose names do not show it.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import onepass

# Packages whose names come first on a page; the others follow by name.
FIRST = (
    "onepass.optim", "onepass.optim.full_batch", "onepass.optim.lr_scheduler", "onepass.ops",
    "onepass.nn", "onepass.nn.init", "onepass.train", "onepass.train.regularizers",
)  # fmt: skip
# Behind PyTorch's names. A name stands on the page of its counterpart, onepass.nn.GELU.
FRONT = ("onepass.torch", "onepass.torch.nn", "onepass.torch.optim")
# What a package cannot be imported without.
NEEDS = {"onepass.torch": "torch", "onepass.sklearn": "sklearn", "onepass.jax": "jax"}
# Folder of the site → its title, and what a reader finds there.
KINDS = {
    "optimizers": ("Optimizers", "one call steps all parameters, clips, unscales, checks, zeroes"),
    "schedules": ("Schedules", "the learning rate as a function of the step"),
    "activations": ("Activations", "value and gradient, each in one pass"),
    "norms": ("Norms", "with residual, activation and dropout in the same kernel"),
    "dropout": ("Dropout", "masks that are computed, never stored"),
    "losses": ("Losses", "loss and gradient in one pass"),
    "layers": ("Layers and modules", "forward and backward without a framework"),
    "initialisation": ("Initialisation", "initial weights, of an array or of a model"),
    "training": ("Training", "the loop, callbacks, checkpoints"),
    "estimators": ("Estimators", "networks for scikit-learn's pipelines and searches"),
    "regularizers": ("Regularizers", "penalties that training adds to the loss"),
    "data": ("Data", "tables, batches, splits, scaling"),
    "augmentation": ("Augmentation", "functions of seed, epoch and sample"),
    "parallel": ("Several processes", "MPI, NCCL and torch.distributed behind five verbs"),
    "torch": ("PyTorch", "optimizers, modules and what fuses a model, behind PyTorch's own names"),
    "jax": ("JAX", "functions inside `jax.jit`, and optimizers whose update is one call"),
    "experiments": ("Experiments in Python", "what `onepass lab` does, as functions"),
    "benchmarks": ("Benchmarks in Python", "what `onepass bench` does, as functions"),
    "config": ("Settings", "threads, instruction set, CUDA"),
}
# Kinds whose names stand on one page.
TOGETHER = ("initialisation", "parallel", "jax", "experiments", "benchmarks", "config")
OF_PACKAGE = {
    "onepass.optim": "optimizers",
    "onepass.optim.full_batch": "optimizers",
    "onepass.optim.lr_scheduler": "schedules",
    "onepass.nn.init": "initialisation",
    "onepass.train": "training",
    "onepass.train.regularizers": "regularizers",
    "onepass.runs": "training",
    "onepass.sklearn": "estimators",
    "onepass.data": "data",
    "onepass.data.augment": "augmentation",
    "onepass.config": "config",
    "onepass.lab": "experiments",
    "onepass.parallel": "parallel",
    "onepass.torch": "torch",
    "onepass.jax": "jax",
    "onepass.bench": "benchmarks",
}
# Of the functions of ops and the modules of nn: by the file that defines them.
OF_FILE = {
    "activations": {"_activation", "_softmax", "_glu", "_gated", "_maxout"},
    "norms": {
        *("_norm", "_batch_norm", "_batch_renorm", "_row_norm", "_channel_norm"),
        *("_decorrelated", "_weight_norm", "_fold", "_statistics"),
        "_sync_batch_norm",
    },
    "losses": {"_loss", "_pointwise_loss"},
    "dropout": {"_dropout"},
    "optimizers": {"_muon", "_sparse_adam", "_step_info", "_reduce"},
    "layers": {
        *("_bias_act", "_conv", "_flatten", "_gradcheck", "_linear", "_module", "_module_list"),
        *("_parameter", "_pool", "_random", "_rescaling", "_residual", "_sequential", "_windows"),
        *("_file", "_from_torch", "_summary"),
    },
}
# Names without their underscores and endings → the one that they stand beside.
KIN = {
    "savedrownorm": "layernorm",
    "dropoutmask": "dropout",
    "dropout1d": "featuredropout",
    "dropout2d": "featuredropout",
    "dropout3d": "featuredropout",
    "restart": "restarts",
    "crossvalidation": "crossvalidate",
    "fold": "crossvalidate",
    "lrfinderresult": "lrfinder",
    "findlr": "lrfinder",
    "checkpointerror": "checkpoint",
    "dataset": "load",
    "table": "readtable",
    "encoding": "readtable",
    "feature": "readtable",
    "getrngstate": "manualseed",
    "setrngstate": "manualseed",
    "col2im": "im2col",
    "savedrun": "loadrun",
    "layersummary": "summary",
    "searchresult": "search",
    "trial": "search",
    "uniform": "search",
    "loguniform": "search",
    "integer": "search",
    "choice": "search",
    "medianpruner": "search",
    "successivehalvingpruner": "search",
    "confusionmatrix": "classificationreport",
}


class Name(NamedTuple):
    """One public name.

    Attributes:
        short: as users write it, ``optim.AdamW``.
        full: ``onepass.optim.AdamW``.
        page: of the site, ``optimizers/adamw``.
        label: of its heading.
    """

    short: str
    full: str
    value: Any
    page: str
    label: str

    @property
    def is_front(self) -> bool:
        """Whether it is one of PyTorch's names."""
        return self.full.startswith("onepass.torch.")


def stem(name: str) -> str:
    """What the names of one thing have in common: gelu_backward, GELU → gelu."""
    short = re.sub(r"(_weight)?_backward$|_$", "", name).replace("_", "").lower()
    short = KIN.get(short, short)
    short = re.sub(r"^saved|[123]d$|(?<=.)loss$", "", short)
    return KIN.get(short, short)


def kind(package: ModuleType, value: Any) -> str:
    """The folder of a name."""
    if package.__name__ in OF_PACKAGE:
        return OF_PACKAGE[package.__name__]
    if package.__name__ not in ("onepass.ops", "onepass.nn"):
        raise KeyError(f"docs/generate/names.py: OF_PACKAGE has no kind for {package.__name__}")
    file = getattr(value, "__module__", "").rpartition(".")[2]
    if file.startswith("_update"):
        return "optimizers"
    for folder, files in OF_FILE.items():
        if file in files:
            return folder
    raise KeyError(f"docs/generate/names.py: OF_FILE has no kind for {file}, of {value}")


@cache
def packages() -> tuple[ModuleType, ...]:
    """Those with public names, as far as what they need is installed."""
    found = [info.name for info in pkgutil.walk_packages(onepass.__path__, "onepass.", _fail)
             if "._" not in info.name and _can_import(info.name)]  # fmt: skip
    found.sort(key=lambda name: (*(name != first for first in FIRST), name in FRONT, name))
    modules = map(import_module, found)
    return tuple(module for module in modules if getattr(module, "__all__", ()))


def _can_import(package: str) -> bool:
    if package.startswith("onepass.cli"):
        return False  # of commands
    needed = next((n for of, n in NEEDS.items() if f"{package}.".startswith(f"{of}.")), None)
    return needed is None or find_spec(needed) is not None


def _fail(package: str) -> None:
    """A package that cannot be imported where what it needs is there is an error."""
    if _can_import(package):
        raise ImportError(f"docs/generate: {package} cannot be imported")


@cache
def names() -> tuple[Name, ...]:
    """All of them, by page; a module that is public itself has its own names instead."""
    found: list[Name] = []
    for package in packages():
        # In full where the short name is another library's: torch.nn.GELU is PyTorch's.
        in_full = package.__name__ in (*FRONT, "onepass.jax")
        short = package.__name__ if in_full else package.__name__.removeprefix("onepass.")
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.ismodule(value):
                continue
            full = f"{package.__name__}.{name}"
            page = _counterpart(full, found) or _own_page(package, name, value)
            label = re.sub(r"[\W_]+", "-", full).strip("-").lower()
            if any(label == other.label for other in found):  # Restarts and restarts
                label += "-function"
            found.append(Name(f"{short}.{name}", full, value, page, label))
    return tuple(found)


def _counterpart(full: str, found: list[Name]) -> str | None:
    """The page of onepass.nn.GELU, for onepass.torch.nn.GELU."""
    plain = full.replace("onepass.torch.", "onepass.")
    return next((name.page for name in found if name.full == plain), None)


def _own_page(package: ModuleType, name: str, value: Any) -> str:
    folder = kind(package, value)
    return f"{folder}/{'all' if folder in TOGETHER else stem(name)}"


def kinds() -> list[str]:
    """The folders that have pages, in the order of KINDS; PyTorch's also without PyTorch."""
    used = {name.page.partition("/")[0] for name in names()} | {"torch"}
    return [kind for kind in KINDS if kind in used]


def index_of(kind: str) -> str:
    """The page of a kind, without its ending."""
    return f"{kind}/{'all' if kind in TOGETHER else 'index'}"


def pages() -> dict[str, list[Name]]:
    """Page → what stands on it: what gave the page its name, classes, forward, backward."""
    found: dict[str, list[Name]] = {}
    for name in names():
        found.setdefault(name.page, []).append(name)
    for page, entries in found.items():
        entries.sort(key=lambda name: _place(page.partition("/")[2], name))
    return found


def _place(page: str, name: Name) -> tuple[bool, ...]:
    last = name.short.rpartition(".")[2]
    own = re.sub(r"[123]d$|(?<=.)loss$|_", "", last.lower()) == page
    kept = last.endswith("_backward") or last.startswith("Saved")
    return (name.is_front, kept, not own, not inspect.isclass(name.value))


def title(page: str) -> str:
    """The name by which the thing is known: that of its class, or of its first function."""
    if page.endswith("/all"):
        return KINDS[page.partition("/")[0]][0]
    several = [name.short.rpartition(".")[2].rstrip("_") for name in pages()[page]]
    without = re.sub("1d$", "", several[0])
    return without if f"{without}2d" in several else several[0]


def link(beside: str) -> Callable[[str], str | None]:
    """name → label, as docstrings of the package `beside` write names."""
    by_full = {name.full: name.label for name in names()}
    by_short = {name.short: name.label for name in names()}

    def find(text: str) -> str | None:
        text = text.removesuffix("()")
        return by_full.get(text) or by_short.get(text) or by_full.get(f"{beside}.{text}")

    return find
