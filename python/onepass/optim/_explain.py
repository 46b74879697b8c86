"""What a step of an optimizer launches and moves, how long that takes, and why, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from onepass import _C, config
from onepass._array import Array, is_dense, layout, parameter_dtype, zeros_like
from onepass._explain import MachineExplanation
from onepass._machine import free_memory
from onepass._parameter import Parameter
from onepass._streams import Streams, least_seconds, nearest, size_of, ways
from onepass.ops._step import Controls
from onepass.optim._planned import Planned

_SHORT = 5e-6  # seconds of moving bytes beside which the call itself counts
_GOOD = 0.75  # share of the limit from which on only fewer bytes help


@dataclass(frozen=True)
class StepExplanation:
    """What one step of an optimizer does; ``str`` has it as text, `dataclasses.asdict` as a dict.

    Attributes:
        optimizer: its name.
        device: "cpu", or "cuda:0".
        parameters: how many a step moves, if all of them have a gradient.
        frozen: how many it leaves alone.
        elements: of those that it moves.
        groups: how many ``param_groups`` there are.
        fused_groups: the numbers of the parameters that are moved together, in flat order.
        passes: walks over all tensors, in order → the bytes that each reads and writes. Each is one
            launch; on CUDA one that sums ends with a second, of one block.
        launches: how many there are; None where it depends on gradients or a closure.
        bytes: that all of them read and write; None likewise.
        machine: `onepass.config.explain`.
        seconds: of a step, the least of several; None where it was not timed.
        limit_seconds: of a loop on the same threads that moves as many bytes, of as many arrays,
            and computes nothing; None likewise.
        share: limit_seconds/seconds, the share of this machine's copy speed; None likewise, and
            where a step also has products of matrices.
        notes: what it costs and what would help, in words.
    """

    optimizer: str
    device: str
    parameters: int
    frozen: int
    elements: int
    groups: int
    fused_groups: tuple[tuple[int, ...], ...]
    passes: dict[str, int]
    launches: int | None
    bytes: int | None
    machine: MachineExplanation
    seconds: float | None
    limit_seconds: float | None
    share: float | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        moved, groups = _count_of(self.parameters, "parameter"), _count_of(self.groups, "group")
        head = (
            f"{self.optimizer} on {self.device}: {moved} of {self.elements:,} elements in {groups}"
        )
        if self.launches is not None:
            head += f", {_count_of(self.launches, 'launch', 'launches')} a step"
        passes = [f"  {name:<14}{count:>16,} bytes" for name, count in self.passes.items()]
        notes = [f"- {note}" for note in self.notes if note not in self.machine.notes]
        return "\n".join([head, *passes, *self._times(), *notes, "", str(self.machine)])

    def _times(self) -> list[str]:
        if self.seconds is None or self.bytes is None:
            return []
        rate = self.bytes / self.seconds / 1e9
        lines = [f"  a step        {self.seconds * 1e6:>13,.1f} µs, {rate:.1f} GB/s"]
        if self.limit_seconds is not None and self.share is not None:
            limit = f"{self.limit_seconds * 1e6:>13,.1f} µs: {self.share:.0%} of copy speed"
            lines.append(f"  memory alone  {limit}")
        return lines


def explain(own: Planned, controls: Controls, measure: bool, watches: bool) -> StepExplanation:
    """The one for `Optimizer.explain`, which has the optimizer to itself.

    Args:
        watches: whether the optimizer has diagnostics on.
    """
    plan = own._prepare()
    frozen = own._frozen()
    takes = [id(p) not in frozen for p in own._parameters]
    taken = [i for i, take in enumerate(takes) if take]
    arrays = [own._arrays[i] for i in taken]
    clips, checks = controls.max_norm is not None, controls.nonfinite != "propagate"
    forgets = all(isinstance(p, Parameter) for p in own._parameters)
    zeroes = controls.zero_grad and not forgets
    if own._plans:
        plan.watch = plan.watch or (watches and own._of_whole is None)
    passes = dict(plan.traffic(takes, clips, checks, zeroes)) if own._plans else {}
    total = sum(passes.values())
    device = _device(own._arrays[0])
    seconds = limit = None
    if measure and device == "cpu" and total > 0:
        seconds = _seconds(own, takes, controls._replace(zero_grad=zeroes))
        if seconds is not None and own._of_whole is None:
            limit = _limit(own._wanted[0], clips or checks, zeroes, total)
    about = config.explain(measure=measure)
    share = None if seconds is None or limit is None else limit / seconds
    notes = _Notes(own, taken, arrays)
    return StepExplanation(
        optimizer=own._name,
        device=device,
        parameters=len(taken),
        frozen=len(takes) - len(taken),
        elements=_elements(arrays),
        groups=len(own.param_groups),
        fused_groups=(tuple(taken),) if passes and taken else tuple((i,) for i in taken),
        passes=passes,
        launches=len(passes) if own._plans else None,
        bytes=total if own._plans else None,
        machine=about,
        seconds=seconds,
        limit_seconds=limit,
        share=share,
        notes=(
            *notes.speed(seconds, limit, share),
            *notes.passes(passes, zeroes),
            *notes.arrays(),
            *about.notes,
        ),
    )


def _elements(arrays: Iterable[Array]) -> int:
    total = 0
    for array in arrays:
        size = 1
        for extent in array.shape:
            size *= int(extent)
        total += size
    return total


def _device(array: Array) -> str:
    """Where a parameter lies, as PyTorch writes it."""
    device = getattr(array, "device", "cpu")
    number = getattr(device, "id", None)  # of CuPy
    return str(device) if number is None else f"cuda:{number}"


# ---- time


def _seconds(own: Planned, takes: Sequence[bool], controls: Controls) -> float | None:
    """Of a step of a copy of the optimizer, whose parameters are copies; None where memory lacks
    the room."""
    held = _elements(own._arrays) * 8 + sum(
        _elements(s for s in states if s is not None) * 8 for states in own._states.values()
    )
    if held > free_memory() // 2:
        return None
    twin = own._twin()
    grads = [
        zeros_like(a, a.dtype) if take else None
        for a, take in zip(twin._arrays, takes, strict=True)
    ]
    step = partial(
        twin.step,
        grads,
        max_norm=controls.max_norm,
        zero_grad=controls.zero_grad,
        nonfinite=controls.nonfinite,
    )
    return least_seconds(step)


def _limit(kernel: str, measures: bool, zeroes: bool, total: int) -> float:
    (info,) = (k for k in _C.kernels() if k["kind"] == "update" and k["name"] == kernel)
    updates = info["writes"]
    reads = info["reads"] - updates + measures
    shape, threads = nearest(Streams(reads, int(zeroes), updates)), _C.get_num_threads()
    return min(map(least_seconds, ways(shape, size_of(shape, total), threads).values()))


# ---- words


class _Notes:
    """Sentences about one step."""

    def __init__(self, own: Planned, taken: list[int], arrays: list[Array]) -> None:
        self._own, self._taken, self._arrays = own, taken, arrays

    def speed(self, seconds: float | None, limit: float | None, share: float | None) -> list[str]:
        if seconds is None or limit is None or share is None:
            return []
        notes = []
        if limit < _SHORT:
            notes.append(
                f"few elements: the call itself takes most of the {seconds * 1e6:.1f} µs, and "
                "memory little; larger steps use more of it"
            )
        elif share >= _GOOD:
            notes.append("memory is the limit: only a step that moves fewer bytes is faster")
        return notes

    def passes(self, passes: dict[str, int], zeroes: bool) -> list[str]:
        own, notes = self._own, []
        if not own._plans:
            return [f"{own._name} has no fixed number of launches: a step is {own._work}"]
        if own._of_whole is not None:
            notes.append(f"beside the launches counted here there are {own._of_whole}")
        if "global_norm" in passes:
            notes.append(
                "max_norm and nonfinite read all gradients once before the update may write"
            )
        if "measure" in passes or "factor" in passes:
            notes.append(
                f"{own._name} needs sums over each parameter before it can move an element"
            )
        if "limit_rows" in passes:
            notes.append("max_weight_norm needs the norm of each row after the update")
        if "watch_before" in passes:
            notes.append("diagnostics=True reads and copies all parameters, and compares them")
        if zeroes:
            notes.append("zero_grad writes the gradients; of Parameters it only forgets them")
        if isinstance(own._maximize, tuple):
            notes.append("groups differ in maximize: gradients of those that ascend are copied")
        return notes

    def arrays(self) -> list[str]:
        own, notes = self._own, []
        apart = [i for i, a in zip(self._taken, self._arrays, strict=True) if not is_dense(a)]
        if apart:
            notes.append(
                f"{_numbered(apart)}: not in one stretch of memory, so a step walks their strides; "
                "make them contiguous"
            )
        turned = [i for i in self._taken if i not in apart and self._grad_lies_otherwise(i)]
        if turned:
            notes.append(
                f"{_numbered(turned)}: in another order in memory than the gradient, so a step "
                "walks strides; give both one order"
            )
        narrow = [a for a in self._arrays if a.dtype.itemsize == 2]
        if narrow and own._settings.state_dtype is None and own._kept():
            notes.append(
                "parameters are of 16 bits and their states of 32, most of the bytes"
                + ("" if own._refused_riders() else ": state_dtype='bfloat16' halves those")
            )
        if any(parameter_dtype(a).itemsize == 8 for a in self._arrays):
            notes.append("float64 moves twice the bytes of float32")
        if (frozen := len(own._parameters) - len(self._taken)) > 0:
            notes.append(f"{_count_of(frozen, 'parameter')} frozen: nothing of them is moved")
        return notes

    def _grad_lies_otherwise(self, index: int) -> bool:
        grad = getattr(self._own._parameters[index], "grad", None)
        array = self._own._arrays[index]
        if grad is None or tuple(getattr(grad, "shape", ())) != tuple(array.shape):
            return False
        try:
            return layout(grad) != layout(array)
        except (AttributeError, TypeError):  # a pair of SparseAdam, say
            return False


def _count_of(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def _numbered(indices: Sequence[int]) -> str:
    few = ", ".join(map(str, indices[:5])) + (", …" if len(indices) > 5 else "")
    return f"parameter {few}" if len(indices) == 1 else f"parameters {few}"
