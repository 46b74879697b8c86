"""Rivals beside PyTorch for a step of an optimizer: optax, compiled by JAX, and thinc. Each
is timed where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[[], object]

# Ours -> optax's, in optax or optax.contrib.
OPTAX = {
    "sgd": "sgd",
    "adam": "adam",
    "adamw": "adamw",
    "rmsprop": "rmsprop",
    "nadam": "nadam",
    "lion": "lion",
    "lars": "lars",
    "lamb": "lamb",
    "adagrad": "adagrad",
    "adadelta": "adadelta",
    "adamax": "adamax",
    "radam": "radam",
    "adafactor": "adafactor",
    "rprop": "rprop",
    "ademamix": "ademamix",
}
THINC = {"sgd": "SGD", "adam": "Adam", "radam": "RAdam"}


def steps(
    name: str, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]
) -> dict[str, Function]:
    """{label: step} of those who have the optimizer ``name``, over copies of the parameters."""
    found = {}
    for label, make in (("optax jit", _optax), ("thinc", _thinc)):
        try:
            step = make(name, params, grads)
        except ImportError:
            continue
        if step is not None:
            found[label] = step
    return found


def _optax(name: str, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> Function | None:
    if name not in OPTAX:
        return None
    import jax
    import optax

    place = optax if hasattr(optax, OPTAX[name]) else optax.contrib
    optimizer = getattr(place, OPTAX[name])(1e-5)

    def updated(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(updated, donate_argnums=(0, 1))  # the new values take the old ones' memory
    given = [jax.numpy.array(g) for g in grads]
    held = [jax.numpy.array(p) for p in params]
    now = held, optimizer.init(held)

    def step() -> None:
        nonlocal now
        now = jax.block_until_ready(compiled(*now, given))

    step()
    return step


def _thinc(name: str, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> Function | None:
    if name not in THINC:
        return None
    from thinc import optimizers

    optimizer = getattr(optimizers, THINC[name])(1e-5, grad_clip=0, use_averages=False)
    held = [
        (("bench", str(i)), p.copy(), g.copy())
        for i, (p, g) in enumerate(zip(params, grads, strict=True))
    ]

    def step() -> None:
        for key, weights, gradient in held:
            optimizer(key, weights, gradient)
        optimizer.step_schedules()

    step()
    return step
