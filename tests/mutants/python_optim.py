"""Planted mistakes in python/onepass/optim and the records of optimizers: see README.md."""

from __future__ import annotations

from mutant import Mutant

FRONT = "tests/test_optim_front.py"
FROZEN = "tests/test_frozen.py"
LBFGS = "tests/test_lbfgs.py"
LOADING = "tests/test_optim_loading.py"
CLOSED = "tests/test_schedules_closed_form.py"
LR = "tests/test_lr_scheduler.py"
OPTIONS = "tests/test_optimizer_options.py"
RECORDS = "tests/test_codebase.py"
SCHEDULES = "python/onepass/optim/lr_scheduler"
TOGETHER = "tests/test_schedules_together.py"

OPTIM = [
    Mutant(
        "record: the betas of Adam's formula are swapped",
        "tests/cases/optimizers.py",
        "m = lerp(m, g, 1 - betas[0])\n    v = betas[1] * v + (1 - betas[1]) * g**2\n"
        "    largest = v",
        "m = lerp(m, g, 1 - betas[1])\n    v = betas[0] * v + (1 - betas[0]) * g**2\n"
        "    largest = v",
        ("tests/test_kernels.py::test_against_reference[adam-float64]",),
    ),
    Mutant(
        "record: no options for RMSprop with momentum and centred",
        "tests/cases/optimizers.py",
        '            {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.01},\n'
        '            {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "momentum": 0.5, "centered": True},\n',
        "",
        (f"{RECORDS}::test_every_update_has_a_record[rmsprop]",),
    ),
    Mutant(
        "record: AdamW has none",
        "tests/cases/optimizers.py",
        '    _adam("adamw", optim.AdamW, adamw, decoupled),\n',
        "",
        (f"{RECORDS}::test_every_update_has_a_record[adamw]",),
    ),
    Mutant(
        "schedule: overwrites a rate set by hand",
        f"{SCHEDULES}/_base.py",
        "            self._follow()\n",
        "",
        (
            f"{TOGETHER}::test_a_rate_set_by_hand_is_kept_and_scheduled_on",
            f"{TOGETHER}::test_two_schedules_of_one_optimizer_multiply",
        ),
    ),
    Mutant(
        "schedule: begins with initial_lr, not with the present rate",
        f"{SCHEDULES}/_base.py",
        'float(group.get("initial_lr", lr)) if last_epoch > -1 or over else lr',
        'float(group.get("initial_lr", lr))',
        (f"{TOGETHER}::test_a_schedule_made_after_another_goes_on_from_its_rate",),
    ),
    Mutant(
        "schedule: a factor of 0 hides the others for ever",
        f"{SCHEDULES}/_zeros.py",
        "    return float(kept) if ours else None",
        "    return None",
        (f"{TOGETHER}::test_two_schedules_of_one_optimizer_multiply[cosine and pause-]",),
    ),
    Mutant(
        "schedule: a 0 set by hand is taken for its own",
        f"{SCHEDULES}/_zeros.py",
        "return lr == 0 and math.copysign(1, lr) < 0",
        "return lr == 0",
        (f"{TOGETHER}::test_a_zero_set_by_hand_where_a_schedule_is_zero_stays[0-a text-0]",),
    ),
    Mutant(
        "schedule: what is made of its 0 by hand is taken for its own",
        f"{SCHEDULES}/_zeros.py",
        "        ours = ours and not written if tensor else lr is ZERO\n",
        "        ours = ours and not (tensor and written)\n",
        (f"{TOGETHER}::test_a_zero_by_hand_over_a_schedules_zero_is_not_lost",),
    ),
    Mutant(
        "schedule: a tensor of 0 that was multiplied by 0 is taken for its own",
        f"{SCHEDULES}/_zeros.py",
        "which == id(lr) and version != _version(lr)[1]",
        "False",
        (f"{TOGETHER}::test_a_tensor_set_to_zero_over_a_schedules_zero_is_not_lost",),
    ),
    Mutant(
        "schedule: one of two at 0 lets the rate go",
        f"{SCHEDULES}/_base.py",
        "held = zeros.held(group) is not None and self._holders(number)",
        "held = False",
        (f"{TOGETHER}::test_two_schedules_of_one_optimizer_multiply[late start and waves-]",),
    ),
    Mutant(
        "schedule: a rate of 0 set by hand counts as the end of a schedule",
        f"{SCHEDULES}/_base.py",
        "zeros.held(g) is not None and self._ended(n)",
        'float(g["lr"]) == 0',
        (f"{TOGETHER}::test_a_rate_of_zero_set_by_hand_is_kept_by_every_schedule",),
    ),
    Mutant(
        "schedule: a resume takes the present rate for its own",
        f"{SCHEDULES}/_base.py",
        "last or self._present(groups)",
        "self._present(groups)",
        (f"{TOGETHER}::test_a_resume_between_a_rate_set_by_hand_and_the_next_step_is_exact",),
    ),
    Mutant(
        "schedule: a longer one goes on with the last rate of the shorter",
        f"{SCHEDULES}/_base.py",
        "if was or lrs[number] == lr:",
        "if was:",
        (f"{CLOSED}::test_a_schedule_of_another_length_goes_on_with_its_own_rates",),
    ),
    Mutant(
        "schedule: a longer one overwrites a rate set by hand before the save",
        f"{SCHEDULES}/_base.py",
        "if was or lrs[number] == lr:",
        "if True:",
        (f"{CLOSED}::test_a_rate_set_by_hand_outlives_a_resume_to_another_length",),
    ),
    Mutant(
        "plateau: the margin of a negative metric is negative",
        f"{SCHEDULES}/_plateau.py",
        "margin *= abs(self.best)",
        "margin *= self.best",
        (f"{LR}::test_a_plateau_of_any_number_is_a_plateau",),
    ),
    Mutant(
        "plateau: the first metric is compared with NaN",
        f"{SCHEDULES}/_plateau.py",
        " and math.isfinite(self.best)",
        "",
        (f"{LR}::test_a_plateau_of_any_number_is_a_plateau",),
    ),
    Mutant(
        "one cycle: goes on beyond its end",
        f"{SCHEDULES}/_one_cycle.py",
        "min(1.0, (t - starts[phase]) / width)",
        "(t - starts[phase]) / width",
        (f"{LR}::test_one_cycle_never_goes_below_its_end",),
    ),
    Mutant(
        "sequence: a rate set by hand sets that of a part with rates of its own",
        f"{SCHEDULES}/_sequential.py",
        "base if same else own * (base / before)",
        "base",
        (f"{TOGETHER}::test_a_rate_set_by_hand_scales_a_later_part_that_has_rates_of_its_own",),
    ),
    Mutant(
        "sequence: begins with what the parts have set",
        f"{SCHEDULES}/_sequential.py",
        "key=lambda part: part._made",
        "key=lambda part: 0",
        (f"{TOGETHER}::test_a_sequence_begins_with_the_rate_before_the_part_that_was_made_first",),
    ),
    Mutant(
        "optimizer: another option that changed with the rate is not seen",
        "python/onepass/optim/_planned.py",
        "for key in self._option_names if key != rate)",
        "for key in self._option_names if key == rate)",
        (f"{OPTIONS}::test_a_rate_and_another_option_that_change_together_are_both_seen",),
    ),
    Mutant(
        "optimizer: starts no longer follow options after a load",
        "python/onepass/optim/_optimizer.py",
        "        self._all_started = False\n",
        "",
        (f"{OPTIONS}::test_starts_that_follow_options_do_so_after_a_state_was_loaded",),
    ),
    Mutant(
        "optimizer: two threads prepare a step at once",
        "python/onepass/optim/_optimizer.py",
        'if held.setdefault("by", me) != me:',
        "if False:",
        (f"{FRONT}::test_what_another_thread_may_not_do_during_a_step",),
    ),
    Mutant(
        "rule: an option that a state starts at may be anything",
        "python/onepass/ops/_rule.py",
        "            self.start(owner, state, group)\n",
        "            pass\n",
        (f"{OPTIONS}::test_an_option_that_a_state_starts_at_is_checked",),
    ),
    Mutant(
        "rule: a new rate is not seen by a state that starts at it",
        "python/onepass/ops/_rule.py",
        "{*judged, *ignored.values(), *self._starts}",
        "{*judged, *ignored.values()}",
        (f"{OPTIONS}::test_a_state_starts_at_the_option_of_its_group",),
    ),
    Mutant(
        "ranges: the first range holds for all numbers of a tuple",
        "python/onepass/ops/_ranges.py",
        "if isinstance(limits, Range) else limits or ()",
        "if isinstance(limits, Range) else (limits or ())[:1] * count",
        (f"{OPTIONS}::test_each_number_of_a_tuple_may_have_its_own_range",),
    ),
    Mutant(
        "optimizer: a class may have other defaults than its function",
        "python/onepass/optim/_optimizer.py",
        "if (annotation, default) != (option.annotation, option.default):",
        "if annotation != option.annotation:",
        ("tests/test_missing.py::test_a_class_that_contradicts_its_function_is_refused",),
    ),
    Mutant(
        "groups: an option of another optimizer is kept and does nothing",
        "python/onepass/optim/_groups.py",
        "        if key in _options_of_all():",
        "        if False:",
        (f"{FRONT}::test_an_option_of_another_optimizer_in_a_group_is_refused",),
    ),
    Mutant(
        "optimizer: a frozen parameter moves where gradients are passed",
        "python/onepass/optim/_optimizer.py",
        "= self._without(frozen, given) if frozen else given",
        "= given",
        (f"{FROZEN}::test_frozen_between_backward_and_step",),
    ),
    Mutant(
        "optimizer: a state without its steps begins again at one",
        "python/onepass/optim/_optimizer.py",
        'counts = {"step"} if self._counts_steps(i) else set()',
        "counts = set()",
        (f"{LOADING}::test_a_state_that_lost_its_steps_does_not_begin_again_in_silence",),
    ),
    Mutant(
        "optimizer: a parameter exchanged in a group's list is not seen",
        "python/onepass/optim/_planned.py",
        "if new is not old",
        "if False",
        (f"{FRONT}::test_parameters_put_into_groups_by_hand_are_refused",),
    ),
    Mutant(
        "schedule: a group that joins at zero never gets a rate",
        f"{SCHEDULES}/_base.py",
        'base = float(groups[group].get("initial_lr", base))',
        "base = 0.0",
        (f"{TOGETHER}::test_a_group_that_joins_where_all_rates_are_zero_follows_with_its_own",),
    ),
    Mutant(
        "line search: the second point is compared with the first",
        "python/onepass/optim/_line_search.py",
        "further = left < most - 1",
        "further = left < most",
        (f"{LBFGS}::test_the_second_point_may_be_higher_than_the_first",),
    ),
    Mutant(
        "line search: another margin at the edge",
        "python/onepass/optim/_line_search.py",
        "margin = 0.1 *",
        "margin = 0.2 *",
        (f"{LBFGS}::test_searches_are_pytorchs",),
    ),
    Mutant(
        "SparseAdam: states share a buffer, beside which PyTorch writes",
        "python/onepass/optim/_sparse_adam.py",
        "new = [zeros_like(a, parameter_dtype(a)) for a in arrays[len(held) :]]",
        "new = follow(arrays[len(held) :], [], [0.0] * len(arrays))",
        ("tests/test_sparse_adam.py::test_states_begin_at_their_storage",),
    ),
    Mutant(
        "sparse gradients: a decay of the rows alone",
        "python/onepass/optim/_sparse_gradients.py",
        'if group["weight_decay"]:',
        "if False:",
        (
            "tests/test_torch_sparse.py::"
            "test_what_concerns_every_row_is_refused_beside_a_sparse_gradient",
        ),
    ),
    Mutant(
        "schedule-free: the turn of the modes moves what is frozen",
        "python/onepass/optim/_schedule_free.py",
        "_like(array, z) if step and not held else None)",
        "_like(array, z) if step else None)",
        (
            "tests/test_frozen.py::test_the_two_modes_of_a_schedule_free_optimizer_do_not_move_"
            "what_is_frozen",
        ),
    ),
    Mutant(
        "GradientDescent: a search never looks further than the last one went",
        "python/onepass/optim/full_batch/_descent.py",
        "return 2 * memory.t",
        "return memory.t",
        (
            "tests/test_full_batch_optimizers.py::"
            "test_gradient_descent_takes_the_steps_of_the_formula",
        ),
    ),
    Mutant(
        "Newton: differences of one side",
        "python/onepass/optim/full_batch/_newton.py",
        "return (above - below) / (2 * step)",
        "return (above - below) / step",
        ("tests/test_full_batch_optimizers.py::test_newton_takes_the_steps_of_the_formula",),
    ),
    Mutant(
        "Newton: a small curvature in the unit of the loss counts as none",
        "python/onepass/optim/full_batch/_newton.py",
        "math.sqrt(flat.dot(hp, hp))",
        "math.sqrt(flat.dot(p, p))",
        (
            "tests/test_full_batch_optimizers.py::"
            "test_newton_takes_one_step_whatever_the_unit_of_the_loss",
        ),
    ),
    Mutant(
        "riders: a class may take those that its rule refuses",
        "python/onepass/optim/_planned.py",
        "if refusal_of(cls._rule) is not None:",
        'if refusal_of(cls._rule) is not None and "_no_riders" not in vars(cls):',
        ("tests/test_rider_stages.py::test_a_class_cannot_take_riders_that_its_rule_refuses",),
    ),
    Mutant(
        "muon: a group that is refused changes what the others are",
        "python/onepass/optim/_muon.py",
        "        if not self._matrices:\n            self._matrices = kinds\n",
        "        self._matrices = kinds\n",
        ("tests/test_muon.py::test_a_group_that_is_refused_leaves_the_kinds_of_the_others",),
    ),
    Mutant(
        "optim: groups are compared as they are at several moments",
        "python/onepass/optim/_planned.py",
        "pairs = zip(self._groups_now() if now is None else now, self._lists, strict=True)",
        "pairs = zip(self.param_groups, self._lists, strict=True)",
        ("tests/test_optimizer_threads.py::test_groups_that_come_and_go_while_they_are_compared",),
    ),
]
