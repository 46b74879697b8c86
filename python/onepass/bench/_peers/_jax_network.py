"""JAX's training step of a network, with optax, compiled."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from onepass.bench import _training as training
from onepass.bench._peers import _jax, _optax
from onepass.bench._peers._library import Lacks, Lazily, Step

jax: Any = Lazily("jax")
jnp: Any = Lazily("jax.numpy")
optax: Any = Lazily("optax")


def make(network: training.Network, options: training.AdamWOptions, dropout: bool) -> Step:
    """Weights lie as (in, out), as is JAX's custom; a step takes the memory of the one before."""
    why = _optax.LIBRARY.absent()
    if why is not None:
        raise Lacks(f"optax: {why}")

    def turned(p: Any) -> Any:
        return p.T if p.ndim == 2 else p

    forward: Any = _mlp if isinstance(network, training.Mlp) else _blocks
    x, t = jnp.array(network.in_order), jnp.array(training.target(network))
    adamw = optax.adamw(
        options.lr, *options.betas, eps=options.eps, weight_decay=options.weight_decay
    )
    optimizer = optax.chain(optax.clip_by_global_norm(training.MAX_NORM), adamw)

    def loss_of(params: Any, stats: Any, key: Any, x: Any, t: Any) -> Any:
        logits, stats = forward(network, key, params, stats, x, dropout)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, t)
        return each.mean(), stats

    def updated(params: Any, stats: Any, state: Any, key: Any, x: Any, t: Any) -> Any:
        key, now = jax.random.split(key)
        slope = jax.value_and_grad(loss_of, has_aux=True)
        (loss, stats), grads = slope(params, stats, now, x, t)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state, key), loss

    params = [jnp.array(turned(p)) for p in network.parameters()]
    stats = [(jnp.zeros(n), jnp.ones(n)) for n in network.normed()]
    compiled = jax.jit(updated, donate_argnums=(0, 1, 2, 3))
    now = (params, stats, optimizer.init(params), jax.random.key(0))

    def run() -> Any:
        nonlocal now
        now, loss = jax.block_until_ready(compiled(*now, x, t))
        return loss

    return Step(run, lambda: [np.array(turned(p)) for p in now[0]])


def _mlp(
    network: training.Mlp, key: Any, params: list[Any], stats: list[Any], x: Any, dropout: bool
) -> Any:
    """(logits, new running statistics)"""
    found = []
    for i in range(len(network.sizes) - 2):
        w, b, gain, shift = params[4 * i : 4 * i + 4]
        mean, var = stats[i]
        x, *new = _jax.batch_norm(
            None, x @ w + b, gain, shift, mean, var, None, training=True, activation="relu"
        )
        found.append(tuple(new))
        if dropout:
            key, now = jax.random.split(key)
            x = _jax.dropped(now, x, network.p)
    w, b = params[-2:]
    return x @ w + b, found


def _blocks(
    network: training.Blocks, key: Any, params: list[Any], stats: list[Any], x: Any, dropout: bool
) -> Any:
    found = []

    def norm(x: Any, i: int, residual: Any) -> Any:
        (gain, shift), (mean, var) = params[2 * i : 2 * i + 2], stats[i]
        y, *new = _jax.batch_norm(
            None, x, gain, shift, mean, var, residual,
            training=True, channels_last=network.last, activation="relu",
        )  # fmt: skip
        found.append(tuple(new))
        return y

    for i in range(network.blocks):
        x = norm(norm(x, 2 * i, None), 2 * i + 1, x)
    w, b = params[-2:]
    return x.mean((1, 2) if network.last else (2, 3)) @ w + b, found


LIBRARY = dataclasses.replace(_jax.LIBRARY, networks={_jax.LABEL: make})
