"""Planted mistakes in python/onepass/data, and files beside the packages: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/data"
RUNS = "python/onepass/runs"
FOLDS = "tests/test_folds.py"
FOLDS_OF_RUNS = "tests/test_cross_validation_cli.py"
RESUME = "tests/test_resume_counters.py"
TABLES = "tests/test_splits_and_tables.py"

DATA = [
    Mutant(
        "console: a character that the encoding lacks ends the training",
        "python/onepass/_console.py",
        'text.encode(encoding, "replace")',
        "text.encode(encoding)",
        ("tests/test_consoles.py::test_tables_in_any_encoding",),
    ),
    Mutant(
        "loader: seeds the global generator",
        f"{FOLDER}/_loader.py",
        "    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(size)",
        "    np.random.seed(epoch % 2**32)\n"
        "    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(size)",
        (f"{RESUME}::test_the_global_generator_is_left_alone",),
    ),
    Mutant(
        "split: shares its random numbers with epoch 0",
        f"{FOLDER}/_split.py",
        "STREAM = 2**64 - 1",
        "STREAM = 0",
        (f"{TABLES}::test_a_split_shares_no_order_with_an_epoch",),
    ),
    Mutant(
        "split: the smallest remainders come first",
        f"{FOLDER}/_split.py",
        "np.argsort(-(exact - quota)",
        "np.argsort((exact - quota)",
        (f"{TABLES}::test_the_largest_remainder_gets_the_sample_that_is_left",),
    ),
    Mutant(
        "scaling: columns near the ends of float64 are not scaled first",
        f"{FOLDER}/_scaling.py",
        "extreme = (exponent > 1000) | ",
        "extreme = ",
        ("tests/test_given_data.py::test_columns_at_the_ends_of_float64",),
    ),
    Mutant(
        "Standardize: a column that differs by rounding is scaled",
        f"{FOLDER}/_scaling.py",
        "constant |= std",
        "constant &= std",
        ("tests/test_given_data.py::test_a_column_that_differs_by_rounding_alone_is_constant",),
    ),
    Mutant(
        "split: whole numbers that hardly repeat are classes",
        f"{FOLDER}/_split.py",
        "    if quota.sum() < count:\n        return",
        "    if not by_class:\n        return",
        ("tests/test_given_data.py::test_whole_numbers_are_split_in_the_share_asked_for",),
    ),
    Mutant(
        "split: a Series is taken by its index",
        f"{FOLDER}/_given.py",
        'return value.iloc[index] if hasattr(value, "iloc") else value[index]',
        "return value[index]",
        ("tests/test_given_data.py::test_a_shuffled_index_does_not_mix_up_the_rows",),
    ),
    Mutant(
        "loader: the larger batches come last",
        f"{FOLDER}/_loader.py",
        "return number * size + min(number, larger)",
        "return number * size + max(0, number - (len(self) - larger))",
        ("tests/test_trainer_numbers.py::test_balanced_batches_differ_by_one_sample_at_most",),
    ),
    Mutant(
        "tables: the first cell decides what a column is",
        f"{FOLDER}/_signs.py",
        "figures(values) if values",
        "figures(values[:1]) if values",
        (f"{TABLES}::test_a_target_that_begins_with_a_number_may_be_text",),
    ),
    Mutant(
        "tables: the header alone tells the separator",
        f"{FOLDER}/_layout.py",
        "    if found:\n        return max(",
        "    if None:\n        return max(",
        ("tests/test_tables.py::test_the_separator_is_that_of_the_file",),
    ),
    Mutant(
        "tables: decimal commas part cells",
        f"{FOLDER}/_layout.py",
        "return clean / len(cells)",
        "return 1.0",
        ("tests/test_table_list.py::test_a_table_is_read_as_what_it_says",),
    ),
    Mutant(
        "tables: 1.200 is one and a fifth, whatever the file shows",
        f"{FOLDER}/_columns.py",
        "return bool(np.any(~whole & ~(groups & (size >= 1) & (size < 1000))))",
        "return bool(np.any(~whole))",
        ("tests/test_table_list.py::test_a_table_is_refused_with_place_and_cure",),
    ),
    Mutant(
        "tables: a point is read as the file's other columns are, not as its own was",
        f"{FOLDER}/_signs.py",
        "own = self.trained.get(name)",
        "own = None",
        ("tests/test_table_prediction.py::test_a_point_is_read_as_its_column_was_and_else_noted",),
    ),
    Mutant(
        "tables: a quick price may have a group of two digits",
        f"{FOLDER}/_marks.py",
        "& is_digit(text, behind + 1) & is_digit(text, behind + 2)\n"
        "    right &= ~is_digit(text, behind + 3)",
        "& is_digit(text, behind + 1)",
        ("tests/test_table_forms.py::test_an_odd_cell_among_prices_is_refused",),
    ),
    Mutant(
        "tables: a point in doubt among numbers is noted of words alone",
        f"{FOLDER}/_text.py",
        "self.doubtful = {**found, **self.doubtful}",
        "self.doubtful = {}",
        ("tests/test_table_signs.py::test_a_doubt_is_noted_of_numbers_and_of_words_alike",),
    ),
    Mutant(
        "tables: other points of a column do not settle a doubt",
        f"{FOLDER}/_marks.py",
        "return cells, others & {*doubtful, *cells}",
        "return cells, set()",
        ("tests/test_table_signs.py::test_a_doubt_is_noted_of_numbers_and_of_words_alike",),
    ),
    Mutant(
        "tables: ids that float64 merges are one number",
        f"{FOLDER}/_decide.py",
        "if not trained and (same := cells.merged(found)):",
        "if False:",
        ("tests/test_tables.py::test_ids_beyond_float64_are_refused_among_the_features_too",),
    ),
    Mutant(
        "tables: a title above lines that end in separators is the header",
        f"{FOLDER}/_edges.py",
        "(whole or above)",
        "whole",
        ("tests/test_table_list.py::test_a_table_is_read_as_what_it_says",),
    ),
    Mutant(
        "runs: a run is deleted before the one that replaces it is done",
        f"{RUNS}/_folder.py",
        "if not (overwrite and holds_a_run(path)):",
        "if True:",
        ("tests/test_cli_runs.py::test_a_run_is_replaced_when_the_new_one_is_done",),
    ),
    Mutant(
        "runs: whatever lies in the place of a fold is deleted",
        f"{RUNS}/_replacing.py",
        'return "fold" in read_json(folder / RECORD)',
        "return True",
        (f"{FOLDS_OF_RUNS}::test_folders_that_are_no_folds_are_left_alone",),
    ),
    Mutant(
        "runs: the files that a link of a fold leads to are deleted",
        f"{RUNS}/_replacing.py",
        "if not folder.name.isdecimal() or folder.is_symlink():",
        "if not folder.name.isdecimal():",
        (f"{FOLDS_OF_RUNS}::test_no_link_is_followed",),
    ),
    Mutant(
        "runs: a replacement that was cut short is not finished",
        f"{RUNS}/_replacing.py",
        "    if cleared.is_dir():",
        "    if whole.is_dir():",
        (
            "tests/test_cli_kill.py::"
            "test_a_kill_while_a_run_is_replaced_leaves_the_old_or_the_new_one_whole",
        ),
    ),
    Mutant(
        "tables: True and False take any number where they are predicted",
        f"{FOLDER}/_likeness.py",
        "odd = ~np.isin(column.values, (0, 1)) & ~column.missing()",
        "odd = np.zeros(len(column), bool)",
        (
            "tests/test_table_prediction.py::"
            "test_true_and_false_take_no_other_number_where_they_are_predicted",
        ),
    ),
    Mutant(
        "tables: a quote that the next one closes swallows the rows between",
        f"{FOLDER}/_layout.py",
        "if breaks and width > 1 and",
        "if breaks and not width and",
        ("tests/test_tables.py::test_two_unclosed_quotes_do_not_swallow_the_rows_between",),
    ),
    Mutant(
        "tables: medians of all rows",
        f"{FOLDER}/_encoding.py",
        "part = column if rows is None else column.at(rows)",
        "part = column",
        ("tests/test_table_encoding.py::test_medians_and_words_are_those_of_the_training_part",),
    ),
    Mutant(
        "tables: another table's classes are numbered anew",
        f"{FOLDER}/_target.py",
        "if classes is None or isinstance(cells, Numbers):\n        return",
        "if True:\n        return",
        (
            "tests/test_table_encoding.py::"
            "test_targets_of_another_table_have_the_classes_of_the_first",
        ),
    ),
    Mutant(
        "tables: underscores in numbers",
        f"{FOLDER}/_cells.py",
        'PLAIN = re.compile(r"[+-]?(\\d+\\.?\\d*',
        'PLAIN = re.compile(r"[+-]?([\\d_]+\\.?\\d*',
        ("tests/test_tables.py::test_what_only_python_takes_for_a_number_is_none",),
    ),
    Mutant(
        "recipe: the scaler sees the validation part",
        f"{RUNS}/_parts.py",
        "scale = PREPROCESS[preprocess]().fit(X[train])",
        "scale = PREPROCESS[preprocess]().fit(X)",
        (f"{TABLES}::test_the_scaler_sees_the_training_part_alone",),
    ),
    Mutant(
        "recipe: the validation split ignores the seed",
        f"{RUNS}/_parts.py",
        "_two(source, rest, VALIDATION_SHARE, seed)",
        "_two(source, rest, VALIDATION_SHARE, 0)",
        (f"{TABLES}::test_another_seed_holds_out_another_part",),
    ),
    Mutant(
        "encoding: 1.0 of a DataFrame is another word than 1",
        f"{FOLDER}/_encoding.py",
        "if isinstance(column, Words) and column.numeric:",
        "if False:",
        ("tests/test_table_words.py::test_numbers_of_a_dataframe_are_the_words_that_they_were",),
    ),
    Mutant(
        "predict: replaces the files of a run",
        f"{RUNS}/_folder.py",
        "if real.name in FILES and holds_a_run(real.parent):",
        "if False:",
        (
            "tests/test_cli_predict.py::"
            "test_a_file_of_a_run_is_no_place_for_predictions[history.csv]",
        ),
    ),
    Mutant(
        "projection: directions of rounding are whitened",
        "python/onepass/data/_projection.py",
        "above = s > eps * max(max(samples, features) * s[0], of_data)",
        "above = s > 0",
        ("tests/test_projection.py::test_columns_that_are_constant_or_repeat_others_are_empty",),
    ),
    Mutant(
        "projection: rounding decides the sign of a direction",
        "python/onepass/data/_projection.py",
        "(1 - TIE)",
        "1",
        ("tests/test_projection.py::test_signs_do_not_hang_on_rounding",),
    ),
    Mutant(
        "folds: classes are not spread evenly",
        f"{FOLDER}/_folds.py",
        'order = order[np.argsort(labels[order], kind="stable")]',
        "pass",
        (f"{FOLDS}::test_each_sample_is_held_out_once_and_classes_are_spread_evenly",),
    ),
    Mutant(
        "folds: groups are put together whatever their classes",
        f"{FOLDER}/_folds.py",
        "cost = (there * shares[group]) @ weight",
        "cost = (there * shares[group]) @ (0 * weight)",
        (f"{FOLDS}::test_groups_stay_together",),
    ),
]
