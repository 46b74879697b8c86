"""Planted mistakes in python/onepass/data, and files beside the packages: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/data"
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
        "CSV: the first cell decides the type of the target",
        f"{FOLDER}/_csv.py",
        "if count == len(cells):",
        "if _is_number(cells[0]):",
        (f"{TABLES}::test_a_target_that_begins_with_a_number_may_be_text",),
    ),
    Mutant(
        "CSV: the header alone tells the separator",
        f"{FOLDER}/_csv.py",
        "counts[0] > most and len(set(counts)) == 1",
        "counts[0] > most",
        ("tests/test_tables.py::test_the_separator_is_that_of_the_file",),
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
        "CSV: underscores in numbers",
        f"{FOLDER}/_csv.py",
        "_NUMBER.fullmatch(cell) is not None and",
        "_NUMBER.fullmatch(cell.replace('_', '')) is not None and",
        ("tests/test_tables.py::test_what_only_python_takes_for_a_number_is_none",),
    ),
    Mutant(
        "loader: the larger batches come last",
        f"{FOLDER}/_loader.py",
        "return number * size + min(number, larger)",
        "return number * size + max(0, number - (len(self) - larger))",
        ("tests/test_trainer_numbers.py::test_balanced_batches_differ_by_one_sample_at_most",),
    ),
]
