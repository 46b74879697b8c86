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
        "rivals: the products of a step are not those that Linear calls",
        "python/onepass/bench/_training.py",
        "np.dot(values[i], w.T, out=results[i + 1])",
        "np.matmul(values[i], w.T, out=results[i + 1])",
        ("tests/test_bench_rivals.py::test_the_products_are_those_of_our_step",),
    ),
    Mutant(
        "rivals: a step that gives NaN is right",
        "python/onepass/bench/_end_to_end.py",
        "float(np.max([*off, abs(loss - want_loss) / (1e-5 * want_loss)]))",
        "max([*off, abs(loss - want_loss) / (1e-5 * want_loss)])",
        (
            "tests/test_bench_rivals.py::test_the_check_of_a_step_sees_a_mistake",
            "tests/test_bench_rivals.py::test_the_check_of_a_step_sees_a_loss_that_is_no_number",
        ),
    ),
    Mutant(
        "rivals: what is timed of PyTorch's step reads the parameters",
        "python/onepass/bench/_peers/_torch.py",
        "return Step(run, lambda: [p.detach() for p in tensors])",
        "return Step(lambda: (run(), [p.detach() for p in tensors]), lambda: tensors)",
        ("tests/test_bench_rivals.py::test_a_timed_step_looks_at_no_parameter",),
    ),
    Mutant(
        "rivals: PyTorch's eager form is its foreach form",
        "tests/cases/_optimizer.py",
        'own = {"foreach": False} if form == "eager" else {form: True}',
        'own = {"foreach": True} if form == "eager" else {form: True}',
        ("tests/test_bench_rivals.py::test_the_eager_form_is_a_loop",),
    ),
    Mutant(
        "rivals: ours writes into memory that is there beside rivals that make results",
        "tests/cases/_norm.py",
        "return op_backward(dy, saved)",
        "return op_backward(dy, saved, out=dy)",
        ("tests/test_bench_rivals.py::test_ours_makes_new_results_where_all_rivals_do",),
    ),
    Mutant(
        "rivals: whole steps stand beside a kernel",
        "python/onepass/bench/_peers/__init__.py",
        "found = library.functional if functional else library.steps",
        "found = library.steps",
        ("tests/test_bench_rivals.py::test_beside_a_kernel_no_class_takes_the_step",),
    ),
    Mutant(
        "rivals: JAX splits a key for a kernel that draws no bits",
        "python/onepass/bench/_peers/_jax.py",
        "    if draws:\n",
        "    if True:\n",
        ("tests/test_bench_rivals.py::test_jax_splits_a_key_only_where_bits_are_drawn",),
    ),
    Mutant(
        "rivals: another thread of JAX's computes what one thread is asked for",
        "python/onepass/bench/_peers/_jax.py",
        'jax.config.update("jax_cpu_enable_async_dispatch", False)',
        'jax.config.update("jax_cpu_enable_async_dispatch", True)',
        ("tests/test_bench_rivals.py::test_one_thread_of_a_rival_is_the_one_that_calls",),
    ),
    Mutant(
        "rivals: processor time counts rivals that compute in other threads",
        "python/onepass/bench/_run.py",
        "if meter.clock is time.thread_time:",
        "if False:",
        ("tests/test_bench_rivals.py::test_processor_time_leaves_out_what_it_cannot_count",),
    ),
    Mutant(
        "rivals: a form that PyTorch lacks vanishes in silence",
        "python/onepass/bench/_peers/__init__.py",
        "missing[label] = str(made)",
        "pass",
        (
            "tests/test_bench_rivals.py::test_a_form_that_refuses_an_option_is_a_line",
            "tests/test_bench_rivals.py::test_pytorch_takes_part_in_each_form_that_it_has",
        ),
    ),
]
