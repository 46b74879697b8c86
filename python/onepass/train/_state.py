"""A trainer's whole state: what a checkpoint keeps and a resume restores."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onepass import nn
from onepass.train import _store
from onepass.train._history import History

if TYPE_CHECKING:
    from onepass.train._callbacks import Callback
    from onepass.train._trainer import Trainer

COUNTERS = ("epoch", "step", "position", "skipped_steps", "stop", "lr", "sums", "data")


def save(trainer: Trainer, root: str | Path) -> Path:
    """Write the state between two steps."""
    scheduler = trainer.scheduler
    parts = {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "callbacks": {key: c.state_dict() for key, c in _named(trainer.callbacks).items()},
        "trainer": {
            **{name: getattr(trainer, name) for name in COUNTERS},
            "history": dict(trainer.history),
            "gradients": [k for k, p in trainer.model.named_parameters() if p.grad is not None],
            "rng": nn.get_rng_state(trainer.model),
            "seed": trainer.seed,
            "modules": _classes(trainer.model),
        },
    }
    return _store.write(root, trainer.step, parts)


def restore(trainer: Trainer, parts: dict[str, Any]) -> None:
    """Put a state back; ValueError where it is of another architecture or seed, nothing changed."""
    chosen = seed(trainer, parts)
    # The optimizer comes last: a schedule that is put back sets the rates.
    holders = [h for h in (trainer.model, trainer.scheduler, trainer.optimizer) if h is not None]
    before = [copy.deepcopy(holder.state_dict()) for holder in holders]
    try:
        _check_classes(trainer.model, parts["trainer"].get("modules"))
        trainer.model.load_state_dict(parts["model"])
        trainer.optimizer.load_state_dict(parts["optimizer"])
        _restore_scheduler(trainer, parts["scheduler"])
        nn.set_rng_state(parts["trainer"]["rng"], trainer.model)
    except (ValueError, KeyError, TypeError) as error:
        for holder, state in zip(holders, before, strict=True):
            holder.load_state_dict(state)
        raise ValueError(f"the checkpoint does not fit this trainer: {error}") from error
    trainer.seed = chosen
    # A gradient that is there, zero, counts as a step for its parameter; one that is not, does not.
    for name, parameter in trainer.model.named_parameters():
        there = name in parts["trainer"]["gradients"]
        parameter.grad = np.zeros_like(parameter.data) if there else None
    for name in COUNTERS:
        setattr(trainer, name, parts["trainer"][name])
    trainer.history = History(parts["trainer"]["history"])
    for key, callback in _named(trainer.callbacks).items():
        if key in parts["callbacks"]:
            callback.load_state_dict(parts["callbacks"][key])
    trainer.loaded = True


def seed(trainer: Trainer, parts: dict[str, Any]) -> int:
    """The seed of the saved run, which a trainer of the default seed takes over.

    Raises:
        ValueError: the trainer was given another one: the batches' order would break off.
    """
    saved = int(parts["trainer"].get("seed", trainer.seed))
    if trainer.seed not in (0, saved):
        raise ValueError(
            f"seed={trainer.seed}, but the checkpoint is of a run with seed={saved}; pass that, or "
            "leave seed out to go on with the checkpoint's"
        )
    return saved


def seed_dropout(model: Any, seed: int) -> None:
    """The masks that ``nn.manual_seed(seed)`` would give, without seeding anything else.

    Layers made later keep their own random initial values, so an ensemble trained in a loop does
    not start from the same weights each time.
    """
    state = nn.get_rng_state(model)
    state["layers"] = {name: [seed, i << 40] for i, name in enumerate(state["layers"])}
    nn.set_rng_state(state, model)


def _classes(model: Any) -> dict[str, str]:
    """Name of every module → its class. Two architectures may agree in every array's shape."""
    return {name: type(module).__name__ for name, module in model.named_modules()}


def _check_classes(model: Any, saved: dict[str, str] | None) -> None:
    """The saved model's classes are this one's; a checkpoint of an earlier version has none."""
    if saved is None:
        return
    here = _classes(model)
    for name in {**saved, **here}:
        was, now = saved.get(name, "not there"), here.get(name, "not there")
        if was != now:
            what = f"module {name!r}" if name else "the model"
            raise ValueError(f"{what} is {now} here and {was} in the checkpoint")


def _restore_scheduler(trainer: Trainer, state: dict[str, Any] | None) -> None:
    if (state is None) != (trainer.scheduler is None):
        has, gets = ("no", "one") if state is None else (f"a {state['type']}", "none")
        raise ValueError(f"the checkpoint has {has} scheduler and the trainer has {gets}")
    if trainer.scheduler is not None and state is not None:
        trainer.scheduler.load_state_dict(state)


def _named(callbacks: list[Callback]) -> dict[str, Callback]:
    """Callbacks that have a state, by class and number: EarlyStopping, EarlyStopping-1, …"""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        key = kind = type(callback).__name__
        number = 0
        while key in named:
            number += 1
            key = f"{kind}-{number}"
        named[key] = callback
    return {key: callback for key, callback in named.items() if callback.state_dict()}
