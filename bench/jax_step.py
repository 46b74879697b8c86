"""What a step of onepass.jax costs inside jax.jit, to compile and to run, beside optax.

    python bench/jax_step.py [--leaves 1000] [--rounds 30]

AdamW over parameters of 37 x 11 in float32; states and flat parameters are donated. Seconds to
compile, without tracing; median milliseconds of a step, all forms in turn.
"""

import argparse
import time
from statistics import median

import jax
import numpy as np
import onepass.jax
import optax
from onepass import optim

OPTIONS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 1e-2}  # as optax names them


def compiled(function, donated, *arguments):
    """(seconds to compile, the function)."""
    lowered = jax.jit(function, donate_argnums=donated).lower(*arguments)
    began = time.perf_counter()
    made = lowered.compile()
    return time.perf_counter() - began, made


def forms(params, grads):
    """label -> (seconds to compile, a step)."""
    flat, ours, theirs = onepass.jax.flat(params), onepass.jax.adamw(), optax.adamw(1e-3, **OPTIONS)
    found = {}

    def add(label, function, donated, fixed, held):
        seconds, made = compiled(function, donated, fixed, *held)

        def step():
            nonlocal held
            held = made(fixed, *held)
            jax.block_until_ready(held)

        found[label] = seconds, step

    for label, given in (("apply, flat gradients", onepass.jax.flat(grads)),
                         ("apply, gradients of a tree", grads)):  # fmt: skip
        own = jax.tree_util.tree_map(jax.numpy.copy, flat)
        add(label, onepass.jax.apply, (1, 2), given, (own, ours.init(own)))

    def updating(transformation):
        def step(grads, _, state):
            return transformation.update(grads, state, params)

        return step

    for label, made in (("update", ours), ("optax.adamw", theirs)):
        room = jax.tree_util.tree_map(jax.numpy.zeros_like, params)  # of the updates
        add(label, updating(made), (1, 2), grads, (room, made.init(params)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((37, 11), np.float32) for _ in range(given.leaves)]
    params = {f"p{i}": jax.numpy.asarray(v) for i, v in enumerate(values)}
    slopes = [rng.standard_normal((37, 11), np.float32) for _ in values]
    found = forms(params, {f"p{i}": jax.numpy.asarray(g) for i, g in enumerate(slopes)})
    plain = optim.AdamW([v.copy() for v in values])
    steps = {label: step for label, (_, step) in found.items()}
    steps["onepass.optim, outside of JAX"] = lambda: plain.step(slopes)
    times = {label: [] for label in steps}
    for _ in range(given.rounds):
        for label, step in steps.items():
            began = time.perf_counter()
            step()
            times[label].append(time.perf_counter() - began)
    print(f"{'form':30} compile, s  step, ms")
    for label, own in times.items():
        seconds = f"{found[label][0]:10.2f}" if label in found else " " * 10
        print(f"{label:30} {seconds}  {1e3 * median(own):8.2f}")


if __name__ == "__main__":
    main()
