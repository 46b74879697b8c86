"""Mistakes planted in csrc/kernels: formulas."""

from mutant import Mutant


def _case(row: str) -> tuple[str, ...]:
    return (f"tests/test_kernels.py::test_against_reference[{row}]",)


KERNELS = [
    Mutant(
        "lion: the mean is kept by beta1",
        "csrc/kernels/lion.h",
        "const T mean = beta2 * m + gain2 * g;",
        "const T mean = beta1 * m + gain2 * g;",
        _case("lion-float64"),
    ),
    Mutant(
        "lion: the sign of 0 is 1",
        "csrc/kernels/lion.h",
        "ahead < 0 ? T(-1) : ahead;",
        "ahead < 0 ? T(-1) : T(1);",
        ("tests/test_optimizer_rules.py::test_lion_does_not_move_where_nothing_pulls",),
    ),
    Mutant(
        "sgd: the first step is damped",
        "csrc/kernels/sgd.h",
        "const T buffer = first ? d : moved;",
        "const T buffer = moved;",
        _case("sgd_momentum-float64"),
    ),
    Mutant(
        "adam: the largest second moment starts anew",
        "csrc/kernels/adam.h",
        "under = math::max(v_max, square);",
        "under = math::max(v, square);",
        _case("adam_amsgrad-float64"),
    ),
    Mutant(
        "adam: eps inside the root's correction",
        "csrc/kernels/adam.h",
        "(math::sqrt(under) * correction + eps)",
        "((math::sqrt(under) + eps) * correction)",
        _case("adam-float64"),
    ),
    Mutant(
        "nadam: the next momentum is this step's",
        "csrc/kernels/nadam.h",
        "mu(beta1, momentum_decay, step + 1);",
        "mu(beta1, momentum_decay, step);",
        _case("nadam-float64"),
    ),
    Mutant(
        "leaky_relu: NaN is lost in the gradient",
        "csrc/kernels/leaky_relu.h",
        "return x == x ? dx : x;",
        "return dx;",
        ("tests/test_activation_edges.py::test_activation_at_special_values",),
    ),
    Mutant(
        "selu: cancels below zero",
        "csrc/kernels/selu.h",
        "kDepth * math::expm1(x);",
        "kDepth * (math::exp(x) - T(1));",
        _case("selu-float32"),
    ),
    Mutant(
        "gelu: the gradient of negative values is that of positive ones",
        "csrc/kernels/gelu.h",
        "math::mills(t, kDown));\n    return dy * (x < T(0) ? below : T(1) - below)",
        "math::mills(t, kDown));\n    return dy * (T(1) - below)",
        _case("gelu_backward-float64"),
    ),
    Mutant(
        "tanh: the gradient's factor",
        "csrc/kernels/tanh.h",
        "(e * (T(4) * F::kDown) / (sum * sum))",
        "(e * (T(4) * F::kDown) / sum)",
        _case("tanh_backward-float64"),
    ),
    Mutant(
        "clip: values below -max_value stay",
        "csrc/kernels/gradient.h",
        "const T low = g < -max_value ? -max_value : g;",
        "const T low = g;",
        ("tests/test_optim_riders.py::test_unscale_then_clip_values_then_clip_the_norm",),
    ),
    Mutant(
        "clip: a small gradient grows to max_norm",
        "csrc/kernels/gradient.h",
        "return {coefficient > 1 ? 1 : coefficient, 1};",
        "return {coefficient, 1};",
        ("tests/test_errors.py::test_infinite_limits_clip_nothing",
         "tests/test_optim_riders.py::test_clipping_is_what_torch_does"),
    ),
    Mutant(
        "batch norm: the running variance is biased",
        "csrc/kernels/batch_norm.h",
        "return count > 1 ? count / (count - 1) : 1;",
        "return 1;",
        ("tests/test_batch_norm.py::test_running_variance_is_unbiased",),
    ),
    Mutant(
        "cross entropy: smoothing leaves the label's own share out",
        "csrc/kernels/cross_entropy.h",
        "T(label_smoothing / double(classes))",
        "T(label_smoothing / double(classes - 1))",
        _case("cross_entropy-float64"),
    ),
    Mutant(
        "cross entropy: logits at the ends of the range overflow",
        "csrc/kernels/cross_entropy.h",
        "return m > (sizeof(T) == 4 ? T(0x1p100) : T(0x1p960));",
        "return m != m;",
        ("tests/test_cross_entropy.py::test_logits_at_both_ends_of_the_range",),
    ),
]  # fmt: skip
