"""Planted mistakes in python/onepass/train: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/train"
ATTRIBUTES = "tests/test_trainer_attributes.py"
ABORTS = "tests/test_trainer_aborts.py"
BLAS_THREADS = "tests/test_blas_threads.py"
CROSS = "tests/test_cross_validation.py"
CSV_LOGGER = "tests/test_csv_logger.py"
DIAGNOSIS = "tests/test_diagnosis.py"
FINDER = "tests/test_lr_finder.py"
FROZEN = "tests/test_frozen.py"
FULL_BATCH = "tests/test_full_batch.py"
HOOKS = "tests/test_hooks_of_a_fit.py"
MEMORY_OF_FITS = "tests/test_callback_memory.py"
METRICS = "tests/test_metrics.py"
MONITOR_MODES = "tests/test_monitor_modes.py"
REGULARIZERS = "tests/test_regularizers.py"
RESUME = "tests/test_resume_counters.py"
RESUME_DIFFERENCES = "tests/test_resume_differences.py"
SCORERS = "tests/test_scorers.py"
SCHEDULED = "tests/test_trainer_schedule.py"
TABLES = "tests/test_splits_and_tables.py"
TRAINER_ATTRIBUTES = "tests/test_trainer_attributes.py"
TRAINER_COPIES = "tests/test_trainer_copies.py"
TRAINER_LOG = "tests/test_trainer_log.py"
TRAINER_NUMBERS = "tests/test_trainer_numbers.py"
TRAINER_SURPRISES = "tests/test_trainer_surprises.py"
TRAINER_THREADS = "tests/test_trainer_threads.py"
UNWRITABLE_PATHS = "tests/test_unwritable_paths.py"
VERDICT = "tests/test_verdict.py"

TRAIN = [
    Mutant(
        "EarlyStopping: a checkpoint forgets how long it has waited",
        f"{FOLDER}/_callbacks.py",
        'self.wait = int(state_dict["wait"])',
        "self.wait = 0",
        (f"{RESUME}::test_early_stopping_stops_at_the_same_epoch_after_a_resume",),
    ),
    Mutant(
        "EarlyStopping: a second fit goes on waiting",
        f"{FOLDER}/_callbacks.py",
        "            self.wait = self.stopped_epoch = 0",
        "            self.stopped_epoch = 0",
        (f"{RESUME}::test_a_second_fit_gives_early_stopping_its_whole_patience_again",),
    ),
    Mutant(
        "checkpoint: no skipped_steps",
        f"{FOLDER}/_saving.py",
        '"position", "skipped_steps", "stop"',
        '"position", "stop"',
        (f"{RESUME}::test_skipped_steps_are_counted_over_a_resume",),
    ),
    Mutant(
        "metrics: whole numbers are classes to a metric of regression",
        f"{FOLDER}/_scorers.py",
        'return kind != "_regression"',
        "pass",
        (
            "tests/test_metrics.py::"
            "test_whole_numbers_are_no_classes_to_a_metric_of_regression[r2_score-False-int64]",
        ),
    ),
    Mutant(
        "metrics: labels beyond the outputs count as wrong",
        f"{FOLDER}/_classes.py",
        "if ((t < 0) | (t >= count)).any():",
        "if False:",
        (
            "tests/test_trainer_surprises.py::"
            "test_labels_that_no_output_stands_for_are_refused_by_metrics[1-accuracy]",
        ),
    ),
    Mutant(
        "metrics: a second sigmoid",
        f"{FOLDER}/_classes.py",
        'if z.ndim == 1 and self.kind(scores) != "logits":',
        "if False:",
        (
            "tests/test_metrics.py::"
            "test_one_output_is_a_logit_or_a_probability_to_every_metric[sigmoid-int64-log_loss]",
        ),
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
        "callbacks: other numbers in arrays of the same shape are the same data",
        f"{FOLDER}/_training.py",
        "zlib.crc32(sample.tobytes())",
        "zlib.crc32(b'')",
        (f"{MEMORY_OF_FITS}::test_other_data_in_the_same_trainer_begin_a_new_training",),
    ),
    Mutant(
        "callbacks: two fits at once may use one",
        f"{FOLDER}/_training.py",
        "other is not training and other.fitting",
        "other is not training and False",
        (f"{MEMORY_OF_FITS}::test_a_callback_in_two_fits_at_once_is_refused",),
    ),
    Mutant(
        "monitor: neg_ does not turn the direction",
        f"{FOLDER}/_monitor.py",
        'mode and {"min": "max", "max": "min"}[mode]',
        "mode",
        (f"{MONITOR_MODES}::test_known_names",),
    ),
    Mutant(
        "monitor: an unknown name is minimised",
        f"{FOLDER}/_monitor.py",
        '"max" if last in _MAX else None',
        '"max" if last in _MAX else "min"',
        (f"{MONITOR_MODES}::test_a_name_that_settles_nothing_is_asked_for",),
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
        "paths: a place that cannot be written is found out after the first epoch",
        f"{FOLDER}/_checkpoint.py",
        '        ready_folder("Checkpoint", "dir", self.dir)\n',
        "",
        (f"{UNWRITABLE_PATHS}::test_a_file_where_a_directory_belongs",),
    ),
    Mutant(
        "copies: one made by a hook is inside a fit for ever",
        f"{FOLDER}/_run.py",
        'return {**vars(self), "fitting": False}',
        "return {**vars(self)}",
        (f"{TRAINER_COPIES}::test_a_copy_made_in_the_middle_of_an_epoch",),
    ),
    Mutant(
        "find_lr: the suggestion has no margin to the rate that breaks",
        f"{FOLDER}/_lr_curve.py",
        "good[len(good) // 2]",
        "good[0]",
        (f"{FINDER}::test_the_chosen_rate_is_the_middle_of_those_that_train",),
    ),
    Mutant(
        "find_lr: a fall within the noise counts",
        f"{FOLDER}/_lr_curve.py",
        "if not first - min(curve) > max(LEAST_FALL * abs(first), NOISE * noise):",
        "if not first - min(curve) > 0:",
        (f"{FINDER}::test_where_nothing_can_be_learnt_there_is_no_number",),
    ),
    Mutant(
        "find_lr: gradients are forgotten",
        f"{FOLDER}/_unchanged.py",
        "parameter.grad = array",
        "parameter.grad = None",
        (f"{FINDER}::test_everything_is_as_before_also_after_an_error",),
    ),
    Mutant(
        "Checkpoint: forgets its best value in a resume",
        f"{FOLDER}/_checkpoint.py",
        'self.best = float(state_dict["best"])',
        "self.best = math.nan",
        (f"{RESUME}::test_a_worse_epoch_after_a_resume_does_not_replace_the_best_checkpoint",),
    ),
    Mutant(
        "store: arrays are not synced to the disk",
        f"{FOLDER}/_store.py",
        '        _sync(file)\n    with open(path, "rb") as file:',
        '        file.flush()\n    with open(path, "rb") as file:',
        (f"{RESUME}::test_a_checkpoint_is_on_disk_before_it_has_its_name",),
    ),
    Mutant(
        "store: the hash of the arrays is not compared",
        f"{FOLDER}/_store.py",
        'if size != entry["bytes"] or digest != entry["sha256"]:',
        'if size != entry["bytes"]:',
        (f"{TABLES}::test_an_array_that_was_changed_with_its_checksum_is_found",),
    ),
    Mutant(
        "totals: a batch counts by its samples",
        "python/onepass/train/_totals.py",
        'self._count("loss", loss * divisor, divisor)',
        'self._count("loss", loss * len(target), len(target))',
        (f"{TRAINER_NUMBERS}::test_the_loss_of_evaluate_does_not_depend_on_the_batch_size",),
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
        "metrics: the last batch's outputs alone",
        "python/onepass/train/_totals.py",
        "np.concatenate(self.outputs), np.concatenate",
        "self.outputs[-1], np.concatenate",
        (f"{METRICS}::test_a_function_gets_the_outputs_of_the_whole_epoch",),
    ),
    Mutant(
        "history: a name that comes later starts at the first epoch",
        f"{FOLDER}/_history.py",
        '[float("nan")] * before)',
        '[float("nan")] * (0 * before))',
        (f"{RESUME}::test_a_name_that_comes_late_has_nothing_in_the_epochs_before",),
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
        "Diagnosis: gradients of accumulated batches are not divided",
        f"{FOLDER}/_diagnosis.py",
        "_norm(grads) / math.sqrt(size) / scale",
        "_norm(grads) / math.sqrt(size)",
        (f"{DIAGNOSIS}::test_gradients_and_updates_are_those_of_a_plain_loop",),
    ),
    Mutant(
        "Diagnosis: a step is compared with the weights after it",
        f"{FOLDER}/_diagnosis.py",
        "weight = _norm([old for _, old in kept])",
        "weight = _norm([p.data for p, _ in kept])",
        (f"{DIAGNOSIS}::test_gradients_and_updates_are_those_of_a_plain_loop",),
    ),
    Mutant(
        "Diagnosis: skipped steps count",
        f"{FOLDER}/_diagnosis.py",
        "        if skipped:\n            return\n",
        "",
        (f"{DIAGNOSIS}::test_skipped_steps_do_not_count",),
    ),
    Mutant(
        "Diagnosis: a resume begins the start anew",
        f"{FOLDER}/_diagnosis.py",
        '        self.start, self.start_gradients, self.start_variances = state_dict["start"]\n',
        "",
        (f"{DIAGNOSIS}::test_it_resumes_with_the_same_numbers",),
    ),
    Mutant(
        "Diagnosis: a late layer begins with the first epoch",
        f"{FOLDER}/_diagnosis.py",
        "column += [math.nan] * (epochs - len(column))",
        "column += []",
        (f"{DIAGNOSIS}::test_a_frozen_layer_has_no_numbers_and_a_late_one_begins_with_nan",),
    ),
    Mutant(
        "Diagnosis: watched layers stay watched",
        f"{FOLDER}/_diagnosis.py",
        "            watch.remove()\n",
        "            pass\n",
        (f"{DIAGNOSIS}::test_the_model_is_fused_again_afterwards_and_its_layers_have_no_trace",),
    ),
    Mutant(
        "Diagnosis: a unit must live in every batch",
        f"{FOLDER}/_watch.py",
        "self.alive | live",
        "self.alive & live",
        (f"{DIAGNOSIS}::test_dead_units_are_those_that_no_sample_of_the_epoch_reaches",),
    ),
    Mutant(
        "Diagnosis: the units of images lie along the last axis",
        f"{FOLDER}/_watch.py",
        "unit = slope.ndim - 1 if self.last_axis or slope.ndim < 2 else 1",
        "unit = slope.ndim - 1",
        (f"{DIAGNOSIS}::test_channels_are_the_units_of_images",),
    ),
    Mutant(
        "Diagnosis: only a derivative of zero is dead",
        f"{FOLDER}/_watch.py",
        "FLAT = 0.005",
        "FLAT = 0.0",
        (f"{DIAGNOSIS}::test_saturated_units_are_dead",),
    ),
    Mutant(
        "Diagnosis: validation counts",
        f"{FOLDER}/_watch.py",
        "        if self.layer.training:\n            self",
        "        if True:\n            self",
        (f"{DIAGNOSIS}::test_dead_units_are_those_that_no_sample_of_the_epoch_reaches",),
    ),
    Mutant(
        "verdict: overfitting since the epoch before",
        f"{FOLDER}/_verdict.py",
        "overfitting since epoch {best + 1}",
        "overfitting since epoch {best}",
        (
            f"{VERDICT}::test_overfitting_is_told_with_its_epoch",
            f"{VERDICT}::test_the_sentence_is_a_function_of_the_numbers",
        ),
    ),
    Mutant(
        "verdict: dead units of the first epoch count",
        f"{FOLDER}/_verdict.py",
        "shares = {name: values[-1] for",
        "shares = {name: values[0] for",
        (f"{VERDICT}::test_the_sentence_is_a_function_of_the_numbers",),
    ),
    Mutant(
        "verdict: vanishing and exploding are mixed up",
        f"{FOLDER}/_verdict.py",
        "if names.index(low) < names.index(high):",
        "if names.index(low) > names.index(high):",
        (f"{VERDICT}::test_vanishing_gradients_are_told_with_their_layer",),
    ),
    Mutant(
        "verdict: a slope of the first epochs wants more of them",
        f"{FOLDER}/_verdict.py",
        "before = fmean(curve[-2 * count : -count])",
        "before = fmean(curve[:count])",
        (
            f"{VERDICT}::test_the_sentence_is_a_function_of_the_numbers",
            f"{VERDICT}::test_a_healthy_run_raises_no_alarm",
        ),
    ),
    Mutant(
        "verdict: a flat loss is not a sign of a high rate",
        f"{FOLDER}/_verdict.py",
        "wild = {name: value for name, value in wild.items() if value > WILD}",
        "wild = {}",
        (
            f"{VERDICT}::test_a_rate_too_high_is_told",
            f"{VERDICT}::test_the_sentence_is_a_function_of_the_numbers",
        ),
    ),
    Mutant(
        "BLAS: one training with large products gets one thread beside a small one",
        f"{FOLDER}/_blas.py",
        "limit = bool(self.small) and not self.large",
        "limit = bool(self.small)",
        (f"{BLAS_THREADS}::test_trainings_at_the_same_time_agree",),
    ),
    Mutant(
        "BLAS: a number chosen meanwhile is overwritten",
        f"{FOLDER}/_blas.py",
        "if library.get_num_threads() == 1:",
        "if True:",
        (f"{BLAS_THREADS}::test_a_number_chosen_in_between_is_kept",),
    ),
    Mutant(
        "BLAS: threads are not given back after an error",
        f"{FOLDER}/_blas.py",
        "    try:\n        yield\n    finally:\n        _users.end(training)\n",
        "    yield\n    _users.end(training)\n",
        (f"{BLAS_THREADS}::test_an_exception_gives_the_threads_back",),
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
        "evaluate: weights of a loader are taken for something else",
        f"{FOLDER}/_evaluation.py",
        "map(self.moved, batch[:2])",
        "map(self.moved, batch)",
        (f"{TRAINER_SURPRISES}::test_a_loader_with_weights_can_be_evaluated_and_predicted",),
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
        f"{FOLDER}/_loaders.py",
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
        "metrics: a failing one does not say which",
        f"{FOLDER}/_totals.py",
        'raise ValueError(f"the metric {name!r} failed: {error}") from error',
        "raise",
        (f"{TRAINER_SURPRISES}::test_a_metric_that_fails_says_which_one",),
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
        "evaluation: a new model keeps the dtype of the old one",
        f"{FOLDER}/_evaluation.py",
        "        self._dtype = _dtype_of(self.model)\n",
        '        vars(self).setdefault("_dtype", _dtype_of(self.model))\n',
        (f"{TRAINER_ATTRIBUTES}::test_a_model_of_another_dtype_gets_its_own_dtype",),
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
        'return {"loss": _described(run.loss), "interval"',
        'return {"loss": "", "interval"',
        (f"{RESUME_DIFFERENCES}::test_a_resume_with_another_loss_is_refused",),
    ),
    Mutant(
        "resume: other weights of classes are not noticed",
        f"{FOLDER}/_resume.py",
        "zlib.crc32(array.tobytes()):08x",
        "zlib.crc32(b''):08x",
        (f"{RESUME_DIFFERENCES}::test_a_resume_with_other_weights_of_classes_is_refused",),
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
        "EarlyStopping: gives back the epoch before a layer was frozen",
        f"{FOLDER}/_callbacks.py",
        "        if best is not None and any(",
        "        if best is None and any(",
        (f"{FROZEN}::test_early_stopping_does_not_move_what_was_frozen_later",),
    ),
    Mutant(
        "CSVLogger: the table of another run is overwritten",
        f"{FOLDER}/_callbacks.py",
        "            put_aside(self.path)\n",
        "            pass\n",
        (f"{CSV_LOGGER}::test_the_table_of_another_run_is_kept_beside_the_new_one",),
    ),
    Mutant(
        "CSVLogger: every table is another run's",
        f"{FOLDER}/_history.py",
        '    if "loss" not in header or not history.get("loss"):\n',
        "    if True:\n",
        (f"{CSV_LOGGER}::test_a_run_that_goes_on_keeps_its_table",),
    ),
    Mutant(
        "metrics: what the loss says of outputs is not read",
        f"{FOLDER}/_classes.py",
        "known = said(self.loss) or self.of_model or self.seen",
        "known = self.of_model or self.seen",
        (
            "tests/test_one_output.py::"
            "test_the_loss_says_what_outputs_of_ones_own_module_are[probabilities-sigmoid last]",
        ),
    ),
    Mutant(
        "Diagnosis: squares of gradients overflow",
        f"{FOLDER}/_diagnosis.py",
        "return float(ops.global_norm(arrays))",
        "return math.sqrt(sum(float((a.astype(float) ** 2).sum()) for a in arrays))",
        (f"{DIAGNOSIS}::test_gradients_whose_squares_leave_float64_have_their_rms",),
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
        "monitor: what stands behind 'at' decides",
        f"{FOLDER}/_monitor.py",
        'if "at" in words[1:]:',
        "if False:",
        ("tests/test_monitor_modes.py::test_known_names",),
    ),
    Mutant(
        "monitor: loss_iou is an IoU",
        f"{FOLDER}/_monitor.py",
        "if last in _MAX and _MIN & set(kept[:-1]):",
        "if False:",
        ("tests/test_monitor_modes.py",),
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
        "metrics: a row with NaN is a class",
        f"{FOLDER}/_classes.py",
        "return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))",
        "return scores.argmax(axis=1)",
        (f"{METRICS}::test_an_output_that_is_nan_is_never_right",),
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
        """        "regularizers": [_of_kind(type(r), r) for r in run.regularizers],\n""",
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
        "        self._start.again()\n        self._first_divisor",
        "        self._first_divisor",
        (f"{FULL_BATCH}::test_every_evaluation_has_the_masks_and_statistics_of_the_first",),
    ),
    Mutant(
        "restarts: a training depends on those before",
        f"{FOLDER}/_restarts.py",
        "        nn.manual_seed(seed + number)\n",
        "",
        ("tests/test_restarts.py::test_each_training_depends_on_its_seed_alone",),
    ),
    Mutant(
        "restarts: the score is that of the last epoch, whatever weights come back",
        f"{FOLDER}/_restarts.py",
        "return values[callback.best_epoch - 1]",
        "return values[-1]",
        ("tests/test_restarts.py::test_the_score_is_that_of_the_weights_that_the_model_has",),
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
    Mutant(
        "search: all parameters of a trial have the same random number",
        f"{FOLDER}/_search_space.py",
        "_digest(name), 0",
        "0, 0",
        ("tests/test_search.py::test_a_draw_is_a_function_of_seed_number_and_name",),
    ),
    Mutant(
        "search: weights depend on the trials before",
        f"{FOLDER}/_search_run.py",
        "        nn.manual_seed(seed)\n",
        "",
        ("tests/test_search.py::test_two_searches_with_one_seed_are_equal",),
    ),
    Mutant(
        "search: checkpoints of the trial that was cut off are deleted",
        f"{FOLDER}/_search_run.py",
        "kept = {len(self.result.trials)}",
        "kept = set[int]()",
        ("tests/test_search.py::test_after_a_kill_it_gives_the_same_bits",),
    ),
    Mutant(
        "search: a folder of other data goes on",
        f"{FOLDER}/_search.py",
        '"data": [marks_of("X", X), marks_of("y", y)],',
        '"data": [],',
        ("tests/test_search.py::test_another_search_is_refused_with_what_differs",),
    ),
    Mutant(
        "search: objects are known by their class alone",
        f"{FOLDER}/_search_marks.py",
        "return [kind.__qualname__, self.of(state)]",
        "return [kind.__qualname__]",
        (
            "tests/test_search.py::test_every_argument_must_be_as_it_was",
            "tests/test_search_optuna.py::test_other_samplers_and_pruners_are_refused",
        ),
    ),
    Mutant(
        "search: a score that no training has given is the best",
        f"{FOLDER}/_search_folder.py",
        "    if not right:\n",
        "    if False:\n",
        ("tests/test_search.py::test_a_trial_that_no_search_has_written_is_refused",),
    ),
    Mutant(
        "search: the median pruner compares the last value, not the best",
        f"{FOLDER}/_pruners.py",
        "best = value if better(mode, value, best) else best",
        "best = value",
        ("tests/test_search.py::test_the_median_pruner",),
    ),
    Mutant(
        "onepass search: the part that is held out decides",
        "python/onepass/runs/_search.py",
        "moved(parts.validation)}",
        "moved(parts.test)}",
        ("tests/test_cli_search.py::test_it_finds_trains_and_tells_how_to_go_on",),
    ),
    Mutant(
        "cross_validate: the scaling of the caller is fitted, not a copy",
        f"{FOLDER}/_cross_validation.py",
        "scaling = copy.deepcopy(preprocess)",
        "scaling = preprocess",
        (f"{CROSS}::test_the_scaling_sees_the_training_samples_alone",),
    ),
    Mutant(
        "cross_validate: weights are those of the first samples",
        f"{FOLDER}/_cross_validation.py",
        'options["sample_weight"] = weight[train]',
        'options["sample_weight"] = weight[: len(train)]',
        (f"{CROSS}::test_weights_belong_to_their_samples",),
    ),
    Mutant(
        "cross_validate: a fold that is done is scored again",
        f"{FOLDER}/_cross_validation.py",
        "number <= len(record.scores)",
        "number < len(record.scores)",
        (f"{CROSS}::test_after_an_interruption_it_gives_the_same_bits",),
    ),
    Mutant(
        "cross_validate: a resume takes any data",
        f"{FOLDER}/_fold_record.py",
        "                self._refuse_others(held)\n",
        "",
        (f"{CROSS}::test_a_resume_with_other_data_or_settings_is_refused",),
    ),
    Mutant(
        "scorers: a metric that cannot be of so many classes fails at the end of the epoch",
        f"{FOLDER}/_scorers.py",
        "if self.name is None or shape in self.tried:",
        "if self.name is not None or shape in self.tried:",
        (f"{SCORERS}::test_every_scorer_has_its_value_or_is_refused_before_the_first_step",),
    ),
]
