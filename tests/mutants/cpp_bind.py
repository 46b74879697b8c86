"""Mistakes planted in csrc/bind: the border."""

from mutant import Mutant

CONTRACTS = "tests/test_contracts.py::test_one_wrong_argument"

BIND = [
    Mutant(
        "plan: maximize is forgotten",
        "csrc/bind/plan.cpp",
        "options.maximize ? -1.0 : 1.0;",
        "1.0;",
        ("tests/test_plan.py::test_norm_clip_unscale_and_maximize",),
    ),
    Mutant(
        "plan: a skipped step moves the averages of LAMB",
        "csrc/core/passes.cpp",
        """void before_update(StepCalls* calls) {
  if (calls->skipped) return;
""",
        """void before_update(StepCalls* calls) {
""",
        ("tests/test_tensor_norms.py::test_overflow_on_the_first_step_changes_nothing",),
    ),
    Mutant(
        "plan: a group that does not exist",
        "csrc/bind/plan_rows.cpp",
        "groups_.back() >= int64_t(arrays.count())",
        "groups_.back() > int64_t(arrays.count())",
        ("tests/test_plan.py::test_what_a_plan_refuses",),
    ),
    Mutant(
        "plan: a group's options are read once",
        "csrc/bind/group_rows.cpp",
        "if (version == 0 || version != group.version) {",
        "if (version == 0) {",
        ("tests/test_many_groups.py::test_a_change_of_one_group_among_many_takes_effect_at_the_next_step",),
    ),
    Mutant(
        "plan: steps that are set leave the rows shared",
        "csrc/bind/plan_rows.cpp",
        " || edits_ != counter.edits())",
        ")",
        ("tests/test_many_groups.py::test_parameters_of_one_group_part_where_a_state_dict_says_so",),
    ),
    Mutant(
        "plan: rows keep the hyper-parameters that they had",
        "csrc/bind/plan_rows.cpp",
        "  read_ = 0;\n  filled_ = false;\n",
        "  read_ = 0;\n",
        ("tests/test_many_groups.py::test_a_change_of_one_group_among_many_takes_effect_at_the_next_step",),
    ),
    Mutant(
        "plan: a negative step count",
        "csrc/bind/plan_counts.cpp",
        "if (values.back() < 0)",
        "if (values.back() < -1)",
        ("tests/test_plan.py::test_what_a_plan_refuses",),
    ),
    Mutant(
        "array: an output that overlaps itself",
        "csrc/bind/array.cpp",
        "if (stride < reach)",
        "if (stride == 0)",
        ("tests/test_border_memory.py::test_outputs_that_overlap_themselves",),
    ),
    Mutant(
        "result: a number of float32 has the bits of a double",
        "csrc/bind/result.cpp",
        "wide ? static_cast<void*>(&value) : &narrow",
        "static_cast<void*>(&value)",
        ("tests/test_cross_entropy.py::test_huge_logits",
         "tests/test_cross_entropy.py::test_a_mean_of_losses_that_exceed_the_dtype"),
    ),
    Mutant(
        "result: the layout of the input is forgotten",
        "csrc/bind/result.cpp",
        "is_ndarray(like) && like.c_order",
        "is_ndarray(like)",
        ("tests/test_border_memory.py::test_a_result_has_the_layout_of_its_input",),
    ),
    Mutant(
        "labels: an unsigned one becomes ignore_index",
        "csrc/bind/labels.cpp",
        "(*to)[i] = fits ? int64_t(labels[i]) : std::numeric_limits<int64_t>::max();",
        "(void)fits, (*to)[i] = int64_t(labels[i]);",
        ("tests/test_border_memory.py::test_unsigned_label_beyond_int64",),
    ),
    Mutant(
        "batch norm: eps 0 in training",
        "csrc/bind/channel_norm.h",
        "if (call.batch_statistics && call.eps == 0)",
        "if (call.batch_statistics && call.eps < 0)",
        ("tests/test_errors.py::test_wrong_call[eps 0]",),
    ),
    Mutant(
        "batch norm: backward of an evaluation drops",
        "csrc/bind/norm.h",
        "if (!drops) tuple[kDropout] = py::float_(0.0);",
        "(void)drops, (void)kDropout;",
        ("tests/test_batch_norm.py::test_dropout_takes_no_part_in_evaluation",),
    ),
    Mutant(
        "global norm: -inf is an order",
        "csrc/bind/global_norm.cpp",
        "if (std::isinf(value) && value > 0)",
        "if (std::isinf(value))",
        (f"{CONTRACTS}[global_norm-ord]",),
    ),
    Mutant(
        "axis: one beyond the last",
        "csrc/bind/border.cpp",
        "if (d < 0 || d >= first().ndim)",
        "if (d < 0 || d > first().ndim)",
        (f"{CONTRACTS}[bias_act-axis]",),
    ),
    Mutant(
        "cross entropy: float labels are probabilities",
        "csrc/bind/border.cpp",
        "if (target.ndim == rows.ndim && std::equal(",
        "if (target.ndim == like.ndim && std::equal(",
        ("tests/test_cross_entropy.py::test_float_labels_are_told_apart_from_probabilities",),
    ),
    Mutant(
        "pos_weight: an axis of one is walked along",
        "csrc/bind/pointwise_losses.cpp",
        "own < 0 || a.shape[own] == 1 ? 0 : a.strides[own]",
        "own < 0 ? 0 : a.strides[own]",
        ("tests/test_pointwise_losses.py::test_weights_of_positives_broadcast_as_in_numpy",),
    ),
    Mutant(
        "plan: two threads may run its step",
        "csrc/bind/plan.cpp",
        "flag.exchange(true, std::memory_order_acquire)",
        "flag.exchange(false, std::memory_order_acquire)",
        ("tests/test_plan_memory.py::test_a_plan_is_not_stepped_inside_its_own_step",),
    ),
    Mutant(
        "plan: memory of moved parameters is not indexed again",
        "csrc/bind/plan_arrays.cpp",
        "!known(i, o).same_layout(arrays[o])))\n        owned_stale_ = true;",
        "!known(i, o).same_layout(arrays[o])))\n        tensors_stale_ = true;",
        ("tests/test_plan_memory.py::test_memory_that_a_parameter_has_moved_to_is_refused_as_a_gradient",),
    ),
    Mutant(
        "plan: gradients that moved are not compared with each other again",
        "csrc/bind/plan_arrays.cpp",
        "  grads_apart_ = false;\n  moved_grads_.push_back(i);",
        "  moved_grads_.push_back(i);",
        ("tests/test_plan_memory.py::test_a_gradient_shared_after_a_step_is_refused_where_it_would_be_zeroed",),
    ),
    Mutant(
        "contract: a result may overlap inputs that it may not alias",
        "csrc/bind/border.h",
        "if (other != n) check_overlap(at_[n], at_[other], alias);",
        "if (other != n && alias) check_overlap(at_[n], at_[other], alias);",
        ("tests/test_loss_edges.py::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "contract: a result may be read-only",
        "csrc/bind/border.h",
        "if (writes) check_writable(array);",
        "(void)writes;",
        ("tests/test_loss_edges.py::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "border: the GIL is never released",
        "csrc/bind/target.h",
        ": state_(elements >= kKeepGil ? PyEval_SaveThread() : nullptr) {}",
        ": state_(elements < 0 ? PyEval_SaveThread() : nullptr) {}",
        ("tests/test_plan_memory.py::test_other_threads_run_during_a_long_call",),
    ),
]  # fmt: skip
