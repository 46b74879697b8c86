"""The planted mistakes: a list for each folder of csrc and each package of Python (README.md)."""

from __future__ import annotations

from cpp_bind import BIND
from cpp_core import CORE
from cpp_cpu import CPU
from cpp_cuda import CUDA
from cpp_jax import JAX as CPP_JAX
from cpp_kernels import KERNELS
from python_augment import AUGMENT
from python_bench import BENCH
from python_data import DATA
from python_exchange import EXCHANGE
from python_front import FRONT
from python_jax import JAX
from python_nn import NN
from python_optim import OPTIM
from python_parallel import PARALLEL
from python_reports import REPORTS
from python_search import SEARCH
from python_train import TRAIN
from python_watch import WATCH

PYTHON = AUGMENT + BENCH + DATA + EXCHANGE + FRONT + OPTIM + NN + PARALLEL + REPORTS
PYTHON += SEARCH + TRAIN + WATCH + JAX
CPP = KERNELS + BIND + CPU + CORE + CUDA + CPP_JAX
MUTANTS = [*PYTHON, *CPP]
