"""Planted mistakes in python/onepass/train: fits, steps, what comes of them: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/train"
ATTRIBUTES = "tests/test_trainer_attributes.py"
ABORTS = "tests/test_trainer_aborts.py"
BLAS_THREADS = "tests/test_blas_threads.py"
ESTIMATORS = "tests/test_sklearn_threads.py"
FINDER = "tests/test_lr_finder.py"
FULL_BATCH = "tests/test_full_batch.py"
HOOKS = "tests/test_hooks_of_a_fit.py"
MEMORY_OF_FITS = "tests/test_callback_memory.py"
REGULARIZERS = "tests/test_regularizers.py"
RESUME = "tests/test_resume_counters.py"
RESUME_DIFFERENCES = "tests/test_resume_differences.py"
SCHEDULED = "tests/test_trainer_schedule.py"
TRAINER_ATTRIBUTES = "tests/test_trainer_attributes.py"
TRAINER_COPIES = "tests/test_trainer_copies.py"
TRAINER_LOG = "tests/test_trainer_log.py"
TRAINER_NUMBERS = "tests/test_trainer_numbers.py"
TRAINER_SURPRISES = "tests/test_trainer_surprises.py"
TRAINER_THREADS = "tests/test_trainer_threads.py"

TRAIN = [
    Mutant(
        "checkpoint: no skipped_steps",
        f"{FOLDER}/_saving.py",
        '"position", "skipped_steps", "stop"',
        '"position", "stop"',
        (f"{RESUME}::test_skipped_steps_are_counted_over_a_resume",),
    ),
    Mutant(
        "fit: a resume with nothing left is silent",
        f"{FOLDER}/_trainer.py",
        "if run.epoch >= max_epochs and not (failed and parts is None):",
        "if False:",
        ("tests/test_trainer_again.py::test_a_resume_with_nothing_left_says_so_too[load]",),
    ),
    Mutant(
        "ReduceLROnPlateau: reads the training loss though there is validation",
        f"{FOLDER}/_schedule.py",
        'run.scheduler.step(row.get("val_loss", row["loss"]))',
        'run.scheduler.step(row["loss"])',
        (f"{RESUME}::test_a_plateau_schedule_reads_the_validation_loss",),
    ),
    Mutant(
        "threads: a fit may begin while another thread predicts",
        "python/onepass/nn/_use.py",
        "(other.trains or entry.trains)",
        "other.trains",
        (f"{TRAINER_THREADS}::test_a_fit_while_another_thread_predicts",),
    ),
    Mutant(
        "callbacks: another training does not reset them",
        f"{FOLDER}/_training.py",
        "                callback.reset()\n",
        "",
        (f"{MEMORY_OF_FITS}::test_the_second_model_ends_with_its_own_best_weights",),
    ),
    Mutant(
        "callbacks: two fits at once may use one",
        f"{FOLDER}/_training.py",
        "other is not training and other.fitting",
        "other is not training and False",
        (f"{MEMORY_OF_FITS}::test_a_callback_in_two_fits_at_once_is_refused",),
    ),
    Mutant(
        "checkpoint: no logged numbers",
        f"{FOLDER}/_saving.py",
        '"data", "logged")',
        '"data")',
        (f"{TRAINER_LOG}::test_logged_numbers_survive_a_resume",),
    ),
    Mutant(
        "checkpoint: the last step's norm is not in the average",
        f"{FOLDER}/_run.py",
        "            self.read_norm()\n            return _store",
        "            return _store",
        (f"{TRAINER_LOG}::test_logged_numbers_survive_a_resume",),
    ),
    Mutant(
        "loop: a failed step's masks do not come again",
        f"{FOLDER}/_buffers.py",
        "stream.set(*mask)",
        "stream.peek()",
        (f"{ABORTS}::test_no_batch_is_lost_when_a_hook_fails_before_the_step",),
    ),
    Mutant(
        "loop: the batches of a failed step are lost",
        f"{FOLDER}/_run.py",
        "        _, self.position, sums, self.logged,",
        "        _, _, sums, self.logged,",
        (f"{ABORTS}::test_no_batch_is_lost_when_a_hook_fails_before_the_step",),
    ),
    Mutant(
        "loop: Ctrl-C before a step leaves it undone",
        f"{FOLDER}/_loop.py",
        'self._call("on_before_step", waits=True)',
        'self._call("on_before_step")',
        (f"{ABORTS}::test_ctrl_c_before_a_step_lets_the_step_end",),
    ),
    Mutant(
        "copies: one made by a hook is inside a fit for ever",
        f"{FOLDER}/_run.py",
        'return {**vars(self), "fitting": False}',
        "return {**vars(self)}",
        (f"{TRAINER_COPIES}::test_a_copy_made_in_the_middle_of_an_epoch",),
    ),
    Mutant(
        "find_lr: gradients are forgotten",
        f"{FOLDER}/_unchanged.py",
        "parameter.grad = array",
        "parameter.grad = None",
        (f"{FINDER}::test_everything_is_as_before_also_after_an_error",),
    ),
    Mutant(
        "loop: accumulated batches count alike",
        "python/onepass/train/_loop.py",
        "weight = divisor / self._first_divisor if self._first_divisor else 0.0",
        "weight = 1.0",
        (f"{TRAINER_NUMBERS}::test_accumulated_batches_step_as_one_batch_of_all",),
    ),
    Mutant(
        "weights: those of samples are normalised without those of classes",
        "python/onepass/train/_weights.py",
        "* to_numpy(counted)).sum())",
        ").sum())",
        (f"{TRAINER_NUMBERS}::test_sample_weights_weigh_loss_and_gradient",),
    ),
    Mutant(
        "resume: another accumulate is not noticed",
        f"{FOLDER}/_resume.py",
        'OF_RUN = ("accumulate", "max_norm"',
        'OF_RUN = ("max_norm"',
        (f"{RESUME}::test_another_accumulate_is_told_by_a_resume",),
    ),
    Mutant(
        "validation: drops its last batch",
        f"{FOLDER}/_loaders.py",
        'return to_read("validation_data", pair[0], pair[1], 256)',
        "return DataLoader(*pair, 256, drop_last=len(pair[0]) > 256)",
        (f"{RESUME}::test_validation_counts_every_sample_of_three_hundred",),
    ),
    Mutant(
        "trainer: a schedule of another optimizer is taken",
        f"{FOLDER}/_schedule.py",
        'getattr(scheduler, "optimizer", optimizer) is not optimizer',
        'getattr(scheduler, "optimizer", optimizer) is None',
        (f"{SCHEDULED}::test_a_schedule_of_another_optimizer_is_refused",),
    ),
    Mutant(
        "trainer: a resume inside an epoch counts its steps twice",
        f"{FOLDER}/_schedule.py",
        ' - (position // run.accumulate) * (unit == "steps")',
        "",
        (f"{SCHEDULED}::test_a_resume_inside_an_epoch_needs_no_more_steps",),
    ),
    Mutant(
        "BLAS: one training with large products gets one thread beside a small one",
        f"{FOLDER}/_blas.py",
        "limit = bool(self.single) or (bool(self.small) and not self.large)",
        "limit = bool(self.small)",
        (f"{BLAS_THREADS}::test_trainings_at_the_same_time_agree",),
    ),
    Mutant(
        "BLAS: a number chosen meanwhile is overwritten",
        f"{FOLDER}/_blas.py",
        "library in self.before and count == 1:",
        "library in self.before:",
        (f"{BLAS_THREADS}::test_a_number_chosen_in_between_is_kept",),
    ),
    Mutant(
        "BLAS: threads are not given back after an error",
        f"{FOLDER}/_blas.py",
        "        yield\n    finally:\n        _users.end(training)\n",
        "        yield\n        _users.end(training)\n    finally:\n        pass\n",
        (f"{BLAS_THREADS}::test_an_exception_gives_the_threads_back",),
    ),
    Mutant(
        "BLAS: threadpoolctl takes numbers from the first thread alone for good",
        f"{FOLDER}/_blas_library.py",
        "with limits.limit(limits=None):",
        "if True:",
        (f"{ESTIMATORS}::test_cross_validation_in_threads_has_the_scores_of_one",),
    ),
    Mutant(
        "BLAS: other threads set numbers while a seeded fit runs",
        f"{FOLDER}/_blas.py",
        "if held and get_ident() not in self.single.values():",
        "if held:",
        (f"{ESTIMATORS}::test_a_limit_that_another_thread_begins_meanwhile_changes_nothing",),
    ),
    Mutant(
        "BLAS: a number that another thread has set is not looked for",
        f"{FOLDER}/_blas.py",
        "            self.disturbed.update(self.single)\n",
        "            pass\n",
        (f"{ESTIMATORS}::test_a_limit_that_ends_meanwhile_is_told",),
    ),
    Mutant(
        "BLAS: the one thread that a limit has left stays",
        f"{FOLDER}/_blas_library.py",
        "usual is not None and usual != 1 == count:",
        "False:",
        (f"{ESTIMATORS}::test_what_such_a_limit_has_left_is_undone",),
    ),
    Mutant(
        "BLAS: a limit in force is taken for one that has left its number",
        f"{FOLDER}/_blas_library.py",
        "                self._numbers[library] = 1  #",
        "                pass  #",
        (f"{ESTIMATORS}::test_a_limit_in_force_is_kept",),
    ),
    Mutant(
        "scikit-learn: BLAS keeps its threads with a random_state",
        "python/onepass/sklearn/_estimator.py",
        "if self.random_state is None or _env",
        "if True or _env",
        (f"{ESTIMATORS}::test_without_a_random_state_or_with_the_switch_they_stay",),
    ),
    Mutant(
        "BLAS: positions of a sequence do not count",
        f"{FOLDER}/_blas.py",
        "batch_size * places * max",
        "batch_size * max",
        (f"{BLAS_THREADS}::test_positions_of_a_sequence_count_as_rows_of_the_product",),
    ),
    Mutant(
        "BLAS: the switch is not read",
        f"{FOLDER}/_blas.py",
        "None if _environment.keeps_blas_threads() else product(model, loader)",
        "product(model, loader)",
        (f"{BLAS_THREADS}::test_the_switch_leaves_the_threads_alone",),
    ),
    Mutant(
        "predict: in the order of a shuffled loader",
        f"{FOLDER}/_loaders.py",
        "return DataLoader(X.X, batch_size=X.batch_size)",
        "return DataLoader(X.X, None, X.batch_size, X.shuffle, seed=X.seed)",
        (f"{TRAINER_SURPRISES}::test_a_loader_with_weights_can_be_evaluated_and_predicted",),
    ),
    Mutant(
        "transform: places in the training part",
        "python/onepass/data/_shares.py",
        "index=places[index]",
        "index=index",
        (
            f"{TRAINER_SURPRISES}::test_a_transform_gets_places_in_the_users_data_also_beside_a_split",
        ),
    ),
    Mutant(
        "history: a link is replaced by the table",
        "python/onepass/_files.py",
        "    target = path.resolve()\n",
        "    target = path\n",
        (
            f"{TRAINER_SURPRISES}::test_a_csv_log_writes_into_pipes_and_through_links_and_keeps_modes",
        ),
    ),
    Mutant(
        "history: the table's permissions are lost",
        "python/onepass/_files.py",
        "                partial.chmod(stat.S_IMODE(target.stat().st_mode))\n",
        "                pass\n",
        (
            f"{TRAINER_SURPRISES}::test_a_csv_log_writes_into_pipes_and_through_links_and_keeps_modes",
        ),
    ),
    Mutant(
        "settings: accumulate may be 0",
        f"{FOLDER}/_settings.py",
        '"Trainer", "accumulate", value, 1)',
        '"Trainer", "accumulate", value, 0)',
        (f"{TRAINER_ATTRIBUTES}::test_nonsense_in_an_attribute_is_refused_where_it_is_set",),
    ),
    Mutant(
        "settings: what was put into a list is not looked at again",
        f"{FOLDER}/_trainer.py",
        "            _settings.check_again(run)\n",
        "",
        (f"{TRAINER_ATTRIBUTES}::test_nonsense_put_into_a_list_of_the_trainer_is_refused_by_fit",),
    ),
    Mutant(
        "settings: a Checkpoint saves before the others",
        f"{FOLDER}/_settings.py",
        "key=lambda callback: isinstance(callback, Checkpoint)",
        "key=lambda callback: False",
        (f"{TRAINER_ATTRIBUTES}::test_what_is_set_counts_as_if_it_had_been_given",),
    ),
    Mutant(
        "resume: another loss is not noticed",
        f"{FOLDER}/_resume.py",
        'return {"loss": loss_of(run.loss), "interval"',
        'return {"loss": "", "interval"',
        (f"{RESUME_DIFFERENCES}::test_a_resume_with_another_loss_is_refused",),
    ),
    Mutant(
        "resume: other validation data are not noticed",
        f"{FOLDER}/_resume.py",
        '        "validation": fingerprint(validation),\n',
        "",
        (
            f"{RESUME_DIFFERENCES}::test_a_resume_made_otherwise_is_told_between_epochs_and_refused_inside_one",
        ),
    ),
    Mutant(
        "fit: a step that an interruption has cut in two goes on",
        f"{FOLDER}/_loop.py",
        '        counts["torn"] = True\n',
        '        counts["torn"] = False\n',
        (f"{ABORTS}::test_interruptions_at_once_are_seen_inside_steps",),
    ),
    Mutant(
        "fit: a program's own handler of Ctrl-C is called at once",
        f"{FOLDER}/_interrupt.py",
        "main_thread() and callable(own):",
        "main_thread() and own is signal.default_int_handler:",
        (f"{ABORTS}::test_a_programs_own_handler_of_ctrl_c_is_called_between_two_steps",),
    ),
    Mutant(
        "fit: a hook that calls eval() has the rest of the epoch in evaluation mode",
        f"{FOLDER}/_loop.py",
        "if not run.model.training:",
        "if False:",
        (f"{ATTRIBUTES}::test_a_hook_that_forgets_train_after_eval_changes_nothing",),
    ),
    Mutant(
        "fit: a loss set by a hook does not reach weighted samples",
        f"{FOLDER}/_loop.py",
        "if self._has_weights:",
        "if self._has_weights and not self._begun:",
        (f"{ATTRIBUTES}::test_a_loss_that_a_hook_sets_is_the_loss_from_then_on",),
    ),
    Mutant(
        "fit: a hook may set an optimizer that the schedule does not follow",
        f"{FOLDER}/_loop.py",
        "        _schedule.of_optimizer(run.scheduler, run.optimizer)\n",
        "",
        (f"{ATTRIBUTES}::test_a_hook_cannot_set_parts_that_would_train_nothing",),
    ),
    Mutant(
        "class_weight: an ignored label is a class",
        f"{FOLDER}/_weights.py",
        "known = known if ignored is None else known[known != ignored]",
        "pass",
        ("tests/test_whole_epochs.py::test_an_ignored_label_is_no_class_that_needs_a_weight",),
    ),
    Mutant(
        "resume: nothing is said of layers that are no longer frozen",
        f"{FOLDER}/_resume.py",
        "* bool(moving)",
        "* 0",
        ("tests/test_frozen.py::test_a_resume_says_that_a_layer_which_was_frozen_will_move",),
    ),
    Mutant(
        "a callback that a hook puts into the list does not begin",
        f"{FOLDER}/_loop.py",
        "        if self.run.callbacks != self._callbacks:",
        "        if False:",
        (f"{HOOKS}::test_a_callback_put_into_the_list_in_a_hook_begins_with_on_fit_begin",),
    ),
    Mutant(
        "a fit in a hook keeps Ctrl-C from the outer fit",
        f"{FOLDER}/_interrupt.py",
        "        for fit in self._fits():\n            fit.requested = True",
        "        self.requested = True",
        (f"{HOOKS}::test_ctrl_c_in_a_fit_within_a_fit_ends_both_between_two_steps",),
    ),
    Mutant(
        "a hook that SIGTERM cuts counts as whole",
        f"{FOLDER}/_loop.py",
        "self.run.torn |= self._interrupt.cuts != cuts",
        "pass",
        (
            "tests/test_cut_off.py::"
            "test_a_hook_cut_by_the_handler_of_another_signal_is_told_as_ctrl_c_is",
        ),
    ),
    Mutant(
        "load_weights leaves the averages of the training before",
        f"{FOLDER}/_saving.py",
        "            renewals.note(model.parameters())\n",
        "",
        (
            "tests/test_trainer_averages.py::"
            "test_after_load_weights_the_loaded_weights_are_evaluated",
        ),
    ),
    Mutant(
        "regularizers: a penalty of parameters counts less where a step accumulates",
        f"{FOLDER}/regularizers/_base.py",
        "factor = self.weight * run.grad_scale",
        "factor = self.weight",
        (f"{REGULARIZERS}::test_the_gradient_is_that_of_the_value_in_the_history",),
    ),
    Mutant(
        "Jacobian: the two sides have masks of dropout of their own",
        f"{FOLDER}/regularizers/_jacobian.py",
        "start.again()\n        above",
        "start.buffers.put_back()\n        above",
        (f"{REGULARIZERS}::test_the_gradient_is_that_of_the_value_in_the_history",),
    ),
    Mutant(
        "ActivationSparsity: the backward of another regularizer is penalised too",
        f"{FOLDER}/regularizers/_activity.py",
        "self._output, self.factor = None, 0.0",
        "self._output = None",
        (f"{REGULARIZERS}::test_two_regularizers_of_activations_do_not_disturb_each_other",),
    ),
    Mutant(
        "a resume with other regularizers says nothing",
        f"{FOLDER}/_resume.py",
        """        "regularizers": [text_of_kind(type(r), r) for r in run.regularizers],\n""",
        "",
        (f"{REGULARIZERS}::test_a_resume_with_other_penalties_is_told",),
    ),
    Mutant(
        "full batch: later evaluations of a step draw other directions for the Jacobian",
        f"{FOLDER}/_loop.py",
        'counts["position"], self._penalties.silent = kept[0] - 1, True',
        'counts["position"], self._penalties.silent = kept[0], True',
        (f"{FULL_BATCH}::test_an_evaluation_where_the_step_began_gives_the_same_bits",),
    ),
    Mutant(
        "full batch: later evaluations of a step have other masks",
        f"{FOLDER}/_loop.py",
        "        self._start.again()\n        self._begin_step()",
        "        self._begin_step()",
        (f"{FULL_BATCH}::test_every_evaluation_has_the_masks_and_statistics_of_the_first",),
    ),
    Mutant(
        "fit: bytes are validated by a model that trains on what a transform made of them",
        "python/onepass/train/_checks.py",
        "alike = given == expected and is_floating(X) and is_floating(trains)",
        "alike = given == expected",
        (
            "tests/test_rescaling.py"
            "::test_a_transform_that_scales_is_not_enough_and_says_so_before_training",
        ),
    ),
]
