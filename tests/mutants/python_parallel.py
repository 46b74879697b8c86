"""Planted mistakes in training on several processes: see README.md."""

from __future__ import annotations

from mutant import Mutant

LOOP = "python/onepass/train/_shared_loop.py"
GRADIENTS = "python/onepass/train/_shared_gradients.py"
RANKS = "python/onepass/train/_ranks.py"
SHARES = "python/onepass/data/_shares.py"
MODEL = "python/onepass/bench/_parallel_model.py"
TRAINER = "tests/test_parallel_trainer.py"
BENCH = "tests/test_bench_parallel.py"
MODELS = "tests/test_parallel_models.py"
BATCHES = "tests/test_parallel_batches.py"
SAME = f"{TRAINER}::test_ranks_are_one_process"
BITS = f"{TRAINER}::test_reproducible_has_the_same_bits_on_any_number_of_ranks"

PARALLEL = [
    Mutant(
        "ranks: the gradient of a share is its mean",
        LOOP,
        "dy = dy if share == 1 else dy * share",
        "dy = dy * 1",
        (f"{SAME}[plain-3]",),
    ),
    Mutant(
        "ranks: every share has the masks of the first rows",
        LOOP,
        "place(model, piece.first)",
        "place(model, 0)",
        (f"{SAME}[dropout-2]",),
    ),
    Mutant(
        "ranks: the pieces of a rank have masks of several calls",
        LOOP,
        "if number:  # all pieces",
        "if number < 0:  # all pieces",
        (f"{BITS}[dropout]",),
    ),
    Mutant(
        "ranks: only the rank that is to stop stops",
        LOOP,
        "interrupted, self._stopped = map(bool, flags[:2].tolist())",
        "interrupted, self._stopped = bool(flags[0]), run.stop",
        (f"{TRAINER}::test_where_one_rank_is_to_stop_all_do",),
    ),
    Mutant(
        "ranks: a stop that comes after the flags were read stops one",
        LOOP,
        "        self.run.stop |= self._stopped\n        return self._stopped",
        "        return self.run.stop or self._stopped",
        (f"{TRAINER}::test_a_stop_that_comes_while_ranks_wait_for_each_other_stops_all",),
    ),
    Mutant(
        "ranks: none waits until rank 0 has written what an error of all leaves",
        LOOP,
        "            self._ranks.comm.barrier()",
        "            pass",
        ("tests/test_parallel_trainer_processes.py::test_an_error_of_all_ranks_lets_rank_0_write",),
    ),
    Mutant(
        "ranks: a penalty of batches counts once for each rank",
        LOOP,
        "part = len(x) / piece.total",
        "part = 1.0",
        (f"{TRAINER}::test_penalties_of_batches[2-equal]",),
    ),
    Mutant(
        "ranks: a validation counts the samples of the own share",
        LOOP,
        "        table = totals.filled()\n        ranks.comm.sum_(table)\n",
        "        table = totals.filled()\n",
        (f"{SAME}[plain-2]",),
    ),
    Mutant(
        "ranks: losses and divisors stay those of the own share",
        GRADIENTS,
        "self._sum(extra=numbers)",
        "self._sum()",
        (f"{SAME}[plain-2]",),
    ),
    Mutant(
        "ranks: with reproducible, losses stay those of the own share",
        GRADIENTS,
        "self._over_ranks(sums, extra=numbers)",
        "self._over_ranks(sums)",
        (f"{BITS}[plain]",),
    ),
    Mutant(
        "ranks: sums of pieces are added up one after the other, not as a tree",
        GRADIENTS,
        "        self._sums.append((pieces, sums))",
        "        if self._sums:\n"
        "            sums = _added(self._sums.pop()[1], sums)\n"
        "        self._sums.append((pieces, sums))",
        (f"{BITS}[float32]",),
    ),
    Mutant(
        "ranks: a loss that is a sum is divided",
        RANKS,
        "divisor = 1.0 if totals.summed else float(row[DIVISOR])",
        "divisor = float(row[DIVISOR]) or 3.0",
        (f"{SAME}[a sum-2]",),
    ),
    Mutant(
        "ranks: rows that do not divide by the ranks are left out",
        SHARES,
        "return part * total // parts, (part + 1) * total // parts",
        "return total // parts * part, total // parts * (part + 1)",
        (f"{SAME}[plain-3]",),
    ),
    Mutant(
        "ranks: pieces of a share are counted from its first row",
        SHARES,
        "own = slice(begin - self.first, end - self.first)",
        "own = slice(begin, end)",
        (f"{BITS}[plain]",),
    ),
    Mutant(
        "ranks: a transform that says nothing of samples gets shares",
        SHARES,
        'bool(getattr(transform, "by_sample", False))',
        'bool(getattr(transform, "by_sample", True))',
        (f"{TRAINER}::test_a_share_of_a_transform_by_sample_reads_its_rows_alone",),
    ),
    Mutant(
        "ranks: batches from outside are not compared",
        RANKS,
        "self._seen = samples + share.total, mark, ends",
        "self._seen = samples + share.total, 0, ends",
        (f"{BATCHES}::test_batches_that_differ_are_refused_by_all[another seed-plain]",),
    ),
    Mutant(
        "ranks: a copy of the model keeps what a hook has edited",
        "python/onepass/train/_replicas.py",
        "            self.replicas.copy()",
        "                self.replicas.copy()",
        (f"{MODELS}::test_what_a_hook_edits_reaches_all_pieces[anneal]",),
    ),
    Mutant(
        "ranks: norms of a hook that calls the model wait for the others",
        "python/onepass/train/_replicas.py",
        "            self._gate.is_open = False",
        "            pass",
        (f"{MODELS}::test_a_hook_of_one_rank_may_call_the_model[plain]",),
    ),
    Mutant(
        "ranks: a share without rows draws no masks",
        LOOP,
        "        if streams_of(model):",
        "        if not model:",
        (f"{MODELS}::test_a_rank_without_rows_calls_no_module_with_none[-picky]",),
    ),
    Mutant(
        "ranks: each decides by its own rows what outputs are",
        LOOP,
        "        totals.settle([(p.output",
        "        list([(p.output",
        (f"{MODELS}::test_all_ranks_decide_together_what_outputs_are",),
    ),
    Mutant(
        "ranks: a layer that came since has no place",
        "python/onepass/nn/_shares.py",
        "if found is None or found[0] != count:",
        "if found is None:",
        ("tests/test_dropout_rows.py::test_a_layer_that_came_since_has_the_place_too",),
    ),
    Mutant(
        "gradients: those of float64 are summed in float32",
        "python/onepass/parallel/_gradients.py",
        "return _OF_DOUBLE if grad.dtype == np.float64 else _OF_SINGLE",
        "return _OF_SINGLE",
        ("tests/test_parallel_gradients.py::test_every_gradient_is_the_sum_over_ranks",),
    ),
    Mutant(
        "bench parallel: a ring sends all in each round",
        MODEL,
        "return 2 * (ranks - 1) * by.latency + _scattered(count, ranks, by)",
        "return 2 * (ranks - 1) * (by.latency + count * by.inverse)",
        (f"{BENCH}::test_costs_are_those_of_the_messages",),
    ),
    Mutant(
        "bench parallel: overlap hides the last gradients too",
        MODEL,
        "sent = max(sent - self.backward, cost(self.last * self.gradients, ranks, by))",
        "sent = max(sent - self.backward, 0.0)",
        (f"{BENCH}::test_overlap_hides_gradients_behind_the_backward_at_best",),
    ),
    Mutant(
        "bench parallel: NaN is right",
        "python/onepass/bench/_parallel_run.py",
        "if error is not None and not error <= SHARE:",
        "if error is not None and SHARE < error < 1:",
        (f"{BENCH}::test_ranks_that_compute_something_else_are_wrong",),
    ),
    Mutant(
        "parallel: who learns of a failure by another rank names that one",
        "python/onepass/parallel/_calls.py",
        "max(s.broken_by for s in states) - 1",
        "[s.broken_by > 0 for s in states].index(True)",
        (
            "tests/test_parallel_failures.py::test_who_learns_of_a_failure_by_another_rank_says_whose_it_is",
        ),
    ),
]
