"""Training on several processes: MPI, NCCL or torch.distributed, behind three verbs."""

from onepass.parallel._find import find
from onepass.parallel._gradients import all_reduce_gradients
from onepass.parallel._mpi import MPI
from onepass.parallel._nccl import NCCL
from onepass.parallel._protocol import Alone, Communicator
from onepass.parallel._torch import Torch

__all__ = [
    "MPI",
    "NCCL",
    "Alone",
    "Communicator",
    "Torch",
    "all_reduce_gradients",
    "find",
]
