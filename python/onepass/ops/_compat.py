"""How optimizers of other libraries differ from PyTorch's: the table behind ``compat=``.

For each kernel and library: the hyper-parameters and defaults that differ. All libraries of a
kernel name the same hyper-parameters. Sources: Keras 3 (keras.optimizers), optax
0.2, Chainer 7, thinc 9 and NVIDIA Apex (apex.optimizers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Library(NamedTuple):
    """An optimizer as a library has it.

    Attributes:
        formula: options that the kernel reads and no constructor takes.
        defaults: of the constructor, where they differ.
    """

    formula: Mapping[str, Any]
    defaults: Mapping[str, Any]


# The docstring's words for each option of a formula where a library differs from PyTorch.
WORDS = {
    "decoupled_weight_decay": "p *= 1 - lr·weight_decay instead of the penalty",
    "lr_inside": "lr stands inside the momentum buffer",
    "eps_inside": "eps stands under the root",
    "eps_outside": "eps is added to u, not to \\|g\\|",
    "eps_hat": "eps is added to √v, uncorrected",
    "eps_corrected": "eps is added to √v̂, corrected",
    "decay_by_lr": "decoupled decay is not scaled by lr",
    "decay_last": "decoupled decay comes after the update",
    "amsgrad_corrected": "amsgrad takes the maximum of v̂, corrected",
    "adapts_undecayed": "the ratio is 1 where weight_decay is 0",
    "steps_ahead": "t is one step ahead",
}


def _sgd(decoupled: bool, lr_inside: bool, **defaults: Any) -> Library:
    formula = {"decoupled_weight_decay": decoupled, "lr_inside": lr_inside}
    return Library(formula, defaults)


def _adam(
    eps_hat: bool = False,
    decay_by_lr: bool = True,
    decay_last: bool = False,
    amsgrad_corrected: bool = False,
    **defaults: Any,
) -> Library:
    formula = {
        "eps_hat": eps_hat,
        "decay_by_lr": decay_by_lr,
        "decay_last": decay_last,
        "amsgrad_corrected": amsgrad_corrected,
    }
    return Library(formula, defaults)


def _rmsprop(decoupled: bool, inside: bool, **defaults: Any) -> Library:
    formula = {
        "decoupled_weight_decay": decoupled,
        "eps_inside": inside,
        "lr_inside": inside,
    }
    return Library(formula, defaults)


def _adagrad(decoupled: bool, eps_inside: bool, **defaults: Any) -> Library:
    formula = {"decoupled_weight_decay": decoupled, "eps_inside": eps_inside}
    return Library(formula, defaults)


def _adadelta(decoupled: bool, **defaults: Any) -> Library:
    return Library({"decoupled_weight_decay": decoupled}, defaults)


def _adamax(decoupled: bool, eps_outside: bool, **defaults: Any) -> Library:
    formula = {"decoupled_weight_decay": decoupled, "eps_outside": eps_outside}
    return Library(formula, defaults)


def _radam(corrected: bool, decay_last: bool, steps_ahead: int, **defaults: Any) -> Library:
    formula = {
        "eps_corrected": corrected,
        "decay_last": decay_last,
        "steps_ahead": steps_ahead,
    }
    return Library(formula, defaults)


def _same(**defaults: Any) -> Library:
    return Library({}, defaults)


_TORCH = {"torch": _same()}
_DECOUPLED: dict[str, Any] = {"decoupled_weight_decay": True}
COMPAT: dict[str, Mapping[str, Library]] = {
    "sgd": {
        "torch": _sgd(False, False),
        "keras": _sgd(True, True, lr=1e-2),
        "optax": _sgd(False, False),
        "chainer": _sgd(False, True, lr=1e-2),
        "apex": _sgd(False, False),
    },
    "adam": {
        "torch": _adam(),
        "keras": _adam(eps_hat=True, eps=1e-7, **_DECOUPLED),
        "optax": _adam(amsgrad_corrected=True),
        "chainer": _adam(eps_hat=True, decay_by_lr=False, **_DECOUPLED),
        "thinc": _adam(eps_hat=True, decay_last=True, **_DECOUPLED),
        "apex": _adam(**_DECOUPLED),
    },
    "adamw": {
        "torch": _adam(),
        "keras": _adam(eps_hat=True, eps=1e-7, weight_decay=4e-3),
        "optax": _adam(weight_decay=1e-4),
        "chainer": _adam(eps_hat=True, decay_by_lr=False),
        "thinc": _adam(eps_hat=True, decay_last=True, weight_decay=0.0),
        "apex": _adam(weight_decay=0.0),
    },
    "rmsprop": {
        "torch": _rmsprop(False, False),
        "keras": _rmsprop(True, True, lr=1e-3, alpha=0.9, eps=1e-7),
        "optax": _rmsprop(False, True, alpha=0.9),
        "chainer": _rmsprop(False, False),
    },
    "nadam": {
        **_TORCH,
        "keras": _same(lr=1e-3, eps=1e-7, momentum_decay=1.0, **_DECOUPLED),
        "optax": _same(momentum_decay=1e9),  # μ is β₁ from the first step
    },
    "lion": {**_TORCH, "keras": _same(lr=1e-3), "optax": _same(weight_decay=1e-3)},
    "adagrad": {
        "torch": _adagrad(False, False),
        "keras": _adagrad(True, True, lr=1e-3, initial_accumulator_value=0.1, eps=1e-7),
        "optax": _adagrad(False, True, initial_accumulator_value=0.1, eps=1e-7),
        "chainer": _adagrad(False, False, lr=1e-3, eps=1e-8),
        "apex": _adagrad(False, False),
    },
    "adadelta": {
        "torch": _adadelta(False),
        "keras": _adadelta(True, lr=1e-3, rho=0.95, eps=1e-7),
        "optax": _adadelta(False),
        "chainer": _adadelta(False, rho=0.95),
    },
    "adamax": {
        "torch": _adamax(False, False),
        "keras": _adamax(True, True, lr=1e-3, eps=1e-7),
        "optax": _adamax(False, False),
    },
    "lamb": {
        "torch": Library({"adapts_undecayed": True}, {}),  # as You et al. have it
        "apex": Library({"adapts_undecayed": False}, {}),
    },
    "radam": {
        "torch": _radam(False, False, 0),
        "optax": _radam(True, False, 0),
        "thinc": _radam(False, True, 1, **_DECOUPLED),
    },
}


def libraries(kernel: str) -> Mapping[str, Library]:
    """Those that have the optimizer; PyTorch, or what we take for it, is the first."""
    return COMPAT.get(kernel, _TORCH)
