"""Planted mistakes in what watches and measures a training: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/train"
CROSS_RESUME = "tests/test_cross_validation_resume.py"
CSV_LOGGER = "tests/test_csv_logger.py"
DIAGNOSIS = "tests/test_diagnosis.py"
FINDER = "tests/test_lr_finder.py"
FROZEN = "tests/test_frozen.py"
MEMORY_OF_FITS = "tests/test_callback_memory.py"
METRICS = "tests/test_metrics.py"
MONITOR_MODES = "tests/test_monitor_modes.py"
RESUME = "tests/test_resume_counters.py"
RESUME_DIFFERENCES = "tests/test_resume_differences.py"
TRAINER_ATTRIBUTES = "tests/test_trainer_attributes.py"
TRAINER_NUMBERS = "tests/test_trainer_numbers.py"
TRAINER_SURPRISES = "tests/test_trainer_surprises.py"
UNWRITABLE_PATHS = "tests/test_unwritable_paths.py"
VERDICT = "tests/test_verdict.py"

WATCH = [
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
        "callbacks: other numbers in arrays of the same shape are the same data",
        f"{FOLDER}/_marks.py",
        "zlib.crc32(sample.tobytes())",
        "zlib.crc32(b'')",
        (f"{MEMORY_OF_FITS}::test_other_data_in_the_same_trainer_begin_a_new_training",),
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
        "paths: a place that cannot be written is found out after the first epoch",
        f"{FOLDER}/_checkpoint.py",
        '        ready_folder("Checkpoint", "dir", self.dir)\n',
        "",
        (f"{UNWRITABLE_PATHS}::test_a_file_where_a_directory_belongs",),
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
        "Checkpoint: forgets its best value in a resume",
        f"{FOLDER}/_checkpoint.py",
        'self.best = float(state_dict["best"])',
        "self.best = math.nan",
        (f"{RESUME}::test_a_worse_epoch_after_a_resume_does_not_replace_the_best_checkpoint",),
    ),
    Mutant(
        "totals: a batch counts by its samples",
        "python/onepass/train/_totals.py",
        'self._count("loss", loss * divisor, divisor)',
        'self._count("loss", loss * len(target), len(target))',
        (f"{TRAINER_NUMBERS}::test_the_loss_of_evaluate_does_not_depend_on_the_batch_size",),
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
        "        if self.sees():\n            self",
        "        if True:\n            self",
        (f"{DIAGNOSIS}::test_dead_units_are_those_that_no_sample_of_the_epoch_reaches",),
    ),
    Mutant(
        "verdict: overfitting since the epoch before",
        f"{FOLDER}/_verdict.py",
        "overfitting since epoch {first + 1}",
        "overfitting since epoch {first}",
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
        "evaluate: weights of a loader are taken for something else",
        f"{FOLDER}/_evaluation.py",
        "map(self.moved, batch[:2])",
        "map(self.moved, batch)",
        (f"{TRAINER_SURPRISES}::test_a_loader_with_weights_can_be_evaluated_and_predicted",),
    ),
    Mutant(
        "metrics: a failing one does not say which",
        f"{FOLDER}/_totals.py",
        'raise ValueError(f"the metric {name!r} failed: {error}") from error',
        "raise",
        (f"{TRAINER_SURPRISES}::test_a_metric_that_fails_says_which_one",),
    ),
    Mutant(
        "evaluation: a new model keeps the dtype of the old one",
        f"{FOLDER}/_evaluation.py",
        "        self._dtype = _dtype_of(self.model)\n",
        '        vars(self).setdefault("_dtype", _dtype_of(self.model))\n',
        (f"{TRAINER_ATTRIBUTES}::test_a_model_of_another_dtype_gets_its_own_dtype",),
    ),
    Mutant(
        "resume: other weights of classes are not noticed",
        f"{FOLDER}/_marks.py",
        "digest(part)[:8]",
        "digest(part)[:0]",
        (f"{RESUME_DIFFERENCES}::test_a_resume_with_other_weights_of_classes_is_refused",),
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
        "metrics: a row with NaN is a class",
        f"{FOLDER}/_classes.py",
        "return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))",
        "return scores.argmax(axis=1)",
        (f"{METRICS}::test_an_output_that_is_nan_is_never_right",),
    ),
    Mutant(
        "search: objects are known by their class alone",
        f"{FOLDER}/_marks.py",
        "return [kind.__qualname__, without_addresses(value) if state is None else self.of(state)]",
        "return [kind.__qualname__]",
        (
            "tests/test_search_folder.py::test_every_argument_must_be_as_it_was",
            "tests/test_search_optuna.py::test_other_samplers_and_pruners_are_refused",
        ),
    ),
    Mutant(
        "marks: what a function brings along does not count",
        f"{FOLDER}/_marks.py",
        "brought = (function.__defaults__, function.__kwdefaults__, cells)",
        "brought = (function.__defaults__, function.__kwdefaults__)",
        ("tests/test_marks.py::test_what_differs_has_another_mark",),
    ),
    Mutant(
        "marks: of large arrays some values are compared",
        f"{FOLDER}/_marks.py",
        "for start in range(0, max(rows, 1), step):",
        "for start in range(0, max(rows, 1), 2 * step):",
        ("tests/test_marks.py::test_marks_of_files_are_read_in_pieces",),
    ),
    Mutant(
        "cross_validate: metrics of one name are one",
        f"{FOLDER}/_marks.py",
        "return [function.__qualname__, self._of_code(function.__code__), self.of(brought)]",
        "return [function.__qualname__]",
        (f"{CROSS_RESUME}::test_parts_of_ones_own_are_told_apart",),
    ),
]
