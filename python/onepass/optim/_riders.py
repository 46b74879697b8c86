"""Options that ride along the step of any optimizer: descriptions, ranges, arrays.

The formulas are in csrc/kernels/stages.h and the headers that it includes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from onepass import _numbers as numbers
from onepass._array import Array, brought_to, copy_into, parameter_dtype, zeros_like
from onepass._C import STAGES
from onepass.ops._ranges import RANGES, Range
from onepass.ops._rule import OptionRule
from onepass.optim import _torch_options
from onepass.optim._torch_options import TorchOptions


class StorageOptions(TorchOptions, total=False):
    """Keywords that leave an update as it is: they concern the gradient, averages and storage."""

    ema_decay: float | None
    noise: float
    seed: int
    state_dtype: Literal["bfloat16", "int8"] | None
    stochastic_rounding: bool
    master_weights: bool


class SharedOptions(StorageOptions, total=False):
    """Keywords that an elementwise optimizer's constructor takes beside its own."""

    l1: float
    max_weight_norm: float | None
    cautious: bool


# Each group has its own; they may change between steps.
OF_GROUPS: dict[str, Any] = {
    "l1": 0.0,
    "max_weight_norm": None,
    "ema_decay": None,
    "noise": 0.0,
    "cautious": False,
}
OF_OPTIMIZER: dict[str, Any] = {
    "seed": 0,
    "state_dtype": None,
    "stochastic_rounding": False,
    "master_weights": False,
}
STATE_DTYPES = (None, "bfloat16", "int8")
ALL = frozenset({*OF_GROUPS, *OF_OPTIMIZER})
OF_UPDATES = frozenset(OF_GROUPS) - {"noise", "ema_decay"}  # those may change what an update did
DOC = (
    """of every elementwise optimizer, all off by default. Of a group too, and free to change
        between steps: ``l1`` (after the update p ← sign(p)·max(|p| - lr·l1, 0), which leaves exact
        zeros), ``max_weight_norm`` (then each row of axis 0 of a parameter with two axes or more is
        scaled back to that norm, in a pass of its own over these parameters), ``ema_decay`` (then
        ``averages`` follow the parameters: a += (1 - ema_decay)·(p - a)), ``noise``
        (the standard deviation of Gaussian noise on the clipped gradient, a function of ``seed``,
        the parameter's number, its step and the element's index), ``cautious`` (an element moves
        only where its update agrees in sign with the gradient; a decoupled decay is not part of the
        update; Liang et al. 2024). Of the optimizer: ``seed``; ``state_dtype="bfloat16"`` (half the
        memory: states are computed in float32 and rounded up or down so that they are right on
        average; not for float64 parameters) or ``"int8"`` (a quarter: a byte an element and a
        float32 scale for each 256 of a parameter, rounded likewise; a NaN or an infinity makes its
        256 elements NaN; averages of gradients and of squares alone, in
        ``onepass.optim`` alone); of 16-bit parameters ``stochastic_rounding`` (to a neighbour that
        is right on average, with random bits like those of ``noise``) or ``master_weights`` (a
        float32 copy takes the steps, and the parameter is its rounded value).
        """
    + _torch_options.DOC
)


def refusal_of(rule: OptionRule) -> str | None:
    """Why an optimizer of that rule takes no riders; None: nothing in the rule says so."""
    if rule.factors:
        return "its sums are those of the plain gradient, and its states those of rows and columns"
    return "its norms are those of the plain gradient and parameter" if rule.norms else None


def ridden(groups: Iterable[Mapping[str, Any]], own: Settings) -> set[str]:
    """The options that are on: of a group, or of the optimizer. `seed` alone does nothing."""
    on = {k for group in groups for k, off in OF_GROUPS.items() if group.get(k, off) != off}
    of_optimizer = own._asdict().items()
    return on | {k for k, value in of_optimizer if k != "seed" and value != OF_OPTIMIZER[k]}


def refuse(owner: str, given: Mapping[str, Any], refused: frozenset[str], why: str | None) -> None:
    """TypeError for an option of riders that an optimizer refuses; it says why."""
    for name in given:
        if name in refused:
            none = "no options" if refused == ALL else f"none of {_comma_separated(refused)}"
            raise TypeError(
                f"{owner}: {name!r} is {given[name]!r}, expected no such keyword: {owner} takes "
                f"{none} that ride along a step, since {why}"
            )


def doc(refused: frozenset[str], why: str | None) -> str:
    """The description of the keywords that ride along, of an optimizer that refuses some."""
    if not refused:
        return DOC
    return (
        f"{DOC}\n        This one takes none of {_comma_separated(refused)}, since\n        {why}."
    )


def _comma_separated(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_AVERAGE, _MASTER = "average", "master_param"  # keys in a state_dict
Row = tuple[float, ...]  # a value for each of _C.STAGES


class Settings(NamedTuple):
    """Those of OF_OPTIMIZER, checked."""

    seed: int
    state_dtype: str | None
    stochastic_rounding: bool
    master_weights: bool


def settings(owner: str, given: Mapping[str, Any]) -> Settings:
    """The options of OF_OPTIMIZER that a constructor was given.

    Raises:
        TypeError, ValueError: naming the option.
    """
    seed = numbers.seed(owner, "seed", given.get("seed", 0))
    dtype = given.get("state_dtype")
    if dtype not in STATE_DTYPES:
        raise ValueError(
            f"{owner}: 'state_dtype' is {dtype!r}, expected None, 'bfloat16' or 'int8'"
        )
    flags = ("stochastic_rounding", "master_weights")
    stochastic, master = [numbers.flag(owner, name, given.get(name, False)) for name in flags]
    if stochastic and master:
        raise ValueError(
            f"{owner}: 'stochastic_rounding' is True, expected False with master_weights=True: "
            "a float32 copy loses nothing that random rounding would save"
        )
    return Settings(seed, dtype, stochastic, master)


def written(own: Settings, riding: bool) -> dict[str, Any]:
    """Those that a state_dict says: all if anything rides along, else what is not the default;
    PyTorch's and older ones say none."""
    given = own._asdict().items()
    return {name: value for name, value in given if riding or value != OF_OPTIMIZER[name]}


def _row(owner: str, group: Mapping[str, Any], own: Settings) -> Row:
    values: dict[str, float] = {}
    for name, off in OF_GROUPS.items():
        if (value := group.get(name)) is None and (name not in group or off is None):
            continue
        limits = RANGES[name]
        if limits is None:
            values[name] = numbers.flag(owner, name, value)
        else:
            assert isinstance(limits, Range)
            values[name] = limits.check(owner, name, value)
    row = {
        "noise": values["noise"],
        "cautious": float(values.get("cautious", False)),
        "l1": values.get("l1", 0.0),
        "average_gain": 1.0 - values.get("ema_decay", 1.0),
        "stochastic_rounding": float(own.stochastic_rounding),
        "max_weight_norm": values.get("max_weight_norm", 0.0),
        "dither": float(own.state_dtype is not None),
    }
    return tuple([row[name] for name in STAGES])


class Riders(NamedTuple):
    """The options that ride along the steps of some groups.

    Attributes:
        rows: of each group.
        averaged: whether each parameter has an average.
        masters: whether each has a master copy.
    """

    rows: tuple[Row, ...]
    averaged: tuple[bool, ...]
    masters: tuple[bool, ...]

    @property
    def active(self) -> bool:
        return any(map(any, self.rows)) or any(self.averaged) or any(self.masters)

    @property
    def arrays(self) -> Any:
        """The options that a plan must be made for."""
        return self.active, self.averaged, self.masters


def riders(
    owner: str,
    groups: Sequence[Mapping[str, Any]],
    arrays: Iterable[Array],
    own: Settings,
) -> Riders:
    """Checked options of all groups.

    Args:
        owner: for messages.
        groups: dicts of options.
        arrays: of the parameters.
        own: the options of the optimizer.

    Raises:
        TypeError, ValueError: naming the option.
    """
    rows = tuple(_row(owner, group, own) for group in groups)
    averaged = tuple(g["ema_decay"] is not None for g in groups for _ in g["params"])
    narrow = tuple(own.master_weights and _is_narrow(array) for array in arrays)
    return Riders(rows, averaged, narrow)


def _is_narrow(array: Array) -> bool:
    return bool(array.dtype.itemsize == 2)


class RiderArrays:
    """The averages and master copies of an optimizer, by parameter; None where it has none.

    Attributes:
        waiting: positions of averages that start with the next step of their parameters.
    """

    def __init__(self) -> None:
        self.averages: list[Array | None] = []
        self.masters: list[Array | None] = []
        self.waiting: set[int] = set()

    def follow(self, arrays: Sequence[Array], wanted: Riders) -> None:
        """Makes those that are wanted and not there; moves those that are to their parameters."""
        held = [a is not None for a in self.averages] + [False] * len(arrays)
        self.averages = _followed(arrays, self.averages, wanted.averaged)
        self.waiting = {
            i
            for i, (use, was) in enumerate(zip(wanted.averaged, held, strict=False))
            if use and (not was or i in self.waiting)
        }
        # Where its rounded value is not the parameter, a step begins with the parameter.
        self.masters = _followed(arrays, self.masters, wanted.masters)

    def begin(self, arrays: Sequence[Array], grads: Sequence[Any] | None = None) -> set[int]:
        """Sets waiting averages to their parameters, those of a step or all.

        Returns:
            Their positions: `waiting` no longer once the step is taken.
        """
        begun = self.waiting
        if grads is not None:
            begun = {i for i in begun if i < len(grads) and grads[i] is not None}
        for i in begun:
            copy_into(self.averages[i], arrays[i])
        return begun

    def stages(self, wanted: Riders) -> tuple[list[Array | None], ...] | None:
        """As a plan takes them."""
        if not wanted.active:
            return None
        return (_of(self.averages, wanted.averaged), _of(self.masters, wanted.masters))

    def saved(self, wanted: Riders) -> dict[str, list[Array | None]]:
        """By their keys in a state_dict."""
        found = {}
        if any(wanted.averaged):
            found[_AVERAGE] = _of(self.averages, wanted.averaged)
        if any(wanted.masters):
            found[_MASTER] = _of(self.masters, wanted.masters)
        return found

    def load(
        self, entries: Mapping[int, Mapping[str, Any]], arrays: Sequence[Array], wanted: Riders
    ) -> None:
        """Takes over what `names` of a state_dict had; other averages are still to start."""
        for index, array in enumerate(arrays):
            entry = entries.get(index, {})
            if (average := self.averages[index]) is not None and wanted.averaged[index]:
                if _AVERAGE in entry:
                    copy_into(average, entry[_AVERAGE])
                    self.waiting.discard(index)
                else:
                    self.waiting.add(index)
            if (master := self.masters[index]) is not None and wanted.masters[index]:
                copy_into(master, entry.get(_MASTER, array))

    def restart(self, indices: Iterable[int]) -> None:
        """Those of these parameters are made anew by the next `follow`."""
        for i in indices:
            self.averages[i] = self.masters[i] = None

    def drop(self, first: int) -> None:
        """Forgets those of parameter ``first`` and the ones after it."""
        del self.averages[first:], self.masters[first:]
        self.waiting = {i for i in self.waiting if i < first}


def names(wanted: Riders) -> list[str]:
    """The keys of a state_dict that hold arrays of riders."""
    return [_AVERAGE] * any(wanted.averaged) + [_MASTER] * any(wanted.masters)


def required(wanted: Riders, index: int) -> set[str]:
    """Those that a parameter with steps must have: a master copy can be made anew."""
    return {_AVERAGE} if wanted.averaged[index] else set()


def _of(held: Sequence[Array | None], wanted: Sequence[bool]) -> list[Array | None]:
    return [array if use else None for array, use in zip(held, wanted, strict=True)]


def _followed(
    arrays: Sequence[Array], held: Sequence[Array | None], wanted: Sequence[bool]
) -> list[Array | None]:
    followed: list[Array | None] = []
    for index, (array, use) in enumerate(zip(arrays, wanted, strict=True)):
        # One that is switched off is forgotten: it would go on from where it stood.
        own = held[index] if use and index < len(held) else None
        if own is not None:
            own = brought_to(array, own)
        elif use:
            own = zeros_like(array, parameter_dtype(array))
        followed.append(own)
    return followed
