"""Every public name, and the page that it stands on.

A page is of one thing: ``ops.gelu``, ``ops.gelu_backward`` and ``nn.GELU`` share one. Which names
belong together follows from the names themselves; KIN has those whose names do not show it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from onepass import bench, config, data, nn, ops, optim, runs, train
from onepass.data import augment
from onepass.nn import init
from onepass.optim import full_batch, lr_scheduler
from onepass.train import regularizers

PACKAGES = (
    *(optim, full_batch, lr_scheduler, ops, nn, init),
    *(train, regularizers, runs, data, augment, bench, config),
)
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
    "regularizers": ("Regularizers", "penalties that training adds to the loss"),
    "data": ("Data", "tables, batches, splits, scaling"),
    "augmentation": ("Augmentation", "functions of seed, epoch and sample"),
    "benchmark": ("Benchmark", "your own kernels, files of results, what memory allows"),
    "config": ("Settings", "threads, instruction set, CUDA"),
}
OF_PACKAGE = {
    "onepass.optim": "optimizers",
    "onepass.optim.full_batch": "optimizers",
    "onepass.optim.lr_scheduler": "schedules",
    "onepass.nn.init": "initialisation",
    "onepass.train": "training",
    "onepass.train.regularizers": "regularizers",
    "onepass.runs": "training",
    "onepass.data": "data",
    "onepass.data.augment": "augmentation",
    "onepass.bench": "benchmark",
    "onepass.config": "config",
}
# Of the functions of ops and the modules of nn: by the file that defines them.
OF_FILE = {
    "activations": {"_activation", "_softmax", "_glu", "_gated", "_maxout"},
    "norms": {
        *("_norm", "_batch_norm", "_batch_renorm", "_row_norm", "_channel_norm"),
        *("_decorrelated", "_weight_norm", "_fold", "_statistics"),
    },
    "losses": {"_loss", "_pointwise_loss"},
    "dropout": {"_dropout"},
    "optimizers": {"_muon", "_sparse_adam", "_step_info", "_reduce"},
}
# Names without their underscores and endings → the one that they stand beside.
KIN = {
    "savedrownorm": "layernorm",
    "dropoutmask": "dropout",
    "dropout1d": "featuredropout",
    "dropout2d": "featuredropout",
    "dropout3d": "featuredropout",
    "restart": "restarts",
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
    file = getattr(value, "__module__", "").rpartition(".")[2]
    if file.startswith("_update"):
        return "optimizers"
    return next((k for k, files in OF_FILE.items() if file in files), "layers")


@cache
def names() -> tuple[Name, ...]:
    """All of them, by page; a module that is public itself has its own names instead."""
    found: list[Name] = []
    for package in PACKAGES:
        short = package.__name__.removeprefix("onepass.")
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.ismodule(value):
                continue
            folder = kind(package, value)
            page = f"{folder}/{'all' if folder in ('initialisation', 'config') else stem(name)}"
            full = f"{package.__name__}.{name}"
            label = re.sub(r"[\W_]+", "-", full).strip("-").lower()
            if any(label == other.label for other in found):  # Restarts and restarts
                label += "-function"
            found.append(Name(f"{short}.{name}", full, value, page, label))
    return tuple(found)


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
    return (kept, not own, not inspect.isclass(name.value))


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
