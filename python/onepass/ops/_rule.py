"""What an optimizer is, as data: kernel, states, options and their ranges.

The in-place function of ``ops`` and the class of ``optim`` share one `Rule`. The extension says how
a kernel's states and hyper-parameters are named and ordered; a rule adds what it cannot know.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from onepass import _C
from onepass._numbers import flag, in_range

Options = Mapping[str, Any]
Launch = tuple[str, tuple[str | None, ...]]  # a kernel, and its states; None: without that one


class Range(NamedTuple):
    """The finite numbers from ``low`` to below ``high``, as `in_range` takes them.

    Attributes:
        above: the lower end instead of ``low``, itself excluded.
        most: the upper end instead of ``high``, itself included.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float | None = None
    most: float | None = None

    def check(self, owner: str, name: str, value: Any) -> float:
        """``value`` as a float; TypeError or ValueError if it is no number of the range."""
        low, high, above, most = self
        return in_range(owner, name, value, low, high, above=above, most=most)


# Of every option: a range, or None for True or False. Each number of a tuple such as betas, which
# the kernel reads as beta1 and beta2, lies in it. A rule may say otherwise for its optimizer.
RANGES: dict[str, Range | None] = {
    "lr": Range(0),
    "betas": Range(0, 1),
    "alpha": Range(0, 1),
    "eps": Range(0),
    "weight_decay": Range(0),
    "momentum": Range(0),
    "dampening": Range(),
    "nesterov": None,
    "momentum_decay": Range(0),
    "decoupled_weight_decay": None,
}
# The numbers that a plan carries for each parameter.
SCALAR_RANGES = {"mu_product": Range(0, most=1)}
# The states that are never negative.
SQUARES = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})

_UPDATES = {kernel["name"]: kernel for kernel in _C.kernels() if kernel["kind"] == "update"}


class State(NamedTuple):
    """An array that an optimizer keeps for each parameter.

    Attributes:
        key: its name in a state_dict, PyTorch's; a function of ``ops`` takes a list ``key + "s"``.
        when: the option that asks for it; None: it is always there.
        start: what it holds before the first gradient: a number, or a function of the group's
            options.
    """

    key: str
    when: str | None = None
    start: float | Callable[[Options], float] = 0.0

    def start_in(self, group: Options) -> float:
        return float(self.start(group) if callable(self.start) else self.start)


class Needs(NamedTuple):
    """A value of ``option`` goes with values of ``others`` only if ``holds(value, *values)``."""

    option: str
    others: tuple[str, ...]
    holds: Callable[..., bool]
    expected: str


class Rule:
    """An optimizer: what it adds to its kernel.

    Args:
        kernel: name of the update in csrc/kernels/update_list.h.
        states: those that are optional or do not start at zero; the others follow from the kernel.
        needs: checks that span several options.
        ignored: {option: other}: the option counts as 0 where ``other`` is 0.
        instead: (option, kernel): with that option on in every group, that kernel runs.
        compat: {library: {option: value}}, the formula's options that the constructor sets for
            that library; every library names the same ones.
        ranges: {option: range} of this optimizer, where RANGES has none or another one.
        counted: whether a state_dict must have the step counts. Those of other libraries have none
            for an optimizer whose formula hardly needs them.

    Attributes:
        identity: options that a state_dict may lack but not contradict.
        scalars: the numbers that the plan keeps for each parameter beside its step count, and where
            they start.
        starts_follow: whether a state's start depends on options.
        lr_leads: whether a new learning rate >= 0 changes the first hyper-parameter and no more.
    """

    def __init__(
        self,
        kernel: str,
        *states: State,
        needs: Sequence[Needs] = (),
        ignored: Mapping[str, str] | None = None,
        instead: tuple[str, str] | None = None,
        compat: Mapping[str, Options] | None = None,
        ranges: Mapping[str, Range | None] | None = None,
        counted: bool = True,
    ) -> None:
        info = _UPDATES[kernel]
        lists = (*info["operands"][2:], *info["optional"])
        special = {f"{state.key}s": state for state in states}
        if wrong := set(special) - set(lists):
            raise ValueError(f"{kernel}: {wrong} are no states of the kernel, which has {lists}")
        self.kernel, self.needs, self.instead = kernel, tuple(needs), instead
        self.counted = counted
        self.scalars: dict[str, float] = dict(zip(info["scalars"], info["starts"], strict=True))
        self.compat = compat or {"torch": {}}
        formula = {option for options in self.compat.values() for option in options}
        if any(set(options) != formula for options in self.compat.values()):
            raise ValueError(f"{kernel}: every row of compat needs all of {sorted(formula)}")
        self.identity = (*formula, *([instead[0]] if instead else []))
        self.states = tuple(special.get(name) or State(name.removesuffix("s")) for name in lists)
        self._reads = _reads(info["hyper"], ignored or {}, {**RANGES, **(ranges or {})})
        self._hyper = {option for option, *_ in self._reads}
        if unread := sorted(set(ranges or {}) - self._hyper):
            raise ValueError(f"{kernel}: {unread} of ranges are no hyper-parameters of the kernel")
        self.starts_follow = any(callable(state.start) for state in self.states)
        leads = self._reads[0][:3] == ("lr", 0, Range(0)) and not self.starts_follow
        judged = {name for need in self.needs for name in (need.option, *need.others)}
        self.lr_leads = leads and "lr" not in {*judged, *(ignored or {}).values()}
        for state in self.states[len(info["operands"]) - 2 :]:
            if state.when is None:
                raise ValueError(f"{kernel}: nothing says when {state.key} is kept")
        if instead is not None:
            other = _UPDATES[instead[1]]
            if (lists, info["hyper"]) != (
                (*other["operands"][2:], *other["optional"]),
                other["hyper"],
            ):
                raise ValueError(f"{kernel}: {instead[1]} has other states or hyper-parameters")

    def hyper(self, owner: str, options: Options) -> tuple[float, ...]:
        """Checked hyper-parameters in the kernel's order, without the step.

        Raises:
            ValueError, TypeError: naming the option, its value and what was expected.
        """
        values: list[float] = []
        for option, count, limits, other, low, high in self._reads:
            value = options[option]
            if type(value) is float and low <= value < high:
                number = value  # at once: a schedule changes the learning rate every step
            elif limits is None:
                number = float(flag(owner, option, value))
            elif count:
                values += _several(owner, option, value, count, limits)
                continue
            else:
                number = limits.check(owner, option, value)
            values.append(0.0 if other is not None and options[other] == 0 else number)
        for option, others, holds, expected in self.needs:
            given = [options[name] for name in others]
            if not holds(options[option], *given):
                shown = ", ".join(f"{n}={v!r}" for n, v in zip(others, given, strict=True))
                raise ValueError(
                    f"{owner}: {option!r} is {options[option]!r}, expected {expected} with it, "
                    f"given {shown}"
                )
        return tuple(values)

    def launch(self, owner: str, groups: Sequence[Options]) -> Launch:
        """The kernel that serves all groups, and its states; None for one that is not kept."""
        kernel = self.kernel
        if self.instead is not None and uniform(owner, self.instead[0], groups):
            kernel = self.instead[1]
        kept = [
            state.key if state.when is None or self._keeps(owner, state.when, groups) else None
            for state in self.states
        ]
        return kernel, tuple(kept)

    def _keeps(self, owner: str, option: str, groups: Sequence[Options]) -> bool:
        if option in self._hyper:  # 0 in a group that does without: the state has no effect there
            return any(group[option] != 0 for group in groups)
        return uniform(owner, option, groups)

    def lists(self, op: str, given: Mapping[str, Any]) -> list[Any]:
        """The lists of states that a function of ``ops`` was given; None for one not asked for."""
        lists = []
        for state in self.states:
            arrays = given[f"{state.key}s"]
            if state.when in self._hyper:
                if given[state.when] == 0:
                    arrays = None
                elif arrays is None:
                    raise ValueError(
                        f"{op}: '{state.key}s' is None, expected arrays like 'params', since "
                        f"{state.when} > 0"
                    )
            lists.append(arrays)
        return lists


def uniform(owner: str, option: str, groups: Sequence[Options]) -> bool:
    """An option that one launch cannot vary between groups."""
    # None stands for False in old files of torch's.
    value = flag(owner, option, groups[0][option] or False)
    for group in groups[1:]:
        if flag(owner, option, group[option] or False) != value:
            raise ValueError(
                f"{owner}: {option!r} differs between groups; use one optimizer for each"
            )
    return value


_Read = tuple[str, int, Range | None, str | None, float, float]


def _reads(
    hyper: Sequence[str], ignored: Mapping[str, str], ranges: Mapping[str, Range | None]
) -> list[_Read]:
    """(option, how many numbers where it is a tuple, range, option without which it counts as 0,
    least number that is surely in the range, number below which it is)
    """
    reads: list[_Read] = []
    for name in hyper:
        tupled = f"{name.rstrip('0123456789')}s"
        if name == "step":
            continue
        if name in ranges:
            reads.append((name, 0, ranges[name], ignored.get(name), *_sure(ranges[name])))
        elif name.endswith("1"):
            count = sum(other.rstrip("0123456789") == tupled[:-1] for other in hyper)
            reads.append((tupled, count, ranges[tupled], None, math.inf, math.inf))
        elif not (reads and reads[-1][0] == tupled):
            raise ValueError(
                f"no range for the hyper-parameter {name!r}: add it to RANGES, or to the rule"
            )
    return reads


def _sure(limits: Range | None) -> tuple[float, float]:
    if limits is None or limits.above is not None or limits.most is not None:
        return math.inf, math.inf
    return max(limits.low, -sys.float_info.max), limits.high


def _several(owner: str, option: str, value: Any, count: int, limits: Range) -> list[float]:
    try:
        values = list(value)
    except TypeError:
        values = []
    if len(values) != count:
        expected = "a pair of" if count == 2 else count
        raise ValueError(f"{owner}: {option!r} is {value!r}, expected {expected} numbers")
    low, high = _sure(limits)
    return [
        number
        if type(number) is float and low <= number < high
        else limits.check(owner, f"{option}[{i}]", number)
        for i, number in enumerate(values)
    ]
