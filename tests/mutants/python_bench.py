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
        "bench: a NaN in the file is no JSON",
        "python/onepass/bench/_table.py",
        "not math.isfinite(value)",
        "math.isinf(value)",
        ("tests/test_bench_command.py::test_a_wrong_kernel_fails",),
    ),
    Mutant(
        "bench: a rival with out= is compared with ours without",
        "python/onepass/bench/_run.py",
        "theirs / seconds[own_form(label, seconds)]",
        'theirs / seconds["onepass"]',
        ("tests/test_bench_command.py::test_forms_of_ours_stand_beside_the_rivals",),
    ),
    Mutant(
        "bench: a row that failed ends with status 0",
        "python/onepass/bench/_run.py",
        'line_of(error)) | {"wrong": True}',
        "line_of(error))",
        ("tests/test_bench_command.py::test_a_run_goes_on_after_a_row_that_raises",),
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
]
