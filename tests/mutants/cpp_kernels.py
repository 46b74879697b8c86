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
        "keep(T((step > 1 ? 1 - dampening : 1) * ",
        "keep(T((1 - dampening) * ",
        _case("sgd_momentum-float64"),
    ),
    Mutant(
        "adam: the largest second moment starts anew",
        "csrc/kernels/adam_rule.h",
        "math::max(v_max, before * square), square);",
        "math::max(v, before * square), square);",
        _case("adam_amsgrad-float64"),
    ),
    Mutant(
        "adam: the largest second moment moves in a group without it",
        "csrc/kernels/adam_rule.h",
        "v_max = math::where_negative(maximum, under, v_max);",
        "v_max = under;",
        (
            "tests/test_many_groups.py::"
            "test_groups_that_differ_in_a_flag_step_as_optimizers_of_their_own[amsgrad]",
        ),
    ),
    Mutant(
        "sgd: the buffer of a group without momentum follows its gradients",
        "csrc/kernels/sgd.h",
        "b = math::where_negative(moves, buffer, b);",
        "b = buffer;",
        (
            "tests/test_switched_options.py::test_a_group_that_is_switched_off_goes_on_where_it_"
            "was_though_another_is_on[sgd momentum 1]",
        ),
    ),
    Mutant(
        "adam: eps inside the root's correction",
        "csrc/kernels/adam_rule.h",
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
        "math::scaled_expm1(kDepth, x);",
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
        "math::logistic_slope(math::rising(t, T(2)), T(4))",
        "math::logistic_slope(math::rising(t, T(2)), T(2))",
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
        "batch renorm: nothing limits r from below",
        "csrc/kernels/batch_renorm.h",
        "1 / rmax, rmax)",
        "0, rmax)",
        ("tests/test_batch_renorm.py::test_r_and_d_inside_at_and_outside_their_limits",),
    ),
    Mutant(
        "batch renorm: the weight's gradient forgets d",
        "csrc/kernels/batch_renorm.h",
        " + sum_g * double(saved.d)",
        "",
        ("tests/test_batch_renorm.py::test_r_and_d_are_constants_backward",),
    ),
    Mutant(
        "losses of elements: no share of an infinite loss is NaN",
        "csrc/kernels/loss.h",
        "return q == T(0) ? none : q * v;",
        "return q * v;",
        ("tests/test_pointwise_losses.py::test_logits_of_any_size",),
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
    Mutant(
        'cautious: a NaN is left out',
        'csrc/kernels/cautious.h',
        '(after >= from && g >= T(0)) || (after <= from && g <= T(0))',
        '!((after < from && g > T(0)) || (after > from && g < T(0)))',
        ('tests/test_rider_stages.py::test_cautious_lets_a_nan_through',),
    ),
    Mutant(
        'cautious: the decay is part of the update',
        'csrc/kernels/cautious.h',
        'const T from = before * keep;',
        'const T from = before * (keep > T(2) ? keep : T(1));',
        ('tests/test_rider_stages.py::test_cautious_leaves_elements_whose_update_and_gradient_disagree',),
    ),
    Mutant(
        'stochastic rounding: float16 subnormals are cut',
        'csrc/kernels/rounding.h',
        'float((fine + int32_t(random & 0xfffffu)) >> 20)',
        'float(fine >> 20)',
        ('tests/test_rider_stages.py::test_all_riders_at_once_in_every_dtype',),
    ),
    Mutant(
        'rows: the limit is squared',
        'csrc/kernels/row_limit.h',
        'return {T(power), T(max_norm / norm)};',
        'return {T(power), T(max_norm * max_norm / norm)};',
        ('tests/test_rider_stages.py::test_every_rider_alone_and_every_two_equal_the_stages_one_after_another',),
    ),
    Mutant(
        'rows: squares that overflow leave a row as it is',
        'csrc/kernels/row_limit.h',
        'return plain > 1 ? 1 : 2;',
        'return 0;',
        ('tests/test_rider_stages.py::test_rows_of_any_magnitude_are_scaled_back[float64-1e+200-1.0]',),
    ),
    Mutant(
        'master: a parameter changed by hand is lost',
        'csrc/kernels/rounding.h',
        'return rounded == param ? master : param;',
        'return rounded <= param || param > rounded ? master : master;',
        ('tests/test_rider_stages.py::test_a_parameter_changed_by_hand_is_where_its_master_copy_goes_on',),
    ),
    Mutant(
        'gaussian: the tail is that of the middle',
        'csrc/kernels/gaussian.h',
        'const bool tail = !(w < 5.0f);',
        'const bool tail = !(w < 9.0f);',
        ('tests/test_rider_stages.py::test_noise_is_the_normal_quantile_of_random_bits',),
    ),
    Mutant(
        "layer norm: the mean of g is added to dx",
        "csrc/kernels/layer_norm.h",
        "return rstd * (gw - level - hat * slope);",
        "return rstd * (gw + level - hat * slope);",
        _case("layer_norm_backward-float64"),
    ),
    Mutant(
        "rms norm: eps is taken off",
        "csrc/kernels/rms_norm.h",
        "math::sqrt(squares * part + eps)",
        "math::sqrt(squares * part - eps)",
        _case("rms_norm-float64"),
    ),
    Mutant(
        "max pool: of equal elements the last is the largest",
        "csrc/kernels/max_pool.h",
        "(x > most)",
        "(x >= most)",
        _case("max_pool2d-bfloat16"),
    ),
    Mutant(
        "norms: a momentum of 0 meets an Inf",
        "csrc/kernels/batch_norm.h",
        "return momentum == 0 ? old : (1 - momentum) * old + momentum * value;",
        "return (1 - momentum) * old + momentum * value;",
        ("tests/test_running_statistics.py::test_functions_keep_them",),
    ),
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
        ("tests/test_loss_edges.py::test_a_class_that_cannot_be_takes_no_part_where_its_target_is_zero",),
    ),
    Mutant(
        "sgd: a buffer that is not in use reaches the parameter",
        "csrc/kernels/sgd.h",
        "fresh(step <= 1 || momentum_ == 0) {}",
        "fresh(step <= 1) {}",
        (
            "tests/test_switched_options.py::"
            "test_what_a_switched_off_group_holds_does_not_reach_its_parameter[inf-sgd momentum 1]",
        ),
    ),
    Mutant(
        "rmsprop: a buffer that is not in use reaches the parameter",
        "csrc/kernels/rmsprop.h",
        "d = math::where_negative(moves, momentum * b + d, d);",
        "d = momentum * b + d;",
        (
            "tests/test_switched_options.py::test_what_a_switched_off_group_holds_does_not_reach_"
            "its_parameter[inf-rmsprop momentum 1]",
        ),
    ),
    Mutant(
        "lars: the buffer of a group without momentum follows its gradients",
        "csrc/kernels/lars.h",
        "b = math::where_negative(moves, buffer, b);",
        "b = buffer;",
        ("tests/test_switched_options.py::test_no_group_sees_the_options_of_another[lars]",),
    ),
    Mutant(
        "adopt: the first step of an element without gradient is 0/0",
        "csrc/kernels/adopt.h",
        "eps(T(step > 1 ? eps_ : 1)),",
        "eps(T(eps_)),",
        ("tests/test_optim.py::test_trajectory",),
    ),
    Mutant(
        "max pool: a NaN is no larger than others",
        "csrc/kernels/max_pool.h",
        " | ((x != x) & (most == most))",
        "",
        ("tests/test_conv.py::test_pools_of_ties_and_odd_values",),
    ),
    Mutant(
        "sin: a large x counts as usual",
        "csrc/kernels/sin.h",
        "return math::sin_is_near(x);",
        "return x == x;",
        (
            "tests/test_activation_edges.py::"
            "test_a_large_element_leaves_the_sines_of_other_blocks_as_they_are",
        ),
    ),
]  # fmt: skip
