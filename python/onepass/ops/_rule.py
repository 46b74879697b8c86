"""An optimizer as data: kernel, states, options and their ranges.

The in-place function of ``ops`` and the class of ``optim`` share one `Rule`. The extension gives
the names and order of a kernel's states and hyper-parameters; a rule adds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from onepass import _C
from onepass._numbers import flag, one_of
from onepass.ops._compat import libraries
from onepass.ops._ranges import RANGES, SCALAR_RANGES, Limits, Range, code_of, reads, several

Options = Mapping[str, Any]
Launch = tuple[str, tuple[str | None, ...]]  # a kernel, and its states; None: without that one


UPDATES = {kernel["name"]: kernel for kernel in _C.kernels() if kernel["kind"] == "update"}


Extent = Literal["element", "row", "column", "vector's element"]
_FACTORS: tuple[Extent, ...] = ("row", "column", "vector's element")  # in the kernel's order


class State(NamedTuple):
    """An array that an optimizer keeps for each parameter.

    Attributes:
        key: its name in a state_dict, PyTorch's.
        when: the option that asks for it; None: it is always there.
        start: what it holds before the first gradient: a number, or the option that says it.
        named: the list of it that the kernel and a function of ``ops`` take, where that is not
            ``key + "s"``.
        extent: what it holds a value for, see `shape`.
    """

    key: str
    when: str | None = None
    start: float | str = 0.0
    named: str | None = None
    extent: Extent = "element"

    @property
    def plural(self) -> str:
        return self.named or f"{self.key}s"

    @property
    def code(self) -> Literal["uint8", "int8"] | None:
        """The dtype of its codes of 8 bits; None: it is not stored so."""
        return code_of(self.key) if self.extent == "element" else None

    def shape(self, parameter: Sequence[int]) -> tuple[int, ...] | None:
        """Its shape beside a parameter of that shape; None: such a parameter does without it.

        Rows and columns are those of matrices, the last two axes. A parameter with fewer axes is a
        vector.
        """
        shape = tuple(map(int, parameter))
        if self.extent == "element":
            return shape
        if (self.extent == "vector's element") == (len(shape) >= 2):
            return None
        if self.extent == "row":
            return (*shape[:-1], 1)
        if self.extent == "column":
            return (*shape[:-2], 1, shape[-1])
        return shape


class Needs(NamedTuple):
    """A value of ``option`` goes with values of ``others`` only if ``holds(value, *values)``."""

    option: str
    others: tuple[str, ...]
    holds: Callable[..., bool]
    expected: str


class OptionRule:
    """An optimizer's options, as data: what `Optimizer` asks of any rule.

    An optimizer without a kernel of its own has no more; `Rule` has one.

    Attributes:
        options: all that the constructor takes and a step depends on.
        reads: those of them that the kernel reads; `asked` those that a function of ``ops`` takes.
        switches: flags that ask for a state; the function of ``ops`` does not take them, and means
            those whose lists of states it is given.
        compat: the options of each library's formula, which no constructor takes.
        added: options that PyTorch's optimizer lacks, so that a state_dict may lack them.
        identity: options that a state_dict may lack but not contradict.
        counted: whether a state_dict must have the step counts.
        states: the arrays of each parameter; `keys` their names in a state_dict.
        scalars: the numbers that the plan keeps for each parameter beside its step count, and where
            they start.
        starts_follow: whether a state starts at the value of an option.
        lr_leads: the range [low, high) in which a new learning rate changes the first
            hyper-parameter and no more; None: no such range is known.
        norms, factors: what a step needs of whole parameters: names of norms, and of states of rows
            and columns.
    """

    states: tuple[State, ...] = ()
    keys: tuple[str, ...] = ()
    scalars: Mapping[str, float] = {}
    switches: Mapping[str, State] = {}
    identity: tuple[str, ...] = ()
    added: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    norms: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    counted = True
    starts_follow = False
    lr_leads: tuple[float, float] | None = None

    def __init__(self, options: Iterable[str], **attributes: Any) -> None:
        self.options = frozenset(options)
        self.compat: Mapping[str, Options] = {"torch": {}}
        vars(self).update(attributes)

    def formula(self, owner: str, compat: Any) -> Options:
        """The options of the formula that ``compat`` names; ValueError for another name."""
        one_of(owner, "compat", compat, tuple(self.compat))
        return self.compat[compat]

    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        """A row of hyper-parameters of a group, all of whose options are checked."""
        raise NotImplementedError

    def launch(self, owner: str, groups: Sequence[Options]) -> Launch:
        """The kernel that serves all groups, and its states; None for one that is not kept."""
        raise NotImplementedError

    def start(self, owner: str, state: State, group: Options) -> float:
        """The value of ``state`` before the first gradient of a parameter in ``group``."""
        raise NotImplementedError


class Rule(OptionRule):
    """An optimizer: what it adds to its kernel.

    Args:
        kernel: name of the update in csrc/kernels/update_list.h.
        states: those that are optional or do not start at zero; the others follow from the kernel.
        needs: checks that span several options.
        ignored: {option: other}: the option counts as 0 where ``other`` is 0.
        instead: (option, kernel): with that option on in every group, that kernel runs.
        compat: {library: {option: value}}, further options that the constructor sets for that
            library, beside those of _compat.py; every library names the same ones.
        added: options that PyTorch's optimizer lacks, so that a state_dict may lack them.
        ranges: {option: range} of this optimizer, where RANGES has none or another one; also of an
            option that the kernel does not read and a state starts at.
        counted: whether a state_dict must have the step counts. Those of other libraries have none
            for an optimizer whose formula hardly needs them.
        decided: {option: value}: the function of ``ops`` does not take the option, and means that.
        fixed: {option: value}: likewise nobody takes it. A state that it would ask for is not kept.
    """

    def __init__(
        self,
        kernel: str,
        *states: State,
        needs: Sequence[Needs] = (),
        ignored: Mapping[str, str] | None = None,
        instead: tuple[str, str] | None = None,
        compat: Mapping[str, Options] | None = None,
        added: Sequence[str] = (),
        ranges: Mapping[str, Limits] | None = None,
        counted: bool = True,
        decided: Options | None = None,
        fixed: Options | None = None,
    ) -> None:
        if kernel not in UPDATES:
            raise ValueError(
                f"{kernel}: csrc/kernels/update_list.h has no such optimizer, expected its header "
                "among the includes and its rule in Updates; build again after adding them"
            )
        info, ignored, limits = UPDATES[kernel], ignored or {}, {**RANGES, **(ranges or {})}
        lists = (*info["operands"][2:], *info["optional"])
        special = {state.plural: state for state in states}
        if wrong := set(special) - set(lists):
            raise ValueError(f"{kernel}: {wrong} are not states of the kernel, which has {lists}")
        self.kernel, self.needs, self.instead = kernel, tuple(needs), instead
        self.ignored = dict(ignored)
        self.decided, self.fixed = dict(decided or {}), dict(fixed or {})
        self.compat = _formulas(kernel, compat)
        # In the order of the table, which messages keep.
        formula = dict.fromkeys(option for row in self.compat.values() for option in row)
        extents = dict(zip(info["factors"], _FACTORS, strict=False))
        # Of each list of the kernel.
        self._lists = tuple(
            special.get(name) or State(name.removesuffix("s"), extent=extents.get(name, "element"))
            for name in lists
        )
        kept = [s for s in self._lists if s.when is None or self.fixed.get(s.when, True)]
        self._reads = reads(kernel, info["hyper"], ignored, limits)
        self._starts = _ranges_of_starts(kernel, self._lists, limits)
        switches = {state.when: state for state in kept if state.when is not None}
        read = frozenset(option for option, *_ in self._reads)
        super().__init__(
            {*read, *self._starts, *switches} - self.fixed.keys(),
            states=tuple(kept),
            keys=tuple(state.key for state in kept),
            scalars=dict(zip(info["scalars"], info["starts"], strict=True)),
            switches={name: switches[name] for name in switches if limits.get(name, ()) is None},
            identity=(*formula, *([instead[0]] if instead else [])),
            added=frozenset(added),
            reads=read,
            norms=info["norms"],
            factors=info["factors"],
            counted=counted,
            starts_follow=bool(self._starts),
            compat=self.compat,
        )
        meant = {*formula, *self.decided, *self.switches}
        self.asked = tuple(option for option, *_ in self._reads if option not in meant)
        self._lists_given = tuple(
            (state.plural, None if state.when in self.switches else state.when)
            for state in self.states
        )
        judged = {name for need in self.needs for name in (need.option, *need.others)}
        option, *_, low, high = self._reads[0]
        if option == "lr" and "lr" not in {*judged, *ignored.values(), *self._starts}:
            self.lr_leads = (low, high)
        self._check(info, set(ranges or {}))

    def _check(self, info: Mapping[str, Any], ranged: set[str]) -> None:
        """ValueError for a rule that does not fit its kernel."""
        kernel = self.kernel
        if unknown := sorted(set(info["scalars"]) - set(SCALAR_RANGES)):
            raise ValueError(
                f"{kernel}: no range for the scalar {unknown[0]!r}: add it to SCALAR_RANGES in "
                "python/onepass/ops/_ranges.py"
            )
        if unread := sorted(ranged - self.reads - set(self._starts)):
            raise ValueError(
                f"{kernel}: {unread} of ranges are not hyper-parameters of the kernel, "
                "and no state starts at them"
            )
        asked = {state.when for state in self._lists if state.when is not None}
        if unread := sorted(asked - self.reads):
            raise ValueError(
                f"{kernel}: the kernel does not read {unread[0]!r}, which asks for a state, "
                "expected it in 'hyper': groups may differ in it"
            )
        for state in self._lists[len(info["operands"]) - 2 :]:
            if state.when is None:
                raise ValueError(f"{kernel}: nothing says when {state.key} is kept")
        if self.instead is not None:
            other = UPDATES[self.instead[1]]
            lists = (*other["operands"][2:], *other["optional"])
            if (lists, other["hyper"]) != (
                (*info["operands"][2:], *info["optional"]),
                info["hyper"],
            ):
                raise ValueError(
                    f"{kernel}: {self.instead[1]} has other states or hyper-parameters"
                )

    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        """`hyper` of a group, whose options that states start at are checked too."""
        for state in self.states:
            self.start(owner, state, group)
        return self.hyper(owner, group)

    def start(self, owner: str, state: State, group: Options) -> float:
        """The value of ``state`` before the first gradient of a parameter in ``group``."""
        if not isinstance(state.start, str):
            return float(state.start)
        return self._starts[state.start].check(owner, state.start, group[state.start])

    def hyper(self, owner: str, options: Options) -> tuple[float, ...]:
        """Checked hyper-parameters in the kernel's order, without the step.

        Raises:
            ValueError, TypeError: naming the option, its value and what was expected.
        """
        values: list[float] = []
        if self.fixed:
            options = {**options, **self.fixed}
        for option, limits, other, low, high in self._reads:
            value = options[option]
            if type(value) is float and low <= value < high:
                number = value  # at once: a schedule changes the learning rate every step
            elif limits is None:
                if value is None and option in self.switches:
                    value = False  # in old files of torch's
                number = float(value if type(value) is bool else flag(owner, option, value))
            elif not isinstance(limits, Range):
                values += several(owner, option, value, limits)
                continue
            else:
                number = limits.check(owner, option, value)
            values.append(0.0 if other is not None and options[other] == 0 else number)
        for option, others, holds, expected in self.needs:
            given = [options[name] for name in others]
            if not holds(options[option], *given):
                shown = ", ".join(f"{n}={v!r}" for n, v in zip(others, given, strict=True))
                beside = f" with it, given {shown}" if others else ""
                raise ValueError(
                    f"{owner}: {option!r} is {options[option]!r}, expected {expected}{beside}"
                )
        return tuple(values)

    def launch(self, owner: str, groups: Sequence[Options]) -> Launch:
        """The kernel that serves all groups, and its states; None for one that is not kept."""
        kernel = self.kernel
        if self.instead is not None and flag_of_groups(owner, self.instead[0], groups) is True:
            kernel = self.instead[1]

        # A group that does without has 0: the state has no effect there.
        def is_kept(state: State) -> bool:
            when = state.when
            if when is None or when in self.fixed:
                return when is None or bool(self.fixed[when])
            return any(group[when] for group in groups)

        return kernel, tuple([state.key if is_kept(state) else None for state in self._lists])

    def meant(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that a function of ``ops`` does not take, for the arguments that it got."""
        asked = {name: given[state.plural] is not None for name, state in self.switches.items()}
        return {**self.decided, **asked}

    def lists(self, op: str, given: Mapping[str, Any]) -> list[Any]:
        """The lists of states that a function of ``ops`` was given; None for one not asked for."""
        lists = []
        for name, when in self._lists_given:
            arrays = given[name]
            if when is not None:
                if given[when] == 0:
                    arrays = None
                elif arrays is None:
                    raise ValueError(
                        f"{op}: {name!r} is None, expected arrays like 'params', since {when} > 0"
                    )
            lists.append(arrays)
        return lists


def _formulas(kernel: str, more: Mapping[str, Options] | None) -> dict[str, dict[str, Any]]:
    """The formula of each library: those of _compat.py, or the libraries that ``more`` has."""
    known = {name: library.formula for name, library in libraries(kernel).items()}
    rows = more if more is not None else {name: {} for name in known}
    formulas = {name: {**known.get(name, known["torch"]), **row} for name, row in rows.items()}
    wanted = sorted({option for row in formulas.values() for option in row})
    if any(sorted(row) != wanted for row in formulas.values()):
        raise ValueError(f"{kernel}: every row of compat needs all of {wanted}")
    return formulas


def flag_of_groups(owner: str, option: str, groups: Sequence[Options]) -> bool | tuple[bool, ...]:
    """A flag of all groups; where it differs, of each."""
    # None stands for False in old files of torch's.
    flags = [flag(owner, option, group[option] or False) for group in groups]
    return flags[0] if len(set(flags)) == 1 else tuple(flags)


def uniform(owner: str, option: str, groups: Sequence[Options]) -> bool:
    """An option that one launch cannot vary between groups."""
    value = flag_of_groups(owner, option, groups)
    if isinstance(value, tuple):
        raise ValueError(f"{owner}: {option!r} differs between groups; use one optimizer for each")
    return value


def _ranges_of_starts(
    kernel: str, states: Sequence[State], ranges: Mapping[str, Limits]
) -> dict[str, Range]:
    starts: dict[str, Range] = {}
    for state in states:
        if isinstance(state.start, str):
            limits = ranges.get(state.start)
            if not isinstance(limits, Range):
                raise ValueError(
                    f"{kernel}: {state.key!r} starts at the option {state.start!r}, expected a "
                    "range for that one: add it to the ranges of the rule"
                )
            starts[state.start] = limits
    return starts
