"""bitsandbytes and its CPU fork: steps whose states have 8 bits, over PyTorch's tensors.

Both are imported as `bitsandbytes`: of the two the one that is installed is timed, and named.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onepass.bench._peers import _torch
from onepass.bench._peers._library import Lazily, Library, Step, Steps, only
from onepass.bench._records import case as case_module

optim: Any = Lazily("bitsandbytes.optim")
torch: Any = Lazily("torch")

_CLASSES = {
    "adam": "Adam8bit",
    "adamw": "AdamW8bit",
    "sgd_momentum": "SGD8bit",
    "rmsprop": "RMSprop8bit",
    "lion": "Lion8bit",
}


def _label() -> str:
    """Which of the two it is: the one whose folder was imported."""
    here = Path(importlib.import_module("bitsandbytes").__file__ or "").parent
    for name in importlib.metadata.packages_distributions().get("bitsandbytes", []):
        own = Path(str(importlib.metadata.distribution(name).locate_file("bitsandbytes")))
        if own.resolve() == here.resolve() and name != "bitsandbytes":
            return f"bitsandbytes {name.removeprefix('bitsandbytes-')} 8-bit"
    return "bitsandbytes 8-bit"


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    o = only(variant.record.complete(options), maximize=False, amsgrad=False, nesterov=False)
    o = only(o, bias_correction=True, dampening=0.0, centered=False, decoupled_weight_decay=False)
    names = ("lr", "betas", "eps", "weight_decay", "momentum", "alpha")
    given = {name: o[name] for name in names if name in o}
    if variant.name == "rmsprop":
        given.pop("momentum", None)
    tensors = [torch.nn.Parameter(case_module.tensor_of(p)) for p in params]
    for p, g in zip(tensors, grads, strict=True):
        p.grad = case_module.tensor_of(g)
    optimizer = getattr(optim, _CLASSES[variant.name])(tensors, **given)

    return {_label(): Step(optimizer.step, lambda: [p.detach() for p in tensors])}


def _quiet() -> None:
    """It warns at import of kernels for GPUs that it cannot load."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


LIBRARY = Library(
    "bitsandbytes",
    module="bitsandbytes",
    install="bitsandbytes",
    needs=("torch",),
    optimizers=list(_CLASSES),
    steps=steps,
    pin=_torch.pin,
    before=_quiet,
    small_state=True,
)
