"""Which communicator a program has: the one it passes, or that of the command that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from onepass._array import torch_if_imported
from onepass.parallel._mpi import MPI
from onepass.parallel._protocol import Alone, Communicator
from onepass.parallel._torch import Torch

# What launchers call the number of processes, and the rank of one. Slurm's last: mpiexec may start
# a process a machine by srun, which start the ranks.
SIZES = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
VERBS = ("sum_", "broadcast_", "barrier")


def find(parallel: Any) -> Communicator:
    """The communicator that ``parallel`` stands for.

    Args:
        parallel: None is one process, `Alone`. "auto" is that of the command which started the
            program: `MPI` under ``mpiexec`` or ``srun``, `Torch` under ``torchrun``, or where the
            program has called ``torch.distributed.init_process_group`` itself, `Alone` under
            neither. A communicator is returned as it is; one of mpi4py or a group of
            torch.distributed becomes an `MPI` or a `Torch`.

    Raises:
        TypeError: anything else, or a communicator that lacks a verb.
        ModuleNotFoundError: several processes were started and what they speak with is missing:
            they would all train the same alone. RuntimeError: they were, and MPI sees another
            number of them, or PyTorch has no group for `Torch`.

    All processes call it, before anything that can fail: making an `MPI` or a `Torch` waits for the
    others, and they learn only of what happens later.

    Example:
        >>> from onepass import parallel
        >>> parallel.find(None).size
        1
    """
    if parallel is None:
        return Alone()
    if isinstance(parallel, str) and parallel == "auto":
        return _launched(os.environ)
    if type(parallel).__module__.partition(".")[0] == "mpi4py" and hasattr(parallel, "Allreduce"):
        return MPI(parallel)
    if _is_group(parallel):
        return Torch(parallel)
    lacking = [name for name in VERBS if not callable(getattr(parallel, name, None))]
    lacking += [name for name in ("rank", "size") if not _is_int(getattr(parallel, name, None))]
    if isinstance(parallel, type) or lacking:
        hint = f"; it lacks {', '.join(lacking)}" if 0 < len(lacking) < 5 else ""
        raise TypeError(
            f"find: 'parallel' is {parallel!r}, expected None, 'auto' or a communicator: "
            f"parallel.MPI(), NCCL(), Torch(), or an object with rank, size, "
            f"{', '.join(VERBS)}{hint}"
        )
    communicator: Communicator = parallel
    return communicator


class Start(NamedTuple):
    """What the command that has started this process says about it in the environment.

    Attributes:
        engine: "MPI" or "Torch".
        variable: that has the number of processes; "": none has it.
        size: that number.
        rank: of this process, where it is known.
    """

    engine: str
    variable: str
    size: str
    rank: str


def start_of(environment: Mapping[str, str]) -> Start | None:
    """None: it was started by itself."""
    # torchrun first: srun starts it once a machine, and its processes see the variables of both.
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
        return Start("Torch", "WORLD_SIZE", environment["WORLD_SIZE"], environment["RANK"])
    for size, rank in SIZES.items():
        if size in environment:
            return Start("MPI", size, environment[size], environment.get(rank, ""))
    if "PMIX_RANK" in environment:  # PMIx does not say how many there are
        return Start("MPI", "", "", environment["PMIX_RANK"])
    return None


def _launched(environment: Mapping[str, str]) -> Communicator:
    torch = torch_if_imported()
    made = torch is not None and torch.distributed.is_available()
    if torch is not None and made and torch.distributed.is_initialized():
        return Torch() if torch.distributed.get_world_size() > 1 else Alone()
    start = start_of(environment)
    if start is None or start.size == "1":
        return Alone()
    if start.engine == "Torch":
        return Torch()
    comm = MPI()
    if start.size and start.size != str(comm.size):
        raise RuntimeError(
            f"find: {start.size} processes were started and MPI sees {comm.size}: mpi4py was built "
            "for another MPI than this mpiexec is of, or srun starts none (--mpi=none); use the "
            "mpiexec of the MPI that `python -m mpi4py --mpi-lib-version` shows, or an --mpi of "
            "srun that it knows; for processes that have nothing to do with each other pass None"
        )
    return comm


def _is_group(value: Any) -> bool:
    torch = torch_if_imported()
    return torch is not None and torch.distributed.is_available() and isinstance(
        value, torch.distributed.ProcessGroup
    )  # fmt: skip


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
