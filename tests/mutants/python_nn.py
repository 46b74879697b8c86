"""Planted mistakes in python/onepass/nn: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/nn"
CUT_OFF = "tests/test_cut_off.py"
ABSENT = "tests/test_absent_gradients.py"
FACTS_EDITS = "tests/test_facts_edits.py"
FROZEN = "tests/test_frozen.py"
GRADCHECK = "tests/test_gradcheck.py"
IN_THREADS = "tests/test_model_threads.py"
MODES = "tests/test_layer_modes.py"
MODULE_EDITING = "tests/test_module_editing.py"
MODULE_STATE = "tests/test_module_state.py"
RESUME = "tests/test_resume_counters.py"
SCOPES = "tests/test_random_scopes.py"
TRAINER_THREADS = "tests/test_trainer_threads.py"

NN = [
    Mutant(
        "evaluate: always leaves the model in training mode",
        f"{FOLDER}/_use.py",
        "module.training = before[0]",
        "module.training = True",
        (f"{RESUME}::test_reading_a_model_leaves_its_mode",),
    ),
    Mutant(
        "threads: the first reader to leave ends evaluation mode for all",
        f"{FOLDER}/_use.py",
        "if any(other.trains == entry.trains and other is not entry for other in use.entries):",
        "if any(other.thread == entry.thread and other is not entry for other in use.entries):",
        (f"{TRAINER_THREADS}::test_predict_from_many_threads_at_once",),
    ),
    Mutant(
        "parameter: a gradient that somebody holds is written to",
        "python/onepass/_parameter.py",
        "free = getrefcount(self._spare) == 2",
        "free = True",
        (f"{ABSENT}::test_a_gradient_that_the_user_kept_is_never_overwritten",),
    ),
    Mutant(
        "modules: threads share what forward saved in evaluation",
        f"{FOLDER}/_saved.py",
        "class _OfThread(local):",
        "class _OfThread:",
        (IN_THREADS,),
    ),
    Mutant(
        "modules: a product that another pass needs is written to",
        f"{FOLDER}/_saved.py",
        "return self.trained if getrefcount(self.trained) == 2 else None",
        "return self.trained",
        (f"{IN_THREADS}::test_a_layer_that_trains_in_a_model_that_does_not",),
    ),
    Mutant(
        "modules: backward of a thread whose values another thread replaced",
        f"{FOLDER}/_saved.py",
        "            self.displaced.add(self.thread)\n",
        "            pass\n",
        (f"{IN_THREADS}::test_interleaved_training_is_refused",),
    ),
    Mutant(
        "residual: values of a side in another mode are lost",
        f"{FOLDER}/_residual.py",
        "return [saved for s in sides if s.training != training for saved in s._all_saved()]",
        "return []",
        (f"{IN_THREADS}::test_an_evaluation_between_forward_and_backward_changes_nothing",),
    ),
    Mutant(
        "trainer: a layer's own eval() is forgotten",
        f"{FOLDER}/_use.py",
        "module._holds_eval = hold",
        "pass",
        (f"{MODES}::test_a_layers_own_eval_outlives_every_call",),
    ),
    Mutant(
        "batch renorm: later limits are ignored",
        f"{FOLDER}/_batch_renorm.py",
        'own_options = ("rmax", "dmax")',
        "own_options = ()",
        ("tests/test_batch_renorm.py::test_limits_may_change_between_calls_and_are_checked",),
    ),
    Mutant(
        "batch norm: frozen statistics follow the batch",
        f"{FOLDER}/_channel_norm.py",
        ' and not read(self, "statistics_frozen")',
        "",
        (f"{FROZEN}::test_freeze_without_statistics_and_unfreeze",),
    ),
    Mutant(
        "use: a fit leaves its model to the thread that trained it last",
        f"{FOLDER}/_use.py",
        "module._saved.take_over(entry.thread)",
        "pass",
        (
            f"{TRAINER_THREADS}::test_a_model_that_another_thread_trained_last_is_the_fits_before_its_first_step_too",
        ),
    ),
    Mutant(
        "use: any thread may switch the modes of a fit",
        f"{FOLDER}/_module.py",
        '        refuse_change(self, "train" if training else "eval", trains=training)\n',
        "",
        (
            f"{TRAINER_THREADS}::test_a_model_used_directly_by_another_thread_between_two_calls_of_a_fit",
        ),
    ),
    Mutant(
        "use: any thread may call a model between two calls of a fit",
        f"{FOLDER}/_saved.py",
        "        refuse_change(module, type(module).__name__)\n",
        "",
        (
            f"{TRAINER_THREADS}::test_a_model_used_directly_by_another_thread_between_two_calls_of_a_fit",
        ),
    ),
    Mutant(
        "use: a mode set by hand in a hook is forgotten",
        f"{FOLDER}/_use.py",
        "if module._holds_eval != before[1]:",
        "if False:",
        ("tests/test_layer_modes.py",),
    ),
    Mutant(
        "gradcheck: one side of a kink is taken for the derivative",
        f"{FOLDER}/_gradcheck.py",
        "np.minimum(above, below).sum(), np.maximum(above, below).sum()",
        "above.sum(), above.sum()",
        (f"{GRADCHECK}::test_kinks_are_no_mistakes",),
    ),
    Mutant(
        "gradcheck: dropout draws another mask each time",
        f"{FOLDER}/_gradcheck.py",
        "        self._begin_masks()\n        for part",
        "        for part",
        (
            f"{GRADCHECK}::test_the_other_modules_pass",
            f"{GRADCHECK}::test_residuals_and_nested_models_pass",
        ),
    ),
    Mutant(
        "gradcheck: statistics go on from call to call",
        f"{FOLDER}/_gradcheck.py",
        "getattr(part, name)[...] = value",
        "pass",
        (f"{GRADCHECK}::test_statistics_that_move_with_each_call_start_from_the_same_each_time",),
    ),
    Mutant(
        "gradcheck: frozen parameters are checked",
        f"{FOLDER}/_gradcheck.py",
        "            if parameter.requires_grad:\n",
        "            if True:\n",
        (f"{GRADCHECK}::test_frozen_parameters_are_not_checked",),
    ),
    Mutant(
        "gradcheck: the first wrong element is named, not the worst",
        f"{FOLDER}/_gradcheck.py",
        "if not error <= worst[at_kink]:",
        "if not error <= 1.0 and not messages[at_kink]:",
        (f"{GRADCHECK}::test_the_worst_of_several_wrong_elements_is_named",),
    ),
    Mutant(
        "gradcheck: a large parameter is checked in a sample whatever was asked",
        f"{FOLDER}/_gradcheck.py",
        "if self.samples is None or size <= self.samples:",
        "if size <= (self.samples or 200):",
        (
            f"{GRADCHECK}::test_a_mistake_in_a_large_parameter_is_found_where_all_elements_are_checked",
        ),
    ),
    Mutant(
        "gradcheck: a missing gradient is right",
        f"{FOLDER}/_gradcheck.py",
        "            if parameter.requires_grad:\n",
        "            if parameter.requires_grad and parameter.grad is not None:\n",
        (f"{GRADCHECK}::test_missing_and_misshapen_gradients",),
    ),
    Mutant(
        "gradcheck: masks of the user's model move on",
        f"{FOLDER}/_gradcheck.py",
        "        put_back()\n",
        "        pass\n",
        (f"{GRADCHECK}::test_the_generator_of_initialisation_is_put_back",),
    ),
    Mutant(
        "facts: a patched class is not seen",
        f"{FOLDER}/_facts.py",
        "if getter(kind) != functions:",
        "if False:",
        (f"{FACTS_EDITS}::test_a_patched_class_is_seen",),
    ),
    Mutant(
        "facts: an edit of a module is not counted",
        f"{FOLDER}/_module.py",
        "        if name not in NOT_COUNTED:\n            edits.count += 1\n",
        "",
        (f"{FACTS_EDITS}::test_an_edit_of_a_module_is_seen_at_the_next_call",),
    ),
    Mutant(
        "facts: a deleted method is not counted",
        f"{FOLDER}/_module.py",
        "        super().__delattr__(name)\n        edits.count += 1\n",
        "        super().__delattr__(name)\n",
        (f"{FACTS_EDITS}::test_a_deleted_method_of_a_layer_is_seen",),
    ),
    Mutant(
        "state: numbers beyond the dtype become inf",
        "python/onepass/_array.py",
        "wrong = lib.isfinite(source) & ~lib.isfinite(result)",
        "wrong = lib.isnan(source) & ~lib.isnan(result)",
        (f"{MODULE_STATE}::test_values_that_would_be_lost_in_a_state_are_refused",),
    ),
    Mutant(
        "state: half a batch is rounded",
        f"{FOLDER}/_state_dict.py",
        "wrong = (result != source) | (result < 0)",
        "wrong = result < 0",
        (f"{MODULE_STATE}::test_values_that_would_be_lost_in_a_state_are_refused",),
    ),
    Mutant(
        "frozen statistics are given back by early stopping",
        f"{FOLDER}/_state_dict.py",
        "for name in module.buffer_names if module.statistics_frozen else ():",
        "for name in ():",
        (f"{FROZEN}::test_early_stopping_does_not_move_statistics_that_were_frozen_later",),
    ),
    Mutant(
        "layers: a slice with a step takes any number",
        f"{FOLDER}/_module_list.py",
        "if place.step not in (None, 1) and len(new) != old:",
        "if False:",
        (f"{MODULE_EDITING}::test_an_edit_that_cannot_be_is_told_and_changes_nothing",),
    ),
    Mutant(
        "a Parameter of two models is trained in two threads",
        f"{FOLDER}/_use.py",
        "while _waits((*found, *shared_found), entry):",
        "while _waits(tuple(found), entry):",
        (
            f"{TRAINER_THREADS}::"
            "test_models_that_share_a_parameter_are_trained_one_at_a_time[on_before_step-fit]",
        ),
    ),
    Mutant(
        "gradcheck: kinks that meet are wrong gradients",
        f"{FOLDER}/_gradcheck.py",
        "bool(high - low > 2 * allowed)",
        "False",
        (f"{GRADCHECK}::test_a_constant_x_behind_a_batch_norm_is_no_mistake[ReLU-1-x0-True]",),
    ),
    Mutant(
        "gradcheck: a backward may replace the gradients",
        f"{FOLDER}/_gradcheck.py",
        "        self._adds(dy)\n",
        "",
        (f"{GRADCHECK}::test_a_backward_that_does_not_add_to_the_gradients_is_told",),
    ),
    Mutant(
        "Ctrl-C before the end of a block has begun leaves it out",
        "python/onepass/_interruptions.py",
        "        if not begun:  # an interruption came before it had begun\n            work()\n",
        "        pass\n",
        (f"{CUT_OFF}::test_the_end_of_a_block_is_done_wherever_ctrl_c_comes",),
    ),
    Mutant(
        "an interruption is let through with half of a load done",
        "python/onepass/_interruptions.py",
        "            if not left or not interrupts(error):\n",
        "            if True:\n",
        (f"{CUT_OFF}::test_a_model_is_whole_after_a_load_that_ctrl_c_cuts",),
    ),
    Mutant(
        "a step takes a gradient that another thread's backward has half added to",
        "python/onepass/_turns.py",
        "if thread not in (0, me) and self._adds(thread, parameter):",
        "if False:",
        (
            "tests/test_shared_parameters.py::"
            "test_a_step_while_another_threads_backward_is_half_done_is_refused",
        ),
    ),
    Mutant(
        "a thread steps though another one took its gradient",
        "python/onepass/_turns.py",
        "            if writers is not None and me in writers.lost:",
        "            if False:",
        (
            "tests/test_shared_parameters.py::"
            "test_a_thread_whose_gradient_another_one_took_does_not_step",
        ),
    ),
    Mutant(
        "the backward of a layer by itself is not noted",
        f"{FOLDER}/_module.py",
        "        if isinstance(backward, FunctionType):",
        "        if isinstance(backward, FunctionType) and not is_bypassable(backward):",
        ("tests/test_shared_parameters.py::test_a_layer_by_itself_in_two_threads_is_told",),
    ),
    Mutant(
        "a thread whose backward was cut in the middle goes on with the rest",
        "python/onepass/_turns.py",
        "NEVER if self._adds(thread, parameter) else when",
        "when",
        ("tests/test_shared_parameters.py::test_a_gradient_zeroed_within_a_backward_is_lost",),
    ),
    Mutant(
        "a forked child keeps what other threads were in",
        "python/onepass/_turns.py",
        "after_fork(turns.forget_others)",
        "pass",
        ("tests/test_forked_children.py::test_a_step_beside_another_threads_backward",),
    ),
    Mutant(
        "a forked child keeps the models of other threads' calls",
        f"{FOLDER}/_use.py",
        "[entry for entry in use.entries if entry.thread == thread]",
        "list(use.entries)",
        ("tests/test_forked_children.py::test_a_trainer_that_another_thread_uses",),
    ),
    Mutant(
        "an error of the work itself is taken for an interruption",
        "python/onepass/_interruptions.py",
        "        if not isinstance(error, Exception) or _from_handler(error.__traceback__):\n",
        "        if True:\n",
        (f"{CUT_OFF}::test_work_that_fails_by_itself_is_run_once",),
    ),
    Mutant(
        "what a signal's handler raises is taken for an error of the work",
        "python/onepass/_interruptions.py",
        "value is caller or",
        "False or",
        (f"{CUT_OFF}::test_an_error_from_a_handler_is_an_interruption",),
    ),
    Mutant(
        "a call beside an evaluation with averages reads them",
        f"{FOLDER}/_module.py",
        "                refuse_swapped(self, type(self).__name__, before)",
        "                pass",
        (
            "tests/test_trainer_averages.py::"
            "test_a_call_that_began_before_an_evaluation_with_averages_does_not_end_with_them",
        ),
    ),
    Mutant(
        "modules in a view of a dict are not seen",
        f"{FOLDER}/_module.py",
        "if isinstance(value, MappingView):",
        "if False:",
        (f"{MODULE_EDITING}::test_modules_in_any_container_are_refused",),
    ),
    Mutant(
        "convolution: a piece overwrites the rows that it shares",
        f"{FOLDER}/_convolution.py",
        "            to += part",
        "            to[...] = part",
        ("tests/test_conv.py::test_an_image_larger_than_a_piece_is_done_by_rows",),
    ),
    Mutant(
        "images: a mask follows the memory, not the elements",
        f"{FOLDER}/_batch_norm.py",
        "mask = take_mask(options) if last else None",
        "mask = None",
        ("tests/test_conv.py::test_both_orders_have_the_same_masks",),
    ),
    Mutant(
        "init.apply: groups of a convolution count as one",
        f"{FOLDER}/_init_values.py",
        "rows = shape[0] // groups",
        "rows, groups = shape[0], 1",
        ("tests/test_init_apply.py::test_a_grouped_convolution_is_so_many_convolutions",),
    ),
    Mutant(
        "init.apply: layers are met in the order of a call",
        f"{FOLDER}/_init_walk.py",
        "for child in reversed(children):",
        "for child in children:",
        ("tests/test_init_apply.py::test_auto_goes_by_the_activation",),
    ),
    Mutant(
        "fold_batch_norm: sequences in modules of one's own are folded",
        f"{FOLDER}/_fold.py",
        "for chain in list(_chains(copy)):",
        "for chain in [m for m in copy.modules() if _is_chain(m)]:",
        ("tests/test_fold.py::test_norms_that_cannot_be_merged_stay",),
    ),
    Mutant(
        "update_batch_norm: batches count as one another, whatever their size",
        f"{FOLDER}/_statistics.py",
        "        count += size",
        "        size = 1\n        count += size",
        ("tests/test_update_batch_norm.py::test_a_batch_counts_by_its_samples",),
    ),
    Mutant(
        "update_batch_norm: a BatchRenorm stays near statistics of zero",
        f"{FOLDER}/_statistics.py",
        "norm.rmax, norm.dmax = 1.0, 0.0",
        "pass",
        (
            "tests/test_update_batch_norm.py::test_dropout_does_not_drop_and_norms_before_use_the_batch",
        ),
    ),
    Mutant(
        "residual: its first norm writes to the caller's gradient",
        f"{FOLDER}/_batch_norm.py",
        "onto.residual is not None and lies_channels_last",
        "lies_channels_last",
        ("tests/test_fusion.py::test_the_first_batch_norm_adds_the_gradient_of_the_block",),
    ),
    Mutant(
        "linear: the gradient of a 16-bit x stays in float32",
        f"{FOLDER}/_linear.py",
        "dx.astype(dtype) if narrow else dx",
        "dx",
        ("tests/test_16_bits.py::test_a_layer_has_the_bits_of_float32_rounded_once",),
    ),
    Mutant(
        "random numbers: a training seeds the process",
        f"{FOLDER}/_random.py",
        "with _inside(_Scope(_State(seed), _scope.get().epoch)):\n        yield",
        "manual_seed(seed)\n    yield",
        (
            "tests/test_cross_validation.py::test_masks_of_other_models_go_on_during_a_build",
            f"{SCOPES}::test_another_thread_that_seeds_and_draws_changes_nothing",
        ),
    ),
    Mutant(
        "random numbers: another thread's seed moves the masks of a fit",
        f"{FOLDER}/_random.py",
        "    here = _Scope(outside.state, outside.epoch)",
        "    here = outside",
        (f"{SCOPES}::test_a_fit_keeps_its_masks_when_another_thread_seeds",),
    ),
    Mutant(
        "random numbers: what is drawn apart rewinds the process",
        f"{FOLDER}/_random.py",
        "_inside(_Scope(here.state.copy(), here.epoch))",
        "_inside(here)",
        (f"{SCOPES}::test_numbers_drawn_for_a_check_come_again",),
    ),
    Mutant(
        "dropout: a row of a mask has one element",
        f"{FOLDER}/_random.py",
        "return self.row and self.row * prod(shape[1:])",
        "return self.row",
        ("tests/test_dropout_rows.py::test_a_model_at_a_place_drops_what_the_whole_batch_would",),
    ),
    Mutant(
        "dropout of maps: rows are counted in elements",
        f"{FOLDER}/_dropout.py",
        "        return self.stream.row\n",
        "        return self.stream.first(shape)\n",
        ("tests/test_dropout_rows.py::test_a_model_at_a_place_drops_what_the_whole_batch_would",),
    ),
    Mutant(
        "synchronised batch norm: a copy keeps the communicator",
        f"{FOLDER}/_batch_norm.py",
        'state.pop("_comm", None)',
        "None",
        (
            "tests/test_sync_batch_norm.py::"
            "test_conversion_leaves_the_model_as_it_is_but_for_the_norms",
        ),
    ),
]
