"""The base of all: PyTorch's bookkeeping around a step that is one call.

`param_groups` and `state` are the truth, as in PyTorch. An engine (_engine.py) is derived from them
and steps; whatever a program changes in them is noticed before the next step.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from onepass import optim
from onepass._interruptions import interrupts
from onepass._nearest import did_you_mean
from onepass.ops._step import Nonfinite
from onepass.ops._step_info import StepInfo
from onepass.optim._describe import shown
from onepass.optim._groups import OF_CONSTRUCTOR, refuse_no_group
from onepass.optim._planned import ParametersChangedError
from onepass.torch._operators import is_compiling
from onepass.torch.optim._counterpart import checked, dummy, in_both_words
from onepass.torch.optim._engine import Engine
from onepass.torch.optim._entries import Entries, State
from onepass.torch.optim._outside import LARGEST_SCALE, OutsideNorm, lessened, scaled
from onepass.torch.optim._traced import handle_of, traced_step

# PyTorch's keywords that say how a step runs, not what it computes.
FLAGS: dict[str, bool | None] = {
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}


class Optimizer(torch.optim.Optimizer):
    """Base of the optimizers of ``onepass.torch.optim``; not used by itself.

    A step differs from PyTorch's in what it takes (see `step`) and leaves frozen parameters alone
    also where they have a gradient. Per-parameter states are made in the constructor, for all
    parameters that are not frozen then, so that a distributed checkpoint finds them; `state_dict`
    leaves out those of parameters that never had a gradient, as PyTorch's.

    Attributes:
        last_step: the StepInfo of the last step; None before the first.
    """

    _of: ClassVar[type[optim.Optimizer]]  # the optimizer of onepass.optim
    _engine: ClassVar[type[Engine]]  # and its kind that steps for this one
    _binds: ClassVar[Any] = Entries  # what holds ``state`` and the engine together
    _modes: ClassVar[tuple[str, ...]] = ()  # options that a method sets in all groups at once
    _step_supports_amp_scaling = True  # torch.amp.GradScaler leaves unscaling and skipping to step

    # Set in instances only: a wrapper that imitates the class, such as Lightning's, finds what it
    # lacks in the optimizer.
    _entries: Any
    _last_step: StepInfo | None
    _found: torch.Tensor  # where the next step notes Inf and NaN, for GradScaler
    # From a pickle: counts of steps by the id of an entry, Engine.further and Engine.begun.
    _known: Mapping[int, int]
    _further: Mapping[int, dict[str, Any]]
    _begun: Mapping[int, dict[str, float]]

    def __init__(
        self,
        signature: inspect.Signature,
        keywords: set[str],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._entries, self._last_step = None, None
        self._known, self._further, self._begun = {}, {}, {}
        name = type(self).__name__
        rest = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        known = [key for key in signature.parameters if key not in rest] + sorted(keywords)
        if unknown := [key for key in kwargs if key not in known]:
            hint = did_you_mean(unknown[0], known) or f", expected {', '.join(known)}"
            raise TypeError(f"{name}: unknown keyword {unknown[0]!r}{hint}")
        bound = signature.bind(*args, **kwargs)
        said = dict(bound.arguments)  # the defaults of the others follow from compat
        bound.apply_defaults()
        given = dict(bound.arguments)
        for key in rest:
            said |= said.pop(key, {})
            given |= given.pop(key)
        params = given.pop("params")
        self._options = {k: v for k, v in said.items() if k not in FLAGS and k != "params"}
        self._handle = handle_of(self)
        of: Callable[..., optim.Optimizer] = self._of
        ours, theirs = checked(name, lambda: of(dummy(), **self._options), given)
        flags = given if theirs is None else theirs.defaults
        # Options that PyTorch's lacks, with the values by which we do what it does.
        usual = ours.defaults if theirs is None else of(dummy()).defaults
        lacking = ours.defaults.keys() - (ours if theirs is None else theirs).defaults.keys()
        self._foreign = {key: usual[key] for key in ours.defaults if key in lacking}
        # PyTorch's Adagrad makes its state in the constructor, and saves it.
        self._saves_all = theirs is not None and len(theirs.state) > 0
        defaults = {**ours.defaults, **{key: given[key] for key in FLAGS if key in flags}}
        params = params if isinstance(params, torch.Tensor) else list(params)
        try:
            super().__init__(params, defaults)
            self._rebuild()
        except (TypeError, ValueError) as error:
            raise in_both_words(name, error, params, given) from None

    # ---- the engine

    def _rebuild(self) -> Any:
        """An engine for the groups and states as they are now."""
        self._refuse_lost()
        state, known, further, begun = self._state, self._known, self._further, self._begun
        if self._entries is not None:
            if self._entries.behind:
                self._entries.read_counts()
            known, further = self._entries.counts(state), self._entries.engine.further()
            begun = self._entries.engine.begun
        self._differentiable = any(group.get("differentiable") for group in self.param_groups)
        parameters = [p for group in self.param_groups for p in group["params"]]
        engine = self._engine(
            self.param_groups, self._options, [state.get(p) or {} for p in parameters], begun
        )
        entries = self._binds(type(self).__name__, engine, state, known)
        engine.follow_starts()
        if further:
            engine.restore(further)
        self._entries, self._known, self._further, self._begun = entries, {}, {}, {}
        return entries

    def _refuse_lost(self) -> None:
        """TypeError where a group has no list of tensors."""
        for number, group in enumerate(self.param_groups):
            params = group.get("params")
            strange = params
            if isinstance(params, (list, tuple)):
                others = [p for p in params if not isinstance(p, torch.Tensor)]
                if not others:
                    continue
                strange = others[0]
            has = "no 'params'" if "params" not in group else f"{strange!r} in 'params'"
            raise TypeError(
                f"{type(self).__name__}: 'param_groups' was changed: group {number} has {has}, "
                "expected a list of tensors; use add_param_group for more parameters, or make a "
                "new optimizer"
            )

    def _current(self, *, stepping: bool = False) -> Any:
        """The step bound to the groups and states as they are now.

        Args:
            stepping: the step itself finds parameters that were exchanged, where no state was.
        """
        entries = self._entries
        if entries is None or entries.engine.param_groups is not self.param_groups:
            return self._rebuild()
        held = entries.holds(self._state)
        if held and stepping:
            return entries
        if not entries.engine.fits():
            return self._rebuild()
        if not held:
            entries.take_over(self._state)
        return entries

    @property  # type: ignore[override]
    def state(self) -> State:
        """A parameter → its step count and states; edits take effect at the next step."""
        if self._entries is not None:
            self._entries.catch_up(self._state)
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    @property
    def last_step(self) -> StepInfo | None:
        """The outcome of the last step; on a device nothing waits until a field is read."""
        return self._last_step

    def __getattr__(self, name: str) -> Any:
        """Offers of onepass.optim beside a step, such as ``per_parameter``."""
        offered = not name.startswith("_") and name not in Engine.OWN
        if offered and hasattr(self._engine, name):  # of the class: a copy begins without groups
            return getattr(self._current().engine, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # ---- stepping

    def _step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: float | torch.Tensor | None = None,
        max_value: float | None = None,
        norm: Any = None,
        grad_scale: Any = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> Any:
        """Updates every parameter that has a gradient, in one call; ``last_step`` tells about it.

        Order: divide by ``grad_scale`` → non-finite check → clamp to ±``max_value`` → scale by
        min(1, max_norm/(norm + 1e-6)) → the update.

        Under ``torch.amp.GradScaler`` the step divides by its scale, and where the scaler has found
        an Inf or NaN nothing changes: no parameter, no state, no count. What it has found, and a
        ``norm`` that is a tensor, are read on the host: on CUDA a step waits for them.
        ``onepass.torch.GradScaler`` leaves the search for Inf and NaN to the step.
        Subnormal numbers (below 1.2e-38, 2.2e-308 in float64) count as zero.

        Args:
            closure: is called first, with autograd on; it computes the gradients.
            max_norm: clip by the global norm; a number, or a tensor of one, which on CUDA is read
                there.
            max_value: clamp elements first.
            norm: the global norm, if other processes hold further gradients: of the gradients
                divided by ``grad_scale``, a number or a tensor with one. It takes the place of the
                norm of this optimizer's own gradients.
            grad_scale: what the loss was multiplied by, likewise.
            zero_grad: leave the gradients at zero.
            nonfinite: "propagate" (IEEE), "skip" (nothing changes) or "raise" (nothing changes,
                then FloatingPointError). A ``norm`` that is not finite, which no gradient here
                need show, raises with "propagate" too.

        Returns:
            What the closure returned; None without one.

        Raises:
            ValueError: options out of range, a state of another shape; nothing is changed.
            TypeError: a gradient of another dtype, or a sparse one of another optimizer than SGD,
                Adagrad and SparseAdam; a closure that cannot be called.
            FloatingPointError: with ``nonfinite="raise"``, naming the parameter; a ``norm`` that
                is not finite, unless such a step is skipped.
        """
        loss = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(
                    f"{type(self).__name__}: 'closure' is a {type(closure).__name__}, expected a "
                    "function that computes the gradients; they are read from .grad"
                )
            with torch.enable_grad():
                loss = closure()
        own = self.__dict__
        # Of a GradScaler, which takes both away after the step.
        if "found_inf" in own and self.found_inf is not None and float(self.found_inf) != 0:
            self._last_step = StepInfo(True, None, None)
            if zero_grad:
                self.zero_grad(set_to_none=False)
            return loss
        if grad_scale is not None or "grad_scale" in own:
            grad_scale = scaled(type(self).__name__, grad_scale, own.get("grad_scale"))
        found = own.pop("_found", None)  # once
        if found is not None and nonfinite == "propagate":
            nonfinite = "skip"
        outside = None
        if norm is not None:
            outside = OutsideNorm(type(self).__name__, norm, max_norm, max_value, nonfinite)
            if outside.skips:
                self._last_step = StepInfo(True, outside.norm, None)
                if found is not None:
                    found.fill_(1.0)
                if zero_grad:  # or the Inf would stay, and skip every step that follows
                    self.zero_grad(set_to_none=False)
                return loss
        entries, factor = self._current(stepping=True), 1.0
        for attempt in range(2):
            engine = entries.engine
            try:
                grads = engine.gradients(own.get("_given"))
                if self._differentiable:
                    self._refuse_graphs(grads)
                if outside is not None:
                    own_scale = None if grad_scale is None else float(grad_scale)
                    scale, max_norm, factor = outside.clips(grads, own_scale)
                else:
                    scale = grad_scale
                taken = grads
                if isinstance(scale, float) and scale > LARGEST_SCALE:
                    taken, scale = lessened(grads, scale)
                # Until `follow_step`, which an interruption may prevent.
                behind, entries.behind = entries.behind, True
                try:
                    info = engine.step(
                        taken,
                        max_norm=max_norm,
                        max_value=max_value,
                        grad_scale=scale,
                        zero_grad=zero_grad,
                        nonfinite=nonfinite,
                    )
                except Exception as error:
                    entries.behind = behind or interrupts(error)
                    raise
                break
            except ParametersChangedError:  # a program has put other parameters into a group
                if attempt:
                    raise
                entries = self._rebuild()
        if zero_grad and taken is not grads:
            engine.zero(grads)
        engine.mark_written(grads)
        entries.follow_step(self._state)
        if found is not None and info.skipped:
            found.fill_(1.0)
        if outside is not None:
            info = outside.told(info)
            if factor != 1:
                engine.unclip(factor)
        self._last_step = info
        return loss

    _step.__qualname__ = "Optimizer.step"  # for messages

    # PyTorch's wrapper runs the hooks and makes a record for profilers. It takes longer
    # than the step itself.
    _hooked_step = torch.optim.Optimizer.profile_hook_step(_step)

    @functools.wraps(_step)
    def step(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if is_compiling():
            return traced_step(self, *args, **kwargs)
        hooks = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )
        # PyTorch has wrapped the step of a subclass, which runs the hooks around this one.
        if (hooks or _profiler_enabled()) and hasattr(type(self).step, "runs_hooks"):
            return self._hooked_step(*args, **kwargs)
        return self._step(*args, **kwargs)

    step.__name__, step.__qualname__ = "step", "Optimizer.step"
    step.hooked = True  # type: ignore[attr-defined]  # PyTorch is not to wrap it again
    step.runs_hooks = True  # type: ignore[attr-defined]

    def _refuse_graphs(self, grads: list[Any]) -> None:
        for index, grad in enumerate(grads):
            if grad is not None and grad.requires_grad:
                raise ValueError(
                    f"{type(self).__name__}: 'differentiable' is True and the gradient of "
                    f"parameter {index} is part of a graph, expected one that is not: a step is "
                    "not differentiated; use torch.optim for that, or detach the gradient"
                )

    # ---- groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or fills them with zeros, as PyTorch's does."""
        try:
            super().zero_grad(set_to_none)
        except (AttributeError, KeyError, TypeError):
            self._refuse_lost()
            raise

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own; their state starts afresh.

        Raises:
            ValueError: a parameter that is there already, or overlaps one; nothing is changed.
        """
        refuse_no_group(type(self).__name__, param_group)
        for key in OF_CONSTRUCTOR:
            if key in param_group:
                raise TypeError(
                    f"{type(self).__name__}: {key!r} in a parameter group is not an option of a "
                    "group, expected it as an argument of the constructor"
                )
        self._refuse_duplicates(param_group)
        if self._entries is not None:
            self.defaults.update({key: self.param_groups[0][key] for key in self._modes})
        super().add_param_group(param_group)
        if self._entries is None:
            return  # the constructor adds all first
        try:
            self._rebuild()
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _refuse_duplicates(self, group: dict[str, Any]) -> None:
        params = group["params"]
        if isinstance(params, (torch.Tensor, set)):
            return
        group["params"] = params = list(params)
        ids = [id(p[1] if isinstance(p, tuple) and len(p) == 2 else p) for p in params]
        if len(set(ids)) < len(ids):
            index = next(i for i, own in enumerate(ids) if own in ids[:i])
            raise ValueError(
                f"{type(self).__name__}: 'params' has a parameter group with duplicate parameters, "
                f"numbers {ids.index(ids[index])} and {index}, expected each once; for tied "
                "weights pass model.parameters()"
            )

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout, and its entries: interchangeable with those of ``torch.optim``.

        A parameter that never had a gradient has no entry, as in PyTorch, and groups have no option
        that PyTorch lacks while it asks for nothing new; but a distributed checkpoint, which loads
        into what it is given here, gets all of them. One that ``torch.optim`` wrote is loaded with
        ``DefaultLoadPlanner(allow_partial_load=True)``.
        """
        caller = sys._getframe(1).f_globals.get("__name__", "")
        entries = self._current()
        if entries.engine.fits():
            entries.engine.bring_up_to_date()
        entries.catch_up(self._state)
        thawed = [i for i in entries.engine.dormant if entries.engine.parameters[i].requires_grad]
        if thawed:
            entries.engine.wake(thawed)
            entries.take_over(self._state)
        hooks = self._optimizer_state_dict_post_hooks
        distributed = caller.startswith("torch.distributed.")
        unused: set[int] = set()
        if not (self._saves_all or distributed):
            unused = entries.unused()

        parameters, further = entries.engine.parameters, entries.engine.further(distributed)
        settings = entries.engine.settings

        def as_torch(_: Any, state_dict: dict[str, Any]) -> None:
            saved = state_dict["state"]
            if not distributed:
                state_dict["param_groups"] = self._in_torch(state_dict["param_groups"])
            for group in state_dict["param_groups"]:
                group.update(settings)
            for index in unused:
                saved.pop(index, None)
            for index, parameter in enumerate(parameters if further else ()):
                if more := further.get(id(parameter)):
                    saved[index] = {**saved.get(index, {}), **more}
            if self._of._counts_in_ints:
                for index, entry in saved.items():
                    saved[index] = {**entry, "step": int(entry["step"])}

        self._optimizer_state_dict_post_hooks = OrderedDict([(-1, as_torch), *hooks.items()])
        try:
            return super().state_dict()
        finally:
            self._optimizer_state_dict_post_hooks = hooks

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict`, or that of ``torch.optim``, gave; values are copied.

        States keep their dtype: float32 beside bfloat16 parameters.

        Raises:
            ValueError: another number of groups or parameters, missing or misshapen entries;
                nothing is changed.
        """
        if not isinstance(state_dict, dict):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: a {type(state_dict).__name__}, expected "
                "a dict with 'state' and 'param_groups' as state_dict() gives; nothing was changed"
            )
        state_dict = state_dict.copy()
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        entries = self._current()
        entries.load(self._state, state_dict)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _in_torch(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Groups without options that PyTorch lacks, where these do what it does in all groups."""
        usual = {
            key
            for key, value in self._foreign.items()
            if all(type(g.get(key)) is type(value) and g[key] == value for g in groups)
        }
        return [{k: v for k, v in group.items() if k not in usual} for group in groups]

    def __repr__(self) -> str:
        return shown(type(self).__name__, self._in_torch(self.param_groups))

    def __getstate__(self) -> dict[str, Any]:
        entries = self._current()
        base, engine = super().__getstate__(), entries.engine
        further = engine.further()
        return {
            **base,
            "_options": self._options,
            "_foreign": self._foreign,
            "_saves_all": self._saves_all,
            "_last_step": self._last_step,
            "_counts": entries.steps(),
            "_more": [further.get(id(p)) for p in engine.parameters] if further else (),
            "_starts": [engine.begun.get(id(p)) for p in engine.parameters],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        counts, more = state.pop("_counts", None), state.pop("_more", ())
        starts = state.pop("_starts", ())
        super().__setstate__(state)
        if "state" in self.__dict__:  # beside which a property is not asked
            self._state = self.__dict__.pop("state")
        self._entries, self._known, self._handle = None, {}, handle_of(self)
        parameters = [p for group in self.param_groups for p in group["params"]]
        if counts is not None:
            pairs = zip(parameters, counts, strict=True)
            self._known = {id(self._state[p]): n for p, n in pairs if p in self._state}
        self._further = {id(p): own for p, own in zip(parameters, more, strict=False) if own}
        self._begun = {id(p): own for p, own in zip(parameters, starts, strict=False) if own}
