"""Planted mistakes in python/onepass/bench: see README.md."""

from __future__ import annotations

from mutant import Mutant

BENCH = [
    Mutant(
        "compare: what the machine changed counts as ours",
        "python/onepass/bench/_compare.py",
        "change = ours - machine_change(beside, machine, across)",
        "change = ours",
        ("tests/test_bench_compare.py::test_a_change_counts_beside_what_was_timed_with_it",),
    ),
    Mutant(
        "compare: medians of all samples, disturbed ones too",
        "python/onepass/bench/_compare.py",
        "logs[:, : (logs.shape[1] + 1) // 2].mean(axis=1)",
        "logs.mean(axis=1)",
        ("tests/test_bench_compare.py::test_the_rule_is_right_in_95_of_100",),
    ),
    Mutant(
        "compare: a row is slower without regard to its noise",
        "python/onepass/bench/_compare.py",
        "abs(x) <= max(LEAST, noise)",
        "abs(x) <= LEAST / 2",
        ("tests/test_bench_compare.py::test_the_rule_is_right_in_95_of_100",),
    ),
    Mutant(
        "compare: a limit that went wild is believed",
        "python/onepass/bench/_compare.py",
        "abs(ours.x - change.x - machine) > PLAUSIBLE",
        "False",
        ("tests/test_bench_compare.py::test_a_limit_that_went_wild_proves_nothing",),
    ),
    Mutant(
        "the page: the bar of the limit is that of the ratio",
        "python/onepass/bench/_html.py",
        "width = min(100.0, 100 * share)",
        "width = min(100.0, 50 * share)",
        ("tests/test_bench_html.py::test_the_page_in_a_browser",),
    ),
    Mutant(
        "the page: numbers are sorted as words",
        "python/onepass/bench/_html.py",
        "return number(x) - number(y);",
        "return x < y ? -1 : 1;",
        ("tests/test_bench_html.py::test_the_page_in_a_browser",),
    ),
    Mutant(
        "roofline: an array that is changed in place passes once",
        "python/onepass/bench/_limits.py",
        "return reads + writes + 2 * updates",
        "return reads + writes + updates",
        (
            "tests/test_bench_limits.py::test_a_roofline",
            "tests/test_bench_limits.py::test_a_limit_moves_the_bytes_of_the_row",
        ),
    ),
    Mutant(
        "a result that is no number has no error in ulps either",
        "python/onepass/bench/_check.py",
        "np.where(np.isnan(units), np.inf, units)",
        "units",
        ("tests/test_benchmark.py::test_no_number_is_infinitely_wrong",),
    ),
    Mutant(
        "clipping is checked with steps that do not depend on it",
        "python/onepass/bench/_check.py",
        "for factor in (np.float32(1), np.float32(3))",
        "for factor in (np.float32(1), np.float32(1))",
        ("tests/test_benchmark.py::test_clipping_and_clearing_are_checked",),
    ),
    Mutant(
        "a form with out= beside rivals that make new results",
        "python/onepass/bench/_rows.py",
        'any("out=" in label for label in rivals)',
        "rivals",
        ("tests/test_benchmark.py::test_like_is_compared_with_like",),
    ),
    Mutant(
        "a row finds nothing in a cache, and its limit everything",
        "python/onepass/bench/_rows.py",
        "rotates=rotates",
        "rotates=False",
        ("tests/test_benchmark.py::test_a_limit_rotates_where_its_row_does",),
    ),
    Mutant(
        "ours always comes after the same function",
        "python/onepass/bench/_timing.py",
        "first = turn % max(1, len(names))",
        "first = 0",
        ("tests/test_benchmark.py::test_each_round_begins_with_another",),
    ),
    Mutant(
        "one disturbed call sets the size of all samples",
        "python/onepass/bench/_timing.py",
        "least = min(least, clock() - start)",
        "least = clock() - start",
        ("tests/test_benchmark.py::test_one_disturbed_call_does_not_set_the_size_of_samples",),
    ),
]
