"""The planted mistakes, one entry each: see README.md. Lists to read and to extend, no code.

Those in Python are in a file for each package.
"""

from __future__ import annotations

from cpp_bind import BIND
from cpp_core import CORE
from cpp_cpu import CPU
from cpp_cuda import CUDA
from cpp_kernels import KERNELS
from mutant import Mutant
from python_augment import AUGMENT
from python_data import DATA
from python_front import FRONT
from python_nn import NN
from python_optim import OPTIM
from python_train import TRAIN

LOSSES = "tests/test_loss_edges.py"
MEMORY = "tests/test_plan_memory.py"
VALUES = "tests/test_value_edges.py"

CPP = [
    Mutant(
        "rmsprop: centred variance has the wrong sign",
        "csrc/kernels/rmsprop.h",
        "math::at_least(square - mean * mean, T(0)), square);",
        "math::at_least(square + mean * mean, T(0)), square);",
        ("tests/test_kernels.py::test_against_reference[rmsprop_centered-float64]",),
    ),
    Mutant(
        "rmsprop: a centred variance below zero is NaN",
        "csrc/kernels/rmsprop.h",
        "math::at_least(square - mean * mean, T(0)), square);",
        "square - mean * mean, square);",
        (
            "tests/test_optimizer_rules.py::"
            "test_rmsprop_centred_has_no_nan_where_the_variance_vanishes",
        ),
    ),
    Mutant(
        "silu: x is not bounded, NaN at -Inf",
        "csrc/kernels/falling.h",
        "t(math::at_most(math::abs(x), sizeof(T) == 4 ? T(109) : T(752))), e(",
        "t(math::abs(x)), e(",
        ("tests/test_activation_edges.py::test_activation_at_special_values",),
    ),
    Mutant(
        "cross entropy: 0 · -Inf is not guarded",
        "csrc/kernels/cross_entropy.h",
        "return q == T(0) ? T(0) : q * below_max;",
        "return q * below_max;",
        (f"{LOSSES}::test_a_class_that_cannot_be_takes_no_part_where_its_target_is_zero",),
    ),
    Mutant(
        "dropout: the float scale is rounded twice",
        "csrc/core/philox.h",
        "return float(quotient | (quotient * keep != one ? 1u : 0u)) * 0x1p-31f;",
        "return float(0x1p32 / double(keep)) + float(quotient & one) * 0.0f;",
        (f"{VALUES}::test_the_scale_of_dropout_is_rounded_once",),
    ),
    Mutant(
        "streaming: AVX-512 stores are aligned to 32 bytes only",
        "csrc/cpu/blocks.cpp",
        "(reinterpret_cast<uintptr_t>(to + i) & 63); ++i) to[i] = from[i];",
        "(reinterpret_cast<uintptr_t>(to + i) & 31); ++i) to[i] = from[i];",
        ("tests/test_large_arrays.py",),
    ),
    Mutant(
        "normalise: groups of units cut through a channel",
        "csrc/cpu/cut.h",
        "return larger(1, kGroup / cut.spread) * cut.spread;",
        "return kGroup;",
        (f"{VALUES}::test_batch_norm_of_many_small_planes",),
    ),
    Mutant(
        "normalise: sums of gradients that overflow are believed",
        "csrc/cpu/scaled_channels.h",
        "again[k] = sum_leaves_range<T>(s[k]) || sum_leaves_range<T>(q[k]);",
        "again[k] = false;",
        ("tests/test_norm_range.py::test_sums_that_overflow_only_on_the_way",),
    ),
    Mutant(
        "normalise: a channel keeps the scale with which its moments were taken",
        "csrc/cpu/scaled_channels.h",
        "by[k] = T(1);  // the apply pass decides anew",
        "by[k] = by[k];",
        ("tests/test_norm_range.py::test_extremes_of_several_kinds_in_one_call",),
    ),
    Mutant(
        "cross entropy: 16-bit rows of two blocks use a stale one",
        "csrc/cpu/cross_entropy_work.h",
        "if (!keeps && classes > kBlockElements)",
        "if (!keeps && classes > 2 * kBlockElements)",
        (f"{LOSSES}::test_wide_rows_of_sixteen_bit_logits",),
    ),
    Mutant(
        "norm: a range is believed though squares may have vanished",
        "csrc/cpu/global_norm.h",
        "(*sum > 1e-28 * double(elements) &&",
        "(*sum > 0 * double(elements) &&",
        (f"{VALUES}::test_a_norm_of_magnitudes_that_vanish_beside_others",),
    ),
    Mutant(
        "plan: two threads may run its step",
        "csrc/bind/plan.cpp",
        "flag.exchange(true, std::memory_order_acquire)",
        "flag.exchange(false, std::memory_order_acquire)",
        (f"{MEMORY}::test_a_plan_is_not_stepped_inside_its_own_step",),
    ),
    Mutant(
        "plan: memory of moved parameters is not indexed again",
        "csrc/bind/plan_arrays.cpp",
        "!known(i, o).same_layout(arrays[o])))\n        owned_stale_ = true;",
        "!known(i, o).same_layout(arrays[o])))\n        tensors_stale_ = true;",
        (f"{MEMORY}::test_memory_that_a_parameter_has_moved_to_is_refused_as_a_gradient",),
    ),
    Mutant(
        "plan: gradients that moved are not compared with each other again",
        "csrc/bind/plan_arrays.cpp",
        "  grads_apart_ = false;\n  moved_grads_.push_back(i);",
        "  moved_grads_.push_back(i);",
        (f"{MEMORY}::test_a_gradient_shared_after_a_step_is_refused_where_it_would_be_zeroed",),
    ),
    Mutant(
        "contract: a result may overlap inputs that it may not alias",
        "csrc/bind/border.h",
        "if (other != n) check_overlap(at_[n], at_[other], alias);",
        "if (other != n && alias) check_overlap(at_[n], at_[other], alias);",
        (f"{LOSSES}::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "contract: a result may be read-only",
        "csrc/bind/border.h",
        "if (writes) check_writable(array);",
        "(void)writes;",
        (f"{LOSSES}::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "border: the GIL is never released",
        "csrc/bind/target.h",
        ": state_(elements >= kKeepGil ? PyEval_SaveThread() : nullptr) {}",
        ": state_(elements < 0 ? PyEval_SaveThread() : nullptr) {}",
        (f"{MEMORY}::test_other_threads_run_during_a_long_call",),
    ),
    Mutant(
        "CUDA: operands aligned unlike each other are read in units",
        "csrc/cuda/table.cuh",
        "if (beyond / size != e->lead) e->path = Path::elements;",
        "if (beyond / size > width) e->path = Path::elements;",
        ("tests/test_cuda_backend.py::test_layouts_give_the_bits_of_the_cpu",),
    ),
    Mutant(
        "CUDA: a functor is kept for parameters at another step",
        "csrc/cuda/functors.cuh",
        "if (entry.row != row_ || step != step_ || !same_scalars) {",
        "if (entry.row != row_ || !same_scalars) {",
        ("tests/test_cuda_arrays.py::test_parameters_of_one_warp_have_counts_of_their_own",),
    ),
]

PYTHON = [*AUGMENT, *DATA, *FRONT, *OPTIM, *NN, *TRAIN]
CPP += KERNELS + BIND + CPU + CORE + CUDA
MUTANTS = [*PYTHON, *CPP]
