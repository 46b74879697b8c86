"""The schedule-free optimizers: training happens at y, evaluation at the average x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from onepass import _C
from onepass._array import Array, copy_into, zeros_like
from onepass._interruptions import to_the_end
from onepass._numbers import flag
from onepass.ops._rule import UPDATES, Launch, Rule, uniform
from onepass.ops._step import plain_sgd, take_step
from onepass.ops._step_info import StepInfo
from onepass.optim._groups import group_numbers
from onepass.optim._optimizer import Optimizer, Parameters
from onepass.optim._riders import OF_UPDATES

MODE = "train_mode"  # in every group, as in the authors' package, so that a state_dict says it


class ScheduleFree(Optimizer):
    """Base of the schedule-free optimizers; not used by itself.

    The parameters hold y while training. `eval` turns them into x, the average to evaluate and to
    keep, `train` back into y. x is not stored: y = (1 - β)·z + β·x, with β the momentum or β₁.

    A frozen parameter does not move. Its value becomes its z and with that its x and y, so that it
    can be thawed in either mode.
    """

    _no_riders = "they would move y and leave z, of which the average is made, as it is"
    _refused = OF_UPDATES  # noise reaches y and z alike; the others store or follow y

    _betas: list[float] | None = None  # of each group: those that y was made with

    def __init__(self, params: Parameters, given: Mapping[str, Any]) -> None:
        super().__init__(params, {**given, MODE: True})

    def _take(self, *given: Any) -> StepInfo:
        if not self.training:
            raise RuntimeError(
                f"{self._name}: a step in eval mode, where the parameters hold the average; call "
                "optimizer.train() before training goes on"
            )
        return super()._take(*given)

    @property
    def training(self) -> bool:
        """Whether the parameters hold y."""
        return bool(self.param_groups[0][MODE])

    def eval(self) -> None:
        """Turns the parameters into x, the average, in one pass; before evaluating or saving them.

        16-bit parameters are rounded to their type, and so is every y that `train` makes of them.
        """
        self._turn(False)

    def train(self, mode: bool = True) -> None:
        """Turns the parameters back into y, in one pass; before the next step.

        Args:
            mode: False does what `eval` does.
        """
        self._turn(flag(self._name, "mode", mode))

    def _turn(self, training: bool) -> None:
        with self._alone:
            steps = self._prepare().steps
            if uniform(self._name, MODE, self.param_groups) == training:
                return
            # SGD's p -= lr·(g + weight_decay·p) is p += w·(z - p) for lr = -w, weight_decay = -1.
            ways = [1 - beta if training else 1 - 1 / beta for beta in self._betas_of(self._hypers)]
            hypers = [plain_sgd(-way, -1.0) for way in ways]
            groups = group_numbers(self._own_groups())
            # A master copy is turned, and the parameter is its rounded value.
            masters = self._rider_arrays.stages(self._riders)
            stages = None if masters is None else ([None] * len(groups), masters[1])
            zeros = [0] * len(groups)
            plan = _C.Plan("sgd", self._arrays, [None], groups, zeros, stages, self._name)
            frozen = self._frozen()
            targets: list[Array | None] = []
            for p, array, z, step in zip(
                self._parameters, self._arrays, self._states["z"], steps, strict=True
            ):
                held = id(p) in frozen
                targets.append(_like(array, z) if step and not held else None)  # y = z = x at first
                if held and step:
                    copy_into(z, array)
            moves = any(target is not None for target in targets)
            try:
                take_step(self._name, plan, targets, hypers)
                self._set_mode(training)
            except BaseException:
                if not moves or any(plan.steps):  # it was cut behind the launch
                    to_the_end(partial(self._set_mode, training))
                raise

    def _set_mode(self, training: bool) -> None:
        self.defaults[MODE] = training  # of groups that join
        with self._groups_together():
            for group in self.param_groups:
                group[MODE] = training

    def _derived(
        self, groups: list[dict[str, Any]]
    ) -> tuple[bool | tuple[bool, ...], Launch, list[tuple[float, ...]]]:
        uniform(self._name, MODE, groups)
        return super()._derived(groups)

    def _accept(self, hypers: list[tuple[float, ...]]) -> None:
        self._keep_betas(self._betas_of(hypers))

    def _betas_of(self, hypers: Iterable[tuple[float, ...]]) -> list[float]:
        """β of each row of hyper-parameters."""
        assert isinstance(self._rule, Rule)
        place = place_of_beta(self._rule.kernel)
        return [hyper[place] for hyper in hypers]

    def _keep_betas(self, betas: list[float]) -> None:
        """y = (1 - β)·z + β·x: with another β it would stand for another x."""
        held = self._betas or []
        for number, (now, before) in enumerate(zip(betas, held, strict=False)):
            if now != before and self._plan is not None and any(self._plan.steps):
                name = "betas" if "betas" in self.param_groups[number] else "momentum"
                raise ValueError(
                    f"{self._name}: {name!r} of group {number} was changed from {before!r} to "
                    f"{now!r} after a step, expected the value that the average was made with; "
                    "make a new optimizer, or pass cycle_momentum=False to OneCycleLR"
                )
        self._betas = betas

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        held, self._betas = self._betas, None  # the state is taken over with its own
        try:
            super()._load(state_dict)
        except BaseException:
            self._betas = held
            raise
        self._set_mode(uniform(self._name, MODE, self.param_groups))


def place_of_beta(kernel: str) -> int:
    """Of β among the hyper-parameters of a schedule-free kernel."""
    names = UPDATES[kernel]["hyper"]
    return names.index("beta1" if "beta1" in names else "momentum")


def _like(p: Array, z: Array) -> Array:
    """z, or a copy of it in the dtype of p."""
    if p.dtype == z.dtype:
        return z
    copy = zeros_like(p, p.dtype)
    copy_into(copy, z)
    return copy
