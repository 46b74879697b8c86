"""Which communicator a program has: the one it passes, or that of the command that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from onepass._array import torch_if_imported
from onepass.parallel._mpi import MPI
from onepass.parallel._protocol import Alone, Communicator
from onepass.parallel._torch import Torch

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")  # what launchers call it
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

    All processes call it: making an `MPI` or a `Torch` waits for the others.

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


def _launched(environment: Mapping[str, str]) -> Communicator:
    torch = torch_if_imported()
    made = torch is not None and torch.distributed.is_available()
    if torch is not None and made and torch.distributed.is_initialized():
        return Torch() if torch.distributed.get_world_size() > 1 else Alone()
    # torchrun first: srun starts it once a machine, and its processes see the variables of both.
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
        return Torch() if environment["WORLD_SIZE"] != "1" else Alone()
    # Slurm's number last: mpiexec may start a process a machine by srun, which start the ranks.
    sizes = [environment[name] for name in SIZES if name in environment]
    if not sizes and "PMIX_RANK" not in environment:  # PMIx does not say how many there are
        return Alone()
    if sizes and sizes[0] == "1":
        return Alone()
    comm = MPI()
    if sizes and sizes[0] != str(comm.size):
        raise RuntimeError(
            f"find: {sizes[0]} processes were started and MPI sees {comm.size}: mpi4py was built "
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
