"""Planted mistakes in python/onepass/train: see README.md."""

from __future__ import annotations

from mutant import Mutant

ABORTS = "tests/test_trainer_aborts.py"
FINDER = "tests/test_lr_finder.py"
MEMORY_OF_FITS = "tests/test_callback_memory.py"
RESUME = "tests/test_resume_counters.py"
SCHEDULED = "tests/test_trainer_schedule.py"
TABLES = "tests/test_splits_and_tables.py"
FOLDER = "python/onepass/train"

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
        ("tests/test_trainer_threads.py::test_a_fit_while_another_thread_predicts",),
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
        ("tests/test_monitor_modes.py::test_known_names",),
    ),
    Mutant(
        "monitor: an unknown name is minimised",
        f"{FOLDER}/_monitor.py",
        '"max" if last in _MAX else None',
        '"max" if last in _MAX else "min"',
        ("tests/test_monitor_modes.py::test_a_name_that_settles_nothing_is_asked_for",),
    ),
    Mutant(
        "checkpoint: no logged numbers",
        f"{FOLDER}/_saving.py",
        '"data", "logged")',
        '"data")',
        ("tests/test_trainer_log.py::test_logged_numbers_survive_a_resume",),
    ),
    Mutant(
        "checkpoint: the last step's norm is not in the average",
        f"{FOLDER}/_run.py",
        "            self.read_norm()\n            return _store",
        "            return _store",
        ("tests/test_trainer_log.py::test_logged_numbers_survive_a_resume",),
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
        ("tests/test_unwritable_paths.py::test_a_file_where_a_directory_belongs",),
    ),
    Mutant(
        "copies: one made by a hook is inside a fit for ever",
        f"{FOLDER}/_run.py",
        'return {**vars(self), "fitting": False}',
        "return {**vars(self)}",
        ("tests/test_trainer_copies.py::test_a_copy_made_in_the_middle_of_an_epoch",),
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
        "find_lr: layers in evaluation mode are set to training",
        f"{FOLDER}/_unchanged.py",
        "module.training = training",
        "module.training = True",
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
        (
            "tests/test_trainer_numbers.py::"
            "test_the_loss_of_evaluate_does_not_depend_on_the_batch_size",
        ),
    ),
    Mutant(
        "loop: accumulated batches count alike",
        "python/onepass/train/_loop.py",
        "weight = divisor / self._first_divisor if self._first_divisor else 0.0",
        "weight = 1.0",
        ("tests/test_trainer_numbers.py::test_accumulated_batches_step_as_one_batch_of_all",),
    ),
    Mutant(
        "weights: those of samples are normalised without those of classes",
        "python/onepass/train/_weights.py",
        "* to_numpy(counted)).sum())",
        ").sum())",
        ("tests/test_trainer_numbers.py::test_sample_weights_weigh_loss_and_gradient",),
    ),
    Mutant(
        "metrics: the last batch's outputs alone",
        "python/onepass/train/_totals.py",
        "np.concatenate(self.outputs), np.concatenate",
        "self.outputs[-1], np.concatenate",
        ("tests/test_metrics.py::test_a_function_gets_the_outputs_of_the_whole_epoch",),
    ),
    Mutant(
        "recipe: the scaler sees the validation part",
        f"{FOLDER}/_recipe.py",
        "scale = Standardize().fit(X[train])",
        "scale = Standardize().fit(X)",
        (f"{TABLES}::test_the_scaler_sees_the_training_part_alone",),
    ),
    Mutant(
        "recipe: the validation split ignores the seed",
        f"{FOLDER}/_recipe.py",
        "split_indices(y, VALIDATION_SHARE, stratify=by_class, seed=options.seed)",
        "split_indices(y, VALIDATION_SHARE, stratify=by_class, seed=0)",
        (f"{TABLES}::test_another_seed_holds_out_another_part",),
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
]
