"""Planted mistakes in searches and cross-validation: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/train"
CROSS = "tests/test_cross_validation.py"
CROSS_RESUME = "tests/test_cross_validation_resume.py"
RESUME = "tests/test_resume_counters.py"
SCORERS = "tests/test_scorers.py"
TABLES = "tests/test_splits_and_tables.py"

SEARCH = [
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
        "restarts: a training depends on those before",
        f"{FOLDER}/_restarts.py",
        "        with seeded(seed):\n",
        "        if True:\n",
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
        "search: all parameters of a trial have the same random number",
        f"{FOLDER}/_search_space.py",
        "_digest(name), 0",
        "0, 0",
        ("tests/test_search_space.py::test_a_draw_is_a_function_of_seed_number_and_name",),
    ),
    Mutant(
        "search: weights depend on the trials before",
        f"{FOLDER}/_search_run.py",
        "            with seeded(seed):\n",
        "            if True:\n",
        ("tests/test_search.py::test_two_searches_with_one_seed_are_equal",),
    ),
    Mutant(
        "search: a trial that a pruner ends at NaN was pruned",
        f"{FOLDER}/_search_run.py",
        "judge.reason is not None and math.isfinite(values[-1])",
        "judge.reason is not None",
        ("tests/test_search_nan.py::test_no_trial_that_is_not_a_number_is_pruned_or_the_best",),
    ),
    Mutant(
        "search: checkpoints of the trial that was cut off are deleted",
        f"{FOLDER}/_search_run.py",
        "drop_checkpoints(loser.number)",
        "drop_checkpoints(loser.number + 1)",
        ("tests/test_search_folder.py::test_after_a_kill_it_gives_the_same_bits",),
    ),
    Mutant(
        "search: a folder of other data goes on",
        f"{FOLDER}/_search.py",
        '            "X": mark("search", "X", X),\n',
        "",
        ("tests/test_search_folder.py::test_another_search_is_refused_with_what_differs",),
    ),
    Mutant(
        "search: a score that no training has given is the best",
        f"{FOLDER}/_search_folder.py",
        "    if not right:\n",
        "    if False:\n",
        ("tests/test_search_folder.py::test_a_trial_that_no_search_has_written_is_refused",),
    ),
    Mutant(
        "search: the median pruner compares the last value, not the best",
        f"{FOLDER}/_pruners.py",
        "best = value if better(mode, value, best) else best",
        "best = value",
        ("tests/test_search_trials.py::test_the_median_pruner",),
    ),
    Mutant(
        "onepass search: whatever run is in the place of the best one is replaced",
        "python/onepass/runs/_search.py",
        "if not any(self._is_of(trial, place) for trial in result.trials):",
        "if False:",
        (
            "tests/test_cli_search.py"
            "::test_the_run_of_a_trial_that_was_the_best_gives_its_place_and_no_other",
        ),
    ),
    Mutant(
        "records: a folder is given to two calls",
        f"{FOLDER}/_record.py",
        "            return lock_folder(self.folder)\n",
        "            return None\n",
        ("tests/test_record.py::test_one_call_at_a_time_has_the_folder",),
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
        f"{FOLDER}/_fold_samples.py",
        "scaling = copy.deepcopy(preprocess)",
        "scaling = preprocess",
        (f"{CROSS}::test_the_scaling_sees_the_training_samples_alone",),
    ),
    Mutant(
        "cross_validate: weights are those of the first samples",
        f"{FOLDER}/_fold_run.py",
        'options["sample_weight"] = self.weight[used]',
        'options["sample_weight"] = self.weight[: len(used)]',
        (f"{CROSS}::test_weights_belong_to_their_samples",),
    ),
    Mutant(
        "cross_validate: the scaling sees what decides when a fold ends",
        f"{FOLDER}/_fold_run.py",
        "scaling, x = fitted(self.preprocess, part_of_samples(self.X, used), y, self.seed)",
        "scaling = fitted(self.preprocess, part_of_samples(self.X, train), None, 0)[0]; "
        "x = prepared(scaling, part_of_samples(self.X, used))",
        (f"{CROSS}::test_the_scaling_sees_the_training_samples_alone",),
    ),
    Mutant(
        "cross_validate: groups are apart between folds alone",
        f"{FOLDER}/_fold_run.py",
        "if self.groups is not None:",
        "if False:",
        (f"{CROSS}::test_groups_are_apart_in_the_validation_part_too",),
    ),
    Mutant(
        "cross_validate: a random scaling is another one after an interruption",
        f"{FOLDER}/_fold_samples.py",
        "with _one_at_a_time, _seeded(seed):",
        "with _one_at_a_time:",
        (f"{CROSS_RESUME}::test_a_random_scaling_is_the_same_after_an_interruption",),
    ),
    Mutant(
        "cross_validate: a fold goes on with other numbers of its samples",
        f"{FOLDER}/_fold_record.py",
        'if fold["samples"] != samples:',
        "if False:",
        (f"{CROSS_RESUME}::test_a_scaling_that_cannot_be_repeated_is_refused",),
    ),
    Mutant(
        "cross_validate: a record that lacks a setting is trusted",
        f"{FOLDER}/_record.py",
        "if lacking is not None:",
        "held = {**given, **held}\n        if False:",
        (f"{CROSS_RESUME}::test_a_record_that_lacks_something_is_refused",),
    ),
    Mutant(
        "cross_validate: a resume takes any data",
        f"{FOLDER}/_fold_record.py",
        "            self._record.compare(own, held)\n",
        "",
        (f"{CROSS_RESUME}::test_a_resume_with_other_data_or_settings_is_refused",),
    ),
    Mutant(
        "scorers: a metric that cannot be of so many classes fails at the end of the epoch",
        f"{FOLDER}/_scorers.py",
        "if self.name is None or shape in self.tried:",
        "if self.name is not None or shape in self.tried:",
        (f"{SCORERS}::test_every_scorer_has_its_value_or_is_refused_before_the_first_step",),
    ),
]
