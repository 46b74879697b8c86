"""Mistakes planted in csrc/core: what both backends share."""

from mutant import Mutant

MASK = "tests/test_dropout_mask.py"

CORE = [
    Mutant(
        "dropout: a threshold on the half is rounded down",
        "csrc/core/philox.h",
        "scaled - double(whole) >= 0.5 ? 1u : 0u",
        "scaled - double(whole) > 0.5 ? 1u : 0u",
        (f"{MASK}::test_threshold_is_exact",),
    ),
    Mutant(
        "dropout: the float64 scale is one step off",
        "csrc/core/philox.h",
        "return keep == 0 ? 0.0 : 0x1p32 / double(keep);",
        "return keep == 0 ? 1.0 : 0x1p32 / double(keep - 1);",
        (f"{MASK}::test_kept_values_are_scaled_by_one_rounded_factor",),
    ),
    Mutant(
        "dropout of maps: the last element of a word has no bit",
        "csrc/core/philox.h",
        "(to < 32 ? run",
        "(to < 31 ? run",
        ("tests/test_kernels.py::test_against_reference[feature_dropout-float32]",),
    ),
    Mutant(
        "keep bits: read from the other end of the word",
        "csrc/core/signature.h",
        "int32_t(word << (31 - bit)) >> 31",
        "int32_t(word << bit) >> 31",
        ("tests/test_kernels.py::test_against_reference[dropout-float32]",),
    ),
    Mutant(
        "folds: the maximum norm loses a NaN",
        "csrc/core/folds.h",
        "return b > a || b != b ? b : a;",
        "return b > a ? b : a;",
        ("tests/test_global_norm.py::test_norm_of_what_is_not_finite",),
    ),
    Mutant(
        "passes: no pass writes the residual's gradient in evaluation",
        "csrc/core/normalise.h",
        "return wants_parameters || wants_dresidual || (wants_dx && corrects()) || !is_norm;",
        "return wants_parameters || (wants_dx && corrects()) || !is_norm;",
        ("tests/test_batch_norm.py::test_the_residuals_gradient_without_parameters_in_evaluation",),
    ),
    Mutant(
        "16-bit types: odd results are rounded up",
        "csrc/core/dtype.h",
        "Bits y = ((exponent - Bits(kLeast)) >> kExtra) + (sum - magic);",
        "Bits y = ((exponent - Bits(kLeast)) >> kExtra) + (sum - magic) + (sum & 1);",
        ("tests/test_kernels.py::test_against_reference[leaky_relu-float16]",),
    ),
    Mutant(
        "tanh: saturates early",
        "csrc/core/basic.h",
        "static constexpr double kTanhMax = 20.0, kErfMax = 6.0;",
        "static constexpr double kTanhMax = 15.0, kErfMax = 6.0;",
        ("tests/test_kernels.py::test_against_reference[tanh-float64]",),
    ),
    Mutant(
        "log: a coefficient",
        "csrc/core/log.h",
        "0x1.2492494224e8ap-2",
        "0x1.2492494224e8ap-3",
        ("tests/test_kernels.py::test_against_reference[cross_entropy-float64]",),
    ),
    Mutant(
        "mills: a constant",
        "csrc/core/mills.h",
        "0x1.de05c2p-1f,",
        "0x1.de05e2p-1f,",
        ("tests/test_activation_edges.py::test_float32_is_as_exact_as_the_table_of_numerics_says",),
    ),
    Mutant(
        "power: the lowest bit of the exponent is left out",
        "csrc/core/basic.h",
        "if (n & 1) y *= x;",
        "if (n & 1 && n > 1) y *= x;",
        ("tests/test_kernels.py::test_against_reference[adamw-float64]",),
    ),
    Mutant(
        "schedule: a tensor's later pieces begin at its start",
        "csrc/core/schedule.cpp",
        "pieces_.push_back({t, begin, size});",
        "pieces_.push_back({t, 0, size});",
        ("tests/test_large_arrays.py",),
    ),
    Mutant(
        "windows: an average counts what lies beyond the padding",
        "csrc/core/windows.h",
        "const I end = smaller<I>(begin + a.kernel, a.in + a.after);",
        "const I end = begin + a.kernel;",
        ("tests/test_kernels.py::test_against_reference[avg_pool2d-float64]",),
    ),
    Mutant(
        "dropout: the float scale is rounded twice",
        "csrc/core/philox.h",
        "return float(quotient | (quotient * keep != one ? 1u : 0u)) * 0x1p-31f;",
        "return float(0x1p32 / double(keep)) + float(quotient & one) * 0.0f;",
        ("tests/test_value_edges.py::test_the_scale_of_dropout_is_rounded_once",),
    ),
    Mutant(
        "windows: those over an element are one too many",
        "csrc/core/windows.h",
        "const I left = smaller<I>(a.kernel, past + 1) - c.tap;",
        "const I left = smaller<I>(a.kernel, past + 1) - c.tap + 1;",
        ("tests/test_kernels.py::test_against_reference[avg_pool2d_backward-float64]",),
    ),
    Mutant(
        "windows: dilated taps that lie on no window count",
        "csrc/core/windows.h",
        "if (c.tap >= end || rest % a.stride != 0) return c;",
        "if (c.tap >= end) return c;",
        ("tests/test_kernels.py::test_against_reference[col2im-float64]",),
    ),
]
