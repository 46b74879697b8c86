"""What the handlers know of the kernels of optimizers, and what a state has for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp

from onepass.jax._checks import number
from onepass.jax._flat import Leaves
from onepass.jax._muon import NAMES, numbers_of
from onepass.ops._declare_update import RULES
from onepass.ops._rule import UPDATES, Options, Rule, State

Arrays = Mapping[str, Any]  # options that an optimizer was given as arrays


def state_dtype(parameters: str) -> str:
    """Of states, beside parameters of that dtype."""
    return "float64" if parameters == "float64" else "float32"


class Kernel(NamedTuple):
    """How a rule of csrc/kernels/update_list.h is called.

    Attributes:
        target: its handler.
        place: its index, as the handlers know it.
        numbers: names of the hyper-parameters in a state.
        scalars: names of the numbers that a rule carries from step to step.
        states: all that there may be, in the kernel's order.
        norms, factors: how many a step needs of whole parameters.
        whole: whether it needs their extents.
        extents: those that its handler gets.
        values: the checked numbers of a group; arrays where they are given.
    """

    target: str
    place: int
    numbers: tuple[str, ...]
    scalars: tuple[str, ...]
    states: tuple[State, ...]
    norms: int
    factors: int
    whole: bool
    extents: Callable[[Leaves], tuple[float, ...]]
    values: Callable[[str, Rule, Options, Arrays], list[Any]]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.numbers, *self.scalars)

    @property
    def rate(self) -> int:
        """The place of the learning rate among the numbers; -1: they have none."""
        return self.numbers.index("lr") if "lr" in self.numbers else -1

    def variant(self, keys: Sequence[str]) -> int:
        """A bit for each optional state that is kept."""
        optional = [state.key for state in self.states if state.when is not None]
        return sum(1 << i for i, key in enumerate(optional) if key in keys)

    def lengths(self, leaves: Leaves) -> dict[str, int]:
        """How many elements each state has for parameters of these shapes."""
        shapes = [[state.shape(shape) for shape, _ in leaves] for state in self.states]
        return {
            state.key: sum(math.prod(shape) for shape in own if shape is not None)
            for state, own in zip(self.states, shapes, strict=True)
        }


@cache
def kernel_of(name: str) -> Kernel | None:
    """Of its name; None where there is no such kernel."""
    if name not in UPDATES:
        return None
    info, rule = UPDATES[name], RULES[name]
    norms, factors = len(info["norms"]), len(info["factors"])
    place, scalars = [*UPDATES].index(name), tuple(info["scalars"])
    if name == "muon":  # its products are NumPy's: _muon.py
        # A matrix has no average of squares.
        states = [
            s._replace(extent="vector's element") if s.key == "exp_avg_sq" else s
            for s in rule.states
        ]
        return Kernel(
            "muon", place, NAMES, scalars, tuple(states), norms, factors, True, _matrices,
            lambda _owner, _rule, group, arrays: numbers_of({**group, **arrays}),
        )  # fmt: skip
    numbers = tuple(n for n in info["hyper"] if n != "step")
    return Kernel(
        "update", place, numbers, scalars, rule.states, norms, factors, norms + factors > 0,
        _extents, _values,
    )  # fmt: skip


def _values(owner: str, rule: Rule, group: Options, arrays: Arrays) -> list[Any]:
    values: list[Any] = list(rule.of_group(owner, group))
    names = [name for name in UPDATES[rule.kernel]["hyper"] if name != "step"]
    for option in arrays.keys() & set(names):
        values[names.index(option)] = number(owner, option, arrays[option])
    for option, other in rule.ignored.items():
        place = names.index(option)
        if other in arrays:
            if option in arrays or group[option] != 0:
                on = number(owner, other, arrays[other]) != 0
                values[place] = jnp.where(on, values[place], 0.0)
        elif group[other] == 0:
            values[place] = 0.0
    return values


def _extents(leaves: Leaves) -> tuple[float, ...]:
    """(height, width, size) of each parameter: its last two extents, 0 where it has fewer."""
    found: list[float] = []
    for shape, _ in leaves:
        found += [*(shape[-2:] if len(shape) >= 2 else (0, 0)), math.prod(shape)]
    return tuple(found)


def _matrices(leaves: Leaves) -> tuple[float, ...]:
    """(rows, columns, size) of each parameter: its first axis and all others, 0 of a vector."""
    found: list[float] = []
    for shape, _ in leaves:
        found += [*((shape[0], math.prod(shape[1:])) if len(shape) >= 2 else (0, 0))]
        found.append(math.prod(shape))
    return tuple(found)
