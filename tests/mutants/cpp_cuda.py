"""Mistakes planted in csrc/cuda, which the tests compile against the simulator."""

from mutant import Mutant

REFERENCE = "tests/test_cuda_backend.py::test_against_reference"
ELEMENTWISE = "tests/test_cuda_backend.py::test_elementwise_kernels_give_the_bits_of_the_cpu"

CUDA = [
    Mutant(
        "CUDA: a short row's last unit reads beyond it",
        "csrc/cuda/row_walk.cuh",
        "const int high = end - at < W ? int(end - at) : W;",
        "const int high = W;",
        (f"{REFERENCE}[cross_entropy-float32]",),
    ),
    Mutant(
        "CUDA: halves of shares are taken for whole ones",
        "csrc/cuda/cross_entropy.cuh",
        "T(2) * weighted",
        "weighted",
        (f"{REFERENCE}[cross_entropy-float32]",),
    ),
    Mutant(
        "CUDA: the gap between a channel's planes is one too short",
        "csrc/cuda/channels.cuh",
        "w.gap = (channels - 1) * inner;",
        "w.gap = (channels - 2) * inner;",
        ("tests/test_cuda_backend.py::test_wide_and_split_shapes",),
    ),
    Mutant(
        "CUDA: columns of a group fold one row less",
        "csrc/cuda/channels.cuh",
        "for (int row = 0; row < rows; ++row) {",
        "for (int row = 1; row < rows; ++row) {",
        (f"{REFERENCE}[batch_norm-float32]",),
    ),
    Mutant(
        "CUDA: the running variance is biased",
        "csrc/cuda/finish.cuh",
        "variance * R::bessel(count), call.momentum);",
        "variance, call.momentum);",
        (f"{REFERENCE}[batch_norm-float32]",),
    ),
    Mutant(
        "CUDA: the scale of a scaled channel's gradients stays in dweight",
        "csrc/cuda/finish.cuh",
        "dweight / double(p.g_scale));",
        "dweight);",
        ("tests/test_cuda_backend.py::test_norms_at_the_ends_of_the_range",),
    ),
    Mutant(
        "CUDA: bits of dropout come from the neighbour's plane",
        "csrc/cuda/dropout_bits.cuh",
        "const uint32_t plane[4] = {j & 2 ? u : p, j & 2 ? v : q, j & 2 ? p : u, j & 2 ? q : v};",
        "const uint32_t plane[4] = {j & 2 ? u : p, j & 2 ? v : q, j & 2 ? q : u, j & 2 ? p : v};",
        (f"{ELEMENTWISE}[dropout-float32]",),
    ),
    Mutant(
        "CUDA: a skipped step's gradients are zeroed unasked",
        "csrc/cuda/loops.cuh",
        "if (r.skip && !call.zero_skipped) r.zero_grad = false;",
        "if (r.skip && call.zero_skipped) r.zero_grad = false;",
        ("tests/test_cuda_arrays.py::test_a_step_that_raises_leaves_the_gradients",),
    ),
    Mutant(
        "CUDA: the next unit is loaded from the place of this one",
        "csrc/cuda/loops.cuh",
        "if (step + 1 < kSteps) fetch_unit<W>(entry, at + kWarpSize * W, next);",
        "if (step + 1 < kSteps) fetch_unit<W>(entry, at, next);",
        (f"{ELEMENTWISE}[sgd_momentum-float32]",),
    ),
    Mutant(
        "CUDA: the norm of float64 values beside floats overwrites their partials",
        "csrc/cuda/reduce.cuh",
        "count += norm_as<double>(call, partials, room, count, true);",
        "count += norm_as<double>(call, partials, room, 0, true);",
        ("tests/test_cuda_backend.py::test_a_norm_of_float32_and_float64_arrays",),
    ),
    Mutant(
        "CUDA: squares that vanish are believed",
        "csrc/cuda/reduce.cuh",
        "return squares >= 0x1p-800 && squares < GradientRider::kNoLimit;",
        "return squares < GradientRider::kNoLimit;",
        ("tests/test_cuda_backend.py::test_a_norm_of_float32_and_float64_arrays",),
    ),
    Mutant(
        "CUDA: a step is counted for each block",
        "csrc/cuda/loops.cuh",
        "  if (!is_last_block(call.ticket)) return;\n  using R",
        "  (void)is_last_block(call.ticket);\n  using R",
        ("tests/test_cuda_arrays.py::test_a_step_of_many_blocks_is_one_step",),
    ),
]  # fmt: skip
