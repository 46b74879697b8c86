"""Mistakes planted in csrc/cpu: drivers, leaves and loops."""

from mutant import Mutant


def _case(row: str) -> tuple[str, ...]:
    return (f"tests/test_kernels.py::test_against_reference[{row}]",)


POINTWISE = "tests/test_pointwise_losses.py"

CPU = [
    Mutant(
        "mask: bits beyond the last element are set",
        "csrc/cpu/mask.h",
        "left < 8 ? (1u << left) - 1 : 0xffu;",
        "left < 8 ? 0xffu : 0xffu;",
        ("tests/test_dropout_mask.py",),
    ),
    Mutant(
        "tensor norms: a piece forgets those before it",
        "csrc/cpu/tensor_norms.h",
        "blocks + begin / kBlockElements",
        "blocks + done / kBlockElements",
        ("tests/test_tensor_norms.py::test_sizes_around_every_edge_of_a_vector",),
    ),
    Mutant(
        "loops: a converted gradient is not zeroed",
        "csrc/cpu/loops.h",
        "S::writes(o) || (int(o) == kGradient && call.rider.zero_grad)",
        "S::writes(o)",
        ("tests/test_optim_riders.py::test_zero_grad",),
    ),
    Mutant(
        "loops: the second row of hyper-parameters is the first",
        "csrc/cpu/loops.h",
        "return make_functor<K, T>(call.hyper + row * call.hyper_size);",
        "return make_functor<K, T>(call.hyper + (row > 0) * call.hyper_size);",
        ("tests/test_plan_scalars.py::test_many_parameters_with_products_of_their_own",),
    ),
    Mutant(
        "keep bits: the neighbour's bits are lost",
        "csrc/cpu/keep_bits.h",
        "words[i] >> shift | words[i + 1] << (32 - shift);",
        "words[i] >> shift;",
        _case("bias_act-float64"),
    ),
    Mutant(
        "epilogue: the residual is missing behind an activation, backward",
        "csrc/cpu/epilogue.h",
        "affine<Flush>(n, x, residual, mean, scale, shift, nullptr, z);",
        "affine<Flush>(n, x, nullptr, mean, scale, shift, nullptr, z);",
        _case("batch_norm_backward-float64"),
    ),
    Mutant(
        "composed ReLU: the sums of columns miss dropout",
        "csrc/cpu/composed_relu.cpp",
        "const Backward backward{{}, dropout};",
        "const Backward backward{{}, {T(1)}};",
        ("tests/test_fusion.py", "tests/test_gradients.py"),
    ),
    Mutant(
        "moments: half of sixteen rows counts twice",
        "csrc/cpu/moment_sums.h",
        "x + kAdded * stride, stride, shift);",
        "x, stride, shift);",
        _case("batch_norm-float64"),
    ),
    Mutant(
        "cut: the last, shorter row is left out",
        "csrc/cpu/cut.h",
        "cut.tail = call.outer % repeat * width;",
        "cut.tail = 0;",
        _case("batch_norm-float32"),
    ),
    Mutant(
        "norm: only the last range counts",
        "csrc/cpu/global_norm.h",
        "combine<kOrder>(&total.sum, partials[r].sum);",
        "total.sum = partials[r].sum;",
        _case("global_norm-float64"),
    ),
    Mutant(
        "norm: the last range hides an offender",
        "csrc/cpu/global_norm.h",
        "if (total.first_nonfinite < 0) total.first_nonfinite = partials[r].first_nonfinite;",
        "total.first_nonfinite = partials[r].first_nonfinite;",
        ("tests/test_optim_riders.py::test_the_first_offender_is_named",),
    ),
    Mutant(
        "cross entropy: ignored labels count in the mean",
        "csrc/cpu/row_loss.h",
        "const bool counts = job.call.labels[p] != job.call.ignore_index;",
        "const bool counts = true;",
        ("tests/test_cross_entropy.py::test_an_ignored_row_may_hold_anything",),
    ),
    Mutant(
        "cross entropy: positions beyond a group take the first group's labels",
        "csrc/cpu/row_walk.h",
        "const double loss = this->group(r, n, x, p,",
        "const double loss = this->group(r - r % (2 * kTile), n, x, p,",
        ("tests/test_cross_entropy.py::test_more_rows_than_a_tile_holds",),
    ),
    Mutant(
        "bce_loss: targets are not checked",
        "csrc/cpu/pointwise_loss.h",
        "any |= any_refused(n, job.load(operand, begin, n, scratch));",
        "any |= any_refused(n, job.load(kLossInput, begin, n, scratch));",
        (f"{POINTWISE}::test_what_is_no_probability_is_refused_and_nothing_is_written",),
    ),
    Mutant(
        "losses of elements: values of the block before are added behind a short one",
        "csrc/cpu/pointwise_loss.h",
        "add_up(Values{}, values, n);",
        "add_up_block(Values{}, values);",
        _case("mse_loss-float64"),
    ),
    Mutant(
        "channels: the bias of another channel",
        "csrc/cpu/channel_step.h",
        "load_channels(call.norm.bias, first, n, 0, bias);",
        "load_channels(call.norm.bias, 0, n, 0, bias);",
        _case("bias_act-float32"),
    ),
    Mutant(
        "stages: the average of a 16-bit parameter is of its unrounded value",
        "csrc/cpu/stages.cpp",
        "  if (block.rounded) round(block, stages, random);\n",
        "  if (block.rounded && !block.average) round(block, stages, random);\n",
        ("tests/test_rider_stages.py::test_all_riders_at_once_in_every_dtype",),
    ),
    Mutant(
        "stages: every block of noise is the first one",
        "csrc/cpu/stages.cpp",
        "step_words(words, uint64_t(begin) / 4,",
        "step_words(words, uint64_t(begin % 4) / 4,",
        ("tests/test_rider_stages.py::test_noise_is_the_normal_quantile_of_random_bits",),
    ),
    Mutant(
        "stages: bfloat16 states are rounded to nearest",
        "csrc/cpu/stored_states.h",
        "dither && narrow == kStates",
        "dither && narrow < 0",
        (
            "tests/test_rider_stages.py::test_bfloat16_averages_decay_where_rounding_to_nearest_would_hold_them",
        ),
    ),
    Mutant(
        "codes: every block has the scale of the first one",
        "csrc/cpu/stored_states.h",
        "+ element / kCodeBlock;",
        "+ 0 * element;",
        ("tests/test_coded_states.py::test_states_are_float32_ones_coded_after_every_step",),
    ),
    Mutant(
        "codes: what lies beyond the last element counts for the scale",
        "csrc/cpu/code_blocks.cpp",
        "for (int64_t i = n; i < kCodeBlock; ++i) state[i] = 0;",
        "for (int64_t i = n; i < kCodeBlock; ++i) state[i] += 1;",
        ("tests/test_coded_states.py::test_a_step_stores_what_the_reference_stores",),
    ),
    Mutant(
        "rows: a master copy is not scaled",
        "csrc/cpu/limit_rows.cpp",
        "if (master.data) store_block(tensor, master,",
        "if (!master.data) store_block(tensor, param,",
        ("tests/test_rider_stages.py::test_all_riders_at_once_in_every_dtype",),
    ),
    Mutant(
        "dropout of maps: every piece begins with a map",
        "csrc/cpu/loops.h",
        "phase = piece.begin % repeat;",
        "phase = 0;",
        ("tests/test_kernels.py::test_against_reference[feature_dropout-float32]",),
    ),
    Mutant(
        "rows: a limited parameter is averaged twice",
        "csrc/cpu/staged_piece.h",
        ".data && !limited;",
        ".data && (limited || !limited);",
        (
            "tests/test_rider_stages.py::test_every_rider_alone_and_every_two_equal_the_stages_one_after_another",
        ),
    ),
    Mutant(
        "row norm: columns of a group land in another's block",
        "csrc/cpu/row_norm_backward.h",
        "call.sums + 2 * (group * cut.blocks + b) * cut.length + column",
        "call.sums + 2 * (group + b) * cut.length + column",
        ("tests/test_kernels.py::test_against_reference[group_norm_backward-float64]",),
    ),
    Mutant(
        "row norm: a gradient taken again keeps its scale in dweight",
        "csrc/cpu/row_norm_rows.h",
        "of_channels[channel + call.cut.sums() / 2] = products / by;",
        "of_channels[channel + call.cut.sums() / 2] = products;",
        ("tests/test_row_norms.py::test_gradients_of_rows_whose_sums_are_taken_again",),
    ),
    Mutant(
        "row norm: a tile of channels adds up those of the tile before",
        "csrc/cpu/row_norm_tile_backward.h",
        "if (of_channels) of_channels += runs;",
        "",
        ("tests/test_kernels.py::test_against_reference[group_norm_backward-float64]",),
    ),
    Mutant(
        "row norm: weights of short maps move on one element late",
        "csrc/cpu/row_norm_call.h",
        "smaller(n, (c + 1) * inner - first);",
        "smaller(n, (c + 1) * inner - first + 1);",
        ("tests/test_kernels.py::test_against_reference[group_norm-float64]",),
    ),
    Mutant(
        "weight norm: statistics taken backward are those of no careful row",
        "csrc/cpu/row_norm_forward.h",
        "if (careful[r]) measure(row + r);",
        "(void)careful;",
        ("tests/test_row_norms.py::test_weight_norm_backward_of_rows_whose_squares_leave_float32",),
    ),
    Mutant(
        "row norm: a momentum of 0 meets an infinite variance",
        "csrc/cpu/row_norm_forward.h",
        "if (!v.data || call.norm.momentum == 0) return;",
        "if (!v.data) return;",
        ("tests/test_row_norms.py::test_a_momentum_of_zero_keeps_the_running_statistics",),
    ),
]
