"""Settings of the process: threads, the instruction set of the CPU, CUDA."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from onepass import _C

if TYPE_CHECKING:
    from onepass._explain import MachineExplanation

__all__ = [
    "cpu_level",
    "cpu_levels",
    "cuda_available",
    "cuda_why_not",
    "explain",
    "get_num_threads",
    "set_cpu_level",
    "set_num_threads",
]


def set_num_threads(n: int) -> None:
    """Sets the number of threads of later calls, the caller included.

    Results do not depend on it. The default is the environment variable ``ONEPASS_NUM_THREADS``;
    without it ``OMP_NUM_THREADS``, of which the first number counts if it is a list; without both
    the number of processors this process may use: those of its affinity mask, but no more than
    the quota of its control group (of a container), rounded up. A value that is not a number of
    threads is ignored, and a RuntimeWarning at import says so. threadpoolctl's
    ``threadpool_limits`` limits them too (``user_api="onepass"``).

    Args:
        n: 1 to 1024.

    Raises:
        ValueError: ``n`` out of range.

    Example:
        >>> import onepass
        >>> onepass.config.set_num_threads(2)
        >>> onepass.config.get_num_threads()
        2
    """
    _C.set_num_threads(n)


def get_num_threads() -> int:
    """Number of threads that a call uses at most, the caller included.

    Example:
        >>> import onepass
        >>> onepass.config.get_num_threads() >= 1
        True
    """
    return _C.get_num_threads()


def cpu_level() -> str:
    """The instruction-set level in use.

    It is "v2", "v3" or "v4" of x86-64, "neon" of aarch64, "base" elsewhere.
    Results do not depend on it. The default is the best level of the processor, or the environment
    variable ``ONEPASS_CPU_LEVEL``.

    Example:
        >>> import onepass
        >>> onepass.config.cpu_level() in onepass.config.cpu_levels()
        True
    """
    return _C.cpu_level()


def cpu_levels() -> list[str]:
    """The levels that this processor and this build have, lowest first.

    Example:
        >>> import onepass
        >>> len(onepass.config.cpu_levels()) >= 1
        True
    """
    return _C.cpu_levels()


def set_cpu_level(level: str) -> None:
    """Chooses the instruction-set level of later calls, for tests and measurements.

    Args:
        level: one of :func:`cpu_levels`.

    Raises:
        ValueError: the processor or this build lacks the level.

    Example:
        >>> import onepass
        >>> onepass.config.set_cpu_level(onepass.config.cpu_levels()[0])
    """
    _C.set_cpu_level(level)


def cuda_available() -> bool:
    """Whether this process can use arrays on CUDA devices.

    Example:
        >>> import onepass
        >>> onepass.config.cuda_available() == (not onepass.config.cuda_why_not())
        True
    """
    return _cuda_state() is None


def cuda_why_not() -> str:
    """The reason why CUDA is not available, as a sentence; empty if it is.

    Example:
        >>> import onepass
        >>> isinstance(onepass.config.cuda_why_not(), str)
        True
    """
    return _cuda_state() or ""


def explain(*, measure: bool = True) -> MachineExplanation:
    """How this machine is used, and what holds it back: ``print`` shows it.

    An optimizer's own ``explain`` says the same of its step.

    Args:
        measure: time a copy of 64 MiB too, which takes a quarter of a second.

    Returns:
        A dataclass with ``level``, ``level_reason``, ``threads``, ``threads_reason``,
        ``processors``, ``affinity``, ``quota``, ``variable``, ``cuda``, ``copy_bytes_per_second``
        and ``notes``.

    Raises:
        TypeError: ``measure`` is not a flag.

    Example:
        >>> import onepass
        >>> about = onepass.config.explain(measure=False)
        >>> about.level == onepass.config.cpu_level()
        True
        >>> str(about).splitlines()[1].startswith("level")
        True
    """
    from onepass._explain import machine
    from onepass._numbers import flag

    return machine(flag("explain", "measure", measure), cuda_why_not())


@cache
def _cuda_state() -> str | None:
    if not _C.cuda_built():
        return (
            "this build of onepass has no CUDA part; build it with ONEPASS_CUDA=ON where nvcc is "
            "installed, or with ONEPASS_CUDA=PYPI."
        )
    try:
        module = importlib.import_module("onepass._cuda")
    except ImportError as error:
        return f"the CUDA part of onepass cannot be loaded: {error}."
    why: str = module.why_not()
    return why or None
