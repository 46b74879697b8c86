"""Planted mistakes in python/onepass/bench: see README.md."""

from __future__ import annotations

from mutant import Mutant

BENCH = [
    Mutant(
        "compare: what the machine changed counts as ours",
        "python/onepass/bench/_changes.py",
        "found = ours - _machine_change(beside, machine, across)",
        "found = ours",
        ("tests/test_bench_compare.py::test_a_change_counts_beside_what_was_timed_with_it",),
    ),
    Mutant(
        "compare: medians of all samples, disturbed ones too",
        "python/onepass/bench/_changes.py",
        "logs[:, : (logs.shape[1] + 1) // 2].mean(axis=1)",
        "logs.mean(axis=1)",
        ("tests/test_bench_compare.py::test_the_rule_is_right_in_95_of_100",),
    ),
    Mutant(
        "compare: a row is slower without regard to its noise",
        "python/onepass/bench/_compare.py",
        "abs(change.x) <= max(LEAST, noise)",
        "abs(change.x) <= LEAST / 2",
        ("tests/test_bench_compare.py::test_the_rule_is_right_in_95_of_100",),
    ),
    Mutant(
        "compare: a limit that went wild is believed",
        "python/onepass/bench/_changes.py",
        "abs(ours.x - x - machine.median) > PLAUSIBLE",
        "False",
        ("tests/test_bench_compare.py::test_a_limit_that_went_wild_proves_nothing",),
    ),
    Mutant(
        "compare: noise between runs is not learned",
        "python/onepass/bench/_changes.py",
        ">= UNCHANGED:",
        ">= 0:",
        (
            "tests/test_bench_compare.py::test_the_rule_is_right_in_95_of_100",
            "tests/test_bench_compare.py::test_noise_is_learned_from_what_did_not_change",
        ),
    ),
    Mutant(
        "compare: the limit is believed beside rivals that say otherwise",
        "python/onepass/bench/_changes.py",
        "return x if abs(x) > max(",
        "return x if abs(x) > 9 + max(",
        (
            "tests/test_bench_compare.py::test_what_slows_our_pool_is_no_slower_machine",
            "tests/test_bench_compare.py::test_our_pool_slower_in_many_noisy_rows",
        ),
    ),
    Mutant(
        "compare: what can be seen leaves out the noise of what is seen",
        "python/onepass/bench/_changes.py",
        "return max(LEAST, noise(change)) + POWER * change.deviation",
        "return max(LEAST, noise(change))",
        ("tests/test_bench_compare.py::test_same_says_what_it_cannot_see",),
    ),
    Mutant(
        "compare: of a library of another version, only its own functions are left out",
        "python/onepass/bench/_peers/__init__.py",
        "named.union(*(LIBRARIES[name].needs for name in named))",
        "named",
        (
            "tests/test_bench_compare.py"
            "::test_a_rival_of_another_version_is_not_what_ours_is_compared_with",
        ),
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
