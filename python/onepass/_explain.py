"""How this machine is used: the instruction set, the threads, what its memory moves, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass

from onepass import _C, _machine
from onepass._streams import fastest, least_seconds, size_of, ways

_LEVEL = "ONEPASS_CPU_LEVEL"
_PAGE = 4096
_LEAST_COPIED = 64 << 20  # bytes of a copy


@dataclass(frozen=True)
class MachineExplanation:
    """How onepass uses this machine; ``str`` has it as text, `dataclasses.asdict` as a dict.

    Attributes:
        cpu: the processor's name.
        level: the instruction-set level in use.
        levels: those that the processor and this build have, lowest first.
        level_reason: why that one.
        threads: how many a call uses at most, the caller included.
        threads_reason: what decides it.
        processors: of the machine.
        affinity: of them, those that this thread may run on.
        quota: processors that the control groups of a container allow, rounded up; None: no quota.
        variable: the environment variable that says the number of threads; None: none does.
        cuda: why CUDA cannot be used; empty where it can.
        copy_bytes_per_second: bytes read and written by a copy between two arrays in memory, with
            these threads; None where it was not measured.
        notes: what holds calls back, in words.
    """

    cpu: str
    level: str
    levels: tuple[str, ...]
    level_reason: str
    threads: int
    threads_reason: str
    processors: int
    affinity: int
    quota: int | None
    variable: str | None
    cuda: str
    copy_bytes_per_second: float | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rate = self.copy_bytes_per_second
        lines = [
            f"cpu      {self.cpu}",
            f"level    {self.level}: {self.level_reason}",
            f"threads  {self.threads}: {self.threads_reason}",
            f"copy     {'not measured' if rate is None else f'{rate / 1e9:.1f} GB/s'}",
            f"cuda     {self.cuda or 'usable'}",
        ]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])


def machine(measure: bool, cuda: str) -> MachineExplanation:
    """The one for `config.explain`, which knows why there is no CUDA."""
    level, levels = _C.cpu_level(), tuple(_C.cpu_levels())
    limits, threads = _C.thread_limits(), _C.get_num_threads()
    variable = limits["variable"] if threads == limits["default"] else None
    return MachineExplanation(
        cpu=_machine.cpu(),
        level=level,
        levels=levels,
        level_reason=_level_reason(level, levels),
        threads=threads,
        threads_reason=_threads_reason(threads, limits),
        processors=limits["processors"],
        affinity=limits["affinity"],
        quota=limits["quota"],
        variable=variable,
        cuda=cuda,
        copy_bytes_per_second=_copy_rate(threads) if measure else None,
        notes=_notes(level, levels, threads, limits),
    )


def _level_reason(level: str, levels: tuple[str, ...]) -> str:
    if level == os.environ.get(_LEVEL):
        return f"{_LEVEL} says so"
    if level == levels[-1]:
        return "the best of this processor and this build"
    return "chosen by set_cpu_level"


def _threads_reason(threads: int, limits: _C.ThreadLimits) -> str:
    if threads != limits["default"]:
        return (
            "set by set_num_threads, by threadpoolctl or by the first call, which would now take "
            f"{limits['default']}"
        )
    if limits["variable"] is not None:
        return f"{limits['variable']} says so"
    quota, affinity = limits["quota"], limits["affinity"]
    if quota is not None and quota < affinity:
        return f"the quota of this process's control group; {affinity} processors are usable"
    if affinity < limits["processors"]:
        return f"those of {limits['processors']} processors that this process may run on"
    return "all processors of the machine"


def _notes(
    level: str, levels: tuple[str, ...], threads: int, limits: _C.ThreadLimits
) -> tuple[str, ...]:
    notes = []
    if level != levels[-1]:
        notes.append(f"level {level} is in use where {levels[-1]} would be faster")
    usable = min(limits["affinity"], limits["quota"] or limits["affinity"])
    if threads < usable:
        notes.append(f"{threads} of {usable} usable processors compute")
    elif threads > usable:
        notes.append(f"{threads} threads share {usable} usable processors and wait for each other")
    elif usable < limits["processors"]:
        notes.append(f"this process may use {usable} of {limits['processors']} processors")
    return tuple(notes)


def _copy_rate(threads: int) -> float:
    copy, count = (1, 1, 0), _copied(threads)
    return count / least_seconds(fastest(ways(copy, size_of(copy, count), threads), threads))


def _copied(threads: int) -> int:
    """Bytes of a copy: more than the caches hold, where so much memory is free."""
    wanted = max(_LEAST_COPIED, 4 * _machine.last_caches(threads))
    return max(_LEAST_COPIED, min(wanted, _machine.free_memory() // 8 // _PAGE * _PAGE))
