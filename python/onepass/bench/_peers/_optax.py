"""optax: an optimizer's step, compiled by jax.jit, the new values in the memory of the old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onepass.bench._peers import _jax
from onepass.bench._peers._library import Lazily, Library, Step, Steps, only

jax: Any = Lazily("jax")
optax: Any = Lazily("optax")
contrib: Any = Lazily("optax.contrib")


def _sgd(o: dict[str, Any]) -> Any:
    o = only(o, dampening=0.0)
    return optax.sgd(o["lr"], o["momentum"] or None, o["nesterov"])


def _adam(function: str) -> Callable[[dict[str, Any]], Any]:
    def make(o: dict[str, Any]) -> Any:
        b1, b2 = only(o, amsgrad=False, bias_correction=True)["betas"]
        return getattr(optax, function)(o["lr"], b1, b2, o["eps"])

    return make


def _adamw(o: dict[str, Any]) -> Any:
    b1, b2 = only(o, amsgrad=False, bias_correction=True)["betas"]
    return optax.adamw(o["lr"], b1, b2, o["eps"], weight_decay=o["weight_decay"])


def _rmsprop(o: dict[str, Any]) -> Any:
    return optax.rmsprop(
        o["lr"], o["alpha"], o["eps"], eps_in_sqrt=False, centered=o["centered"],
        momentum=o["momentum"] or None,
    )  # fmt: skip


def _lion(o: dict[str, Any]) -> Any:
    return optax.lion(o["lr"], *o["betas"], weight_decay=o["weight_decay"])


def _adagrad(o: dict[str, Any]) -> Any:
    start = only(o, lr_decay=0.0)["initial_accumulator_value"]
    return optax.adagrad(o["lr"], start, o["eps"])


def _adadelta(o: dict[str, Any]) -> Any:
    return optax.adadelta(o["lr"], o["rho"], o["eps"])


def _lamb(o: dict[str, Any]) -> Any:
    b1, b2 = o["betas"]
    return optax.lamb(o["lr"], b1, b2, o["eps"], weight_decay=o["weight_decay"])


def _ademamix(o: dict[str, Any]) -> Any:
    b1, b2, b3 = only(o, total_steps=None)["betas"]
    return contrib.ademamix(
        o["lr"], b1, b2, b3, o["alpha"], eps=o["eps"], weight_decay=o["weight_decay"]
    )


# Ours -> theirs by our options. Those that follow another formula are not here: amsgrad and nadam
# (other corrections), lars, adafactor, radam, adopt and rprop.
_MADE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sgd": _sgd,
    "sgd_momentum": _sgd,
    "adam": _adam("adam"),
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "rmsprop_momentum": _rmsprop,
    "rmsprop_centered": _rmsprop,
    "lion": _lion,
    "lamb": _lamb,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "adamax": _adam("adamax"),
    "ademamix": _ademamix,
}
_DECOUPLED = ("adamw", "lion", "lamb", "ademamix")


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    given = variant.record.complete(options)
    optimizer = _MADE[variant.name](only(given, decoupled_weight_decay=False))
    if given.get("weight_decay", 0.0) and variant.name not in _DECOUPLED:
        decay = optax.add_decayed_weights(given["weight_decay"])
        optimizer = optax.chain(decay, optimizer)
    sign = -1 if given.get("maximize") else 1

    def updated(params: Any, state: Any, grads: Any) -> Any:
        grads = [-g for g in grads] if sign < 0 else grads
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(updated, donate_argnums=(0, 1))
    held, slopes = _jax.on_device(list(params)), _jax.on_device(list(grads))
    now: tuple[list[Any], Any] = (held, optimizer.init(held))

    def step() -> None:
        nonlocal now
        now = jax.block_until_ready(compiled(*now, slopes))

    return {"optax jit": Step(step, lambda: now[0])}


LIBRARY = Library(
    "optax",
    module="optax",
    install="optax",
    needs=("jax",),
    optimizers=list(_MADE),
    steps=steps,
    functional=steps,
    pin=_jax.pin,
    before=_jax.before,
    devices=_jax.LIBRARY.devices,
    waits=True,
)
