"""The record of an optimizer, its variants, and the rows that follow."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onepass import _C

from ._case import (
    BENCH,
    SHAPES,
    Case,
    Derived,
    as_float64,
    computing,
    epsilon,
    has_torch,
    listed,
    normal,
    tensor_of,
    tensors,
    torch,
)
from ._rounding import Constant, Rounded, bounded, constants
from .reductions import clip

# Step counts that single-step rows take turns with: the first, a small one, one without correction.
COUNTS = [1, 9, 10**6]

# Of a step of PyTorch's optimizers.
FORMS = ("fused", "foreach", "eager")

# Roundings of a gradient that was unscaled and clipped: two products, two factors, and the norm,
# whose sum of squares is off by as much as `global_norm` allows.
CLIPPED = 6


# Values of a state before a step that is judged alone.
def signed(rng, shape, dtype):
    return normal(rng, shape, dtype)


def square(rng, shape, dtype):
    """An average of squares: of the size of g², and not negative."""
    return np.asarray(np.abs(normal(rng, shape, dtype)) + 0.1, dtype)


def fraction(rng, shape, dtype):
    """A product of numbers below one."""
    return np.asarray(rng.uniform(0.05, 0.95, shape)).astype(dtype)


def below_square(rng, shape, dtype):
    """An average beside one drawn by `square`: its own square is less than half of that one's least
    value, so their difference keeps its digits."""
    return np.asarray(rng.uniform(-0.2, 0.2, shape)).astype(dtype)


def number(constant: Any) -> float:
    """What a formula decides by: the value of a constant that may carry its bound."""
    return float(getattr(constant, "value", constant))


@functools.cache
def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


@dataclasses.dataclass(frozen=True)
class State:
    """A state, named as in state_dict; the function of ops names the list with an s behind it.

    when    the option that brings it, None if it is always there
    start   its value before the first step, or the option that says it; None if the first step
            overwrites it unread
    draw    signed, square, below_square, fraction
    """

    name: str
    when: str | None
    start: float | str | None
    draw: Callable[..., np.ndarray]

    def fresh(self, p: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        """Its values before the first step; NaN where they are never read."""
        start = options[self.start] if isinstance(self.start, str) else self.start
        return np.full_like(p, np.nan if start is None else start)

    def tracked(self, values: np.ndarray) -> Rounded:
        """As the rule takes it."""
        return Rounded(values)

    def drawn(self, rng, shape, dtype) -> list[np.ndarray]:
        """For the three parameters of a row."""
        return tensors(rng, shape, dtype, self.draw)


class Scalar(State):
    """A number that each parameter carries beside its step count; a function takes 0-d arrays."""

    def fresh(self, p: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        return np.full((), 0.5 if self.start is None else self.start)  # in every range

    def tracked(self, values: np.ndarray) -> Rounded:
        return Constant(values)

    def drawn(self, rng, shape, dtype) -> list[np.ndarray]:
        return [self.draw(rng, (), dtype) for _ in tensors(rng, shape, dtype)]


class Factor(State):
    """A value for each row or column of a parameter's matrices, None where it has no matrices; or
    for each element of a parameter without them."""

    def shape(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        matrices = len(shape) > 1
        if self.name == "variance":
            return None if matrices else tuple(shape)
        along = {"row_var": 1, "col_var": 2}[self.name]
        ones = [1 if axis == len(shape) - along else n for axis, n in enumerate(shape)]
        return tuple(ones) if matrices else None

    def fresh(self, p: np.ndarray, options: dict[str, Any]) -> np.ndarray | None:
        shape = self.shape(p.shape)
        return None if shape is None else np.zeros(shape, p.dtype)

    def tracked(self, values: np.ndarray | None) -> Rounded | None:
        return None if values is None else Rounded(values)

    def drawn(self, rng, shape, dtype) -> list[np.ndarray | None]:
        shapes = map(self.shape, listed(shape))
        return [None if own is None else self.draw(rng, own, dtype) for own in shapes]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """One optimizer. No field has a default: an incomplete record cannot be made.

    name    of the kernel; onepass.ops has <name>_
    cls     the class of onepass.optim
    rule    rule(p, g, *states, step=…, **options) -> (p, *states) in float64, for one parameter, as
            the paper writes it; a state that is not there is None, and comes back as None. The
            bound of a step follows from it (_rounding.py), so use operators and NumPy's functions,
            and `lerp` where the kernel moves an average towards a value
    keep    keep(step, **options) -> what the weight decay leaves of a parameter before the rest of
            its update: 1 where it is part of the gradient. `cautious` holds back the rest alone
    states  in the order of the kernel, optional ones included; behind them its scalars
    sweep   options of the class, the defaults first. A test takes every one over 40 steps. For
            each combination of optional states there must be one at least
    torch   the name in torch.optim, None if PyTorch has no such optimizer: then the benchmark times
            the optimizer without a rival
    """

    name: str
    cls: type
    rule: Callable[..., tuple]
    keep: Callable[..., float]
    states: Sequence[State]
    sweep: Sequence[dict[str, Any]]
    torch: str | None

    @functools.cached_property
    def op(self) -> Callable[..., Any]:
        from onepass import ops

        return getattr(ops, f"{self.name}_")

    def chosen(self, options: dict[str, Any]) -> tuple[str, ...]:
        """The options that bring a state, of those given."""
        given = self.complete(options)
        switches = dict.fromkeys(s.when for s in self.states if s.when is not None)
        return tuple(name for name in switches if given[name])

    def keywords(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of the class as the function takes them: there a state's list is the switch."""
        known = [*_parameters(self.op), "maximize"]
        return {key: value for key, value in options.items() if key in known}

    def in_torch(self, options: dict[str, Any]) -> bool:
        """Whether PyTorch has the optimizer with these options."""
        return self.torch is not None and not self.cls._rule.added & options.keys()

    def accepted(self, **options: Any) -> dict[str, Any]:
        """Those of the options that the class has."""
        return {key: value for key, value in options.items() if key in self.complete({})}

    def complete(self, options: dict[str, Any]) -> dict[str, Any]:
        """These options and the class's defaults of the others."""
        parameters = _parameters(self.cls).items()
        return {name: p.default for name, p in parameters if p.default is not p.empty} | options

    def given(self, options: dict[str, Any], like: np.ndarray) -> dict[str, Any]:
        """The arguments of the rule: these options and the class's defaults, as constants.

        `like` is the parameter: a None in a tuple stands for the machine epsilon of its dtype.
        """
        step = {"step": options["step"]} if "step" in options else {}
        own = {
            key: tuple(epsilon(like) if part is None else part for part in value)
            if isinstance(value, tuple)
            else value
            for key, value in self.keywords(self.complete(options)).items()
        }
        return constants(own | step)

    def variants(self) -> list[Variant]:
        """One for each combination of optional states that the sweep has options for."""
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for options in self.sweep:
            found.setdefault(self.chosen(options), []).append(options)
        return [Variant(self, switches, sweep) for switches, sweep in found.items()]

    def trajectory(self, params, **options) -> Trajectory:
        return Trajectory(self, params, options)


@dataclasses.dataclass(frozen=True)
class Variant:
    """An optimizer with some of its optional states: one kernel.

    switches   the options that bring them
    sweep      the options of the record that choose this variant
    """

    record: Optimizer
    switches: tuple[str, ...]
    sweep: Sequence[dict[str, Any]]

    @property
    def name(self) -> str:
        return "_".join([self.record.name, *self.switches])

    @property
    def label(self) -> str:
        """For ids of tests of the class."""
        return "-".join([self.record.cls.__name__, *self.switches])

    @property
    def options(self) -> dict[str, Any]:
        """The options that make the class this variant; all others keep their defaults."""
        given = self.record.complete(self.sweep[-1])
        return {s.when: given[s.when] for s in self.record.states if s.when is not None}

    @functools.cached_property  # the benchmark times `update`, and a signature takes microseconds
    def takes_step(self) -> bool:
        return "step" in inspect.signature(self.record.op).parameters

    @functools.cached_property
    def needs_norms(self) -> bool:
        """Whether an element's step depends on all others of its parameter."""
        kernels = {k["name"]: k for k in _C.kernels() if k["kind"] == "update"}
        return bool(kernels[self.record.name]["norms"])

    @property
    def factored(self) -> bool:
        return any(isinstance(s, Factor) for s in self.states)

    @functools.cached_property
    def present(self) -> list[bool]:
        return [s.when is None or s.when in self.switches for s in self.record.states]

    @property
    def states(self) -> list[State]:
        return [s for s, there in zip(self.record.states, self.present, strict=True) if there]

    def placed(self, states: Sequence[Any]) -> list[Any]:
        """The states that are there at their places, None at the others."""
        given = iter(states)
        return [next(given) if there else None for there in self.present]

    def make(self, params, **options):
        return self.record.cls(params, **self.options | options)

    def trajectory(self, params, **options):
        return self.record.trajectory(params, **self.options | options)

    def update(self, params, grads, *states, **keywords):
        """The function of ops with the states that are there; what it returns is about the step."""
        if not self.takes_step:
            keywords.pop("step", None)
        return self.record.op(params, grads, *self.placed(states), **keywords)

    # ---- single steps

    def row(self) -> Case:
        own = [s for s in self.states if not isinstance(s, Scalar)]
        count = 0 if self.factored else len(own)  # those with a value for each element

        def make(rng, shape, dtype, **_):
            states = [s.drawn(rng, shape, computing(dtype)) for s in self.states]
            return (tensors(rng, shape, dtype), tensors(rng, shape, dtype), *states)

        def in_place(*inputs, **keywords):
            self.update(*inputs, **keywords)

        def expect(params, grads, *states, **options):
            done = []
            for p, g, *own in zip(params, grads, *states, strict=True):
                own = [s.tracked(x) for s, x in zip(self.states, own, strict=True)]
                results = self.record.rule(
                    Rounded(p), Rounded(g), *self.placed(own), **self.record.given(options, p)
                )
                p, *own = map(bounded, results)
                there = [s for s, is_there in zip(own, self.present, strict=True) if is_there]
                done.append([p, *there])
            return tuple(list(results) for results in zip(*done, strict=True))

        options = [
            {"step": COUNTS[i % len(COUNTS)]}
            | self.record.keywords(self.sweep[i % len(self.sweep)])
            for i in range(max(len(COUNTS), len(self.sweep)))
        ]
        return Case(
            self.name,
            "update",
            in_place,
            make,
            expect,
            self._torch if self.record.torch is not None else None,
            Derived(),
            lambda s: 3 * s + 2 * count * max(s, 4),
            SHAPES,
            [(256, 256), (1024, 1024), (4096, 4096)] if self.factored else BENCH,
            self._rivals,
            options,
            {"step": 9} | self.record.keywords(self.options),
            written=(0, *range(2, 2 + len(self.states))),
            no_rival="" if self.record.torch is not None else "PyTorch has no such optimizer",
            sums=self.needs_norms or self.factored,
        )

    # ---- PyTorch

    def torch_optimizer(self, params, grads, keywords, **more):
        """PyTorch's over copies of the tensors, gradients set; `more` are options of PyTorch's."""
        tensors = [torch.nn.Parameter(p.detach().clone()) for p in params]
        for tensor, grad in zip(tensors, grads, strict=True):
            if tensor.numel() or not self.factored:  # PyTorch divides by the number of elements
                tensor.grad = grad.detach()
        options = {key: value for key, value in keywords.items() if key != "step"}
        return getattr(torch.optim, self.record.torch)(tensors, **self.options | options, **more)

    def _torch(self, params, grads, *states, step, **keywords):
        if not self.record.in_torch(keywords):
            return None
        optimizer = self.torch_optimizer(params, grads, keywords)
        tensors = optimizer.param_groups[0]["params"]
        for p, *own in zip(tensors, *states, strict=True):
            held = {
                s.name: v.detach().clone()
                for s, v in zip(self.states, own, strict=True)
                if v is not None
            }
            if step == 1:  # PyTorch's way to say that nothing has been seen yet
                fresh = {s.name for s in self.states if s.start is not None}
                held = {name: value for name, value in held.items() if name in fresh}
            if held:
                optimizer.state[p] = {**held, "step": torch.tensor(step - 1.0)}
        default = torch.get_default_dtype()  # of the numbers beside a state
        torch.set_default_dtype(torch.float64)
        try:
            optimizer.step()
        finally:
            torch.set_default_dtype(default)
        return [p.detach() for p in tensors], *(
            [optimizer.state[p].get(s.name) for p in tensors] for s in self.states
        )

    def _rivals(self, inputs, keywords):
        if self.record.torch is None or not has_torch():
            return {}
        params, grads = map(tensor_of, inputs[:2])
        return self.torch_steps(params, grads, keywords)

    def torch_forms(self, params, grads, keywords, forms=FORMS):
        """(form, optimizer) of PyTorch's forms, each stepped once; of one that it does not have,
        (form, why)."""
        known = inspect.signature(getattr(torch.optim, self.record.torch)).parameters
        for form in forms:
            # Eager is a loop over the tensors, its default on a CPU.
            own = {"foreach": False} if form == "eager" else {form: True}
            if form != "eager" and form not in known:
                yield form, f"PyTorch has no {form} {self.record.torch}"
                continue
            own = {name: value for name, value in own.items() if name in known}
            try:
                optimizer = self.torch_optimizer(params, grads, keywords, **own)
                optimizer.step()
            except (TypeError, RuntimeError) as error:  # these options
                yield form, f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                yield form, optimizer

    def torch_steps(self, params, grads, keywords, around=lambda optimizer: optimizer.step,
                    forms=FORMS):  # fmt: skip
        """{label: step} of the forms that PyTorch has; `around` makes the function."""
        found = self.torch_forms(params, grads, keywords, forms)
        return {f"torch {form}": around(made) for form, made in found if not isinstance(made, str)}


class Trajectory:
    """The float64 run of a list of parameters, each with its own states and step count.

    Rounding errors add up along with it: `params` are arrays that carry their bound.
    """

    def __init__(self, record: Optimizer, params, options: dict[str, Any]) -> None:
        self.record = record
        self.options = dict(options)
        self.params = params
        self._states = [[self._fresh(s, p) for s in record.states] for p in params]
        self.steps = [0] * len(params)

    @property
    def params(self) -> list[np.ndarray]:
        return [bounded(p) for p in self._params]

    @params.setter
    def params(self, params) -> None:
        """Start anew from these values, which are exact."""
        self._like = [as_float64(p.copy()) for p in params]
        self._params = [Rounded(p) for p in self._like]

    def entry(self, index: int) -> dict[str, np.ndarray]:
        """The states of a parameter as a state_dict names them, with their bounds."""
        names = [state.name for state in self.record.states]
        own = zip(names, self._states[index], strict=True)
        return {name: bounded(value) for name, value in own if value is not None}

    def _fresh(self, state: State, p: np.ndarray) -> Any:
        if state.when is not None and state.when not in self.record.chosen(self.options):
            return None
        return state.tracked(state.fresh(as_float64(p), self.record.complete(self.options)))

    def step(self, grads, **controls):
        """Returns the norm that StepInfo reports."""
        grads, norm = clip([None if g is None else as_float64(g) for g in grads], **controls)
        for i, g in enumerate(grads):
            if g is not None:
                self.steps[i] += 1
                self._params[i], *self._states[i] = self.record.rule(
                    self._params[i],
                    Rounded(g, CLIPPED * np.abs(g) if controls else 0.0),
                    *self._states[i],
                    step=self.steps[i],
                    **self.record.given(self.options, self._like[i]),
                )
        return norm


def rows_of(records: Sequence[Optimizer]) -> Iterator[Case]:
    for record in records:
        for variant in record.variants():
            yield variant.row()
