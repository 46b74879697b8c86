"""How `onepass bench` takes times: visits in turn, samples, buffers; functions of one's own."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import tracemalloc

import numpy as np
import pytest
from onepass import bench
from onepass.bench import _rows, _run, _session, _timing
from onepass.bench._row import Context, Row, Workload
from small_bench import RELU, hurried, run  # noqa: F401  (a fixture)


def test_rows_are_visited_in_turn(capsys, monkeypatch, tmp_path):
    """With --repeat: checked once; an interrupted run goes on."""
    order, checks, known = [], [], _run.measured

    def measured(row, context, meter, before):
        if len(order) == 5 and not interrupted:
            raise KeyboardInterrupt
        order.append(row.name)
        return known(dataclasses.replace(row, make=lambda c: made(row, c)), context, meter, before)

    def made(row, context):
        workload = row.make(context)
        check = workload.check
        return dataclasses.replace(workload, check=lambda: checks.append(row.name) or check())

    monkeypatch.setattr(_session._run, "measured", measured)
    path, interrupted = tmp_path / "a.json", []
    only = [
        "--only",
        "^(relu|sigmoid) 65536",
        "--repeat",
        "4",
        "--json",
        path,
        "--against",
        "numpy",
    ]
    status, out, _ = run(capsys, *RELU, *only)
    assert status == 130
    assert out.count("sigmoid 65536 ") == 1
    rows = {row["row"]: row for row in json.loads(path.read_text())["results"]}
    assert {name: _run.visits(row) for name, row in rows.items()} == {
        "relu 65536": 3,
        "sigmoid 65536": 2,
    }
    interrupted.append(True)
    status, out, _ = run(capsys, *RELU, *only, "--resume")
    assert status == 0
    assert order == ["relu 65536", "sigmoid 65536"] * 4
    assert checks == ["relu 65536", "sigmoid 65536"]
    for row in json.loads(path.read_text())["results"]:
        for label, counts in row["visits"].items():
            assert len(counts) == 4
            assert sum(counts) == len(row["samples"][label])
            assert row["seconds"][label] == np.median(row["samples"][label])
        ours = row["seconds"]
        assert row["ratios"] == {"numpy out=": ours["numpy out="] / ours["onepass out="]}
        assert row["own"] == {"onepass out=": ours["onepass out="] / ours["onepass"]}
    assert {c.verdict for c in bench.compare(path, path).changes} == {"SAME"}


def test_arrays_of_another_visit_lie_elsewhere():
    """As other memory is taken before them; where they lie is malloc's choice."""

    def taken(visit):
        with _run._elsewhere(visit):
            return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert taken(0) < 1 << 12
        found = [taken(visit) for visit in range(1, 9)]
    finally:
        tracemalloc.stop()
    assert len(set(found)) == 8
    assert min(found) > 1 << 16
    assert max(found) > 1 << 21


def test_a_later_visit_that_fails_is_a_failed_row(capsys, monkeypatch, tmp_path):
    count = itertools.count()

    def make(context):
        if next(count) == 1:
            raise OverflowError("too much")
        return Workload({"onepass": lambda: None}, 1, 1.0)

    monkeypatch.setattr(_rows, "rows", lambda context: [Row("a", "optim", make)])
    path = tmp_path / "a.json"
    arguments = ["--repeat", "3", "--threads", "1", "--against", "none", "--plain-malloc"]
    status, out, _ = run(capsys, *arguments, "--json", path)
    assert status == 1
    assert len(re.findall("^a .*FAILED", out, re.MULTILINE)) == 1
    assert next(count) == 2  # not tried once more
    (row,) = json.loads(path.read_text())["results"]
    assert (row["wrong"], row["skipped"]) == (True, "OverflowError: too much")


def test_functions_take_turns_and_a_long_sample_ends(monkeypatch):
    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 4e-3)
    monkeypatch.setattr(_timing, "_preemptions", lambda: 0)
    log, now = [], [0.0]

    def call(name, *durations):
        turns = iter(durations)

        def function():
            log.append(name)
            now[0] += next(turns, durations[-1])

        return function

    # 16 calls make a sample; from the sixth call on each takes a second.
    functions = {"a": call("a", 1e-3), "b": call("b", *[250e-6] * 5, 1.0)}
    samples = _timing.interleaved(functions, 5, lambda: now[0])
    assert samples["a"] == pytest.approx([1e-3] * 5)
    assert samples["b"] == pytest.approx([1.0] * 5)
    # one and three to calibrate; then one to warm up and a sample, each round from another on
    a, b = ["a"] * 5, ["b"] * 3
    assert log == ["a"] * 4 + ["b"] * 4 + (a + b + b + a) * 2 + a + b


def test_preempted_samples_are_dropped_while_three_are_left(monkeypatch):
    now = [0.0]

    def function():
        now[0] += 1.0

    # Of eight samples every second one sees a change; then all of them.
    steps = iter([0, 0, 0, 1] * 4)
    monkeypatch.setattr(_timing, "_preemptions", lambda: next(steps))
    assert len(_timing.interleaved({"f": function}, 8, lambda: now[0])["f"]) == 4
    steps = itertools.count()
    monkeypatch.setattr(_timing, "_preemptions", lambda: next(steps))
    assert len(_timing.interleaved({"f": function}, 8, lambda: now[0])["f"]) == 8
    steps = iter([0, 0, 0, 1])  # the two of a visit are kept, as bench/README.md says
    assert len(_timing.interleaved({"f": function}, 2, lambda: now[0])["f"]) == 2


def test_buffers_rotate_until_the_cache_has_passed():
    made = []

    def make():
        made.append(len(made))
        return {"f": lambda own=made[-1]: own}

    functions = _timing.in_rotation(make, 100.0, 60)  # four times 60 bytes: three copies
    assert [functions["f"]() for _ in range(4)] == [0, 1, 2, 0]
    assert _timing.in_rotation(lambda: {"f": make}, 100.0, 0)["f"] is make


def test_quantiles():
    assert [_timing.quantile([4, 1, 3, 2, 5], q) for q in (0, 0.5, 0.9, 1)] == [1, 3, 4.6, 5]


def test_measure_for_own_functions():
    x = np.ones(1000, np.float32)

    def double():
        return x + x

    found = bench.measure(double, bytes=8000, against=[double, lambda: x * 2], rounds=3)
    assert list(found.samples) == ["double", "double 2", "other", "limit"]
    assert found.ratios.keys() == {"double 2", "other"}
    assert found.gb_per_s == pytest.approx(8e-6 / found.seconds["double"])
    assert re.search(r"^double .* GB/s, \d+% of the limit$", str(found), re.MULTILINE)
    for fails, words in (
        (
            lambda: bench.measure(double, bytes=10**30),
            r"'bytes' is 1e\+30, expected no more .* free",
        ),
        (lambda: bench.measure(double, bytes=10**400), "'bytes' is 1"),
        (lambda: bench.measure(3), "'fn' has 3, expected functions"),
        (lambda: bench.measure(double, against=[3]), "'against' has 3, expected functions"),
        (lambda: bench.measure(double, against=[double()]), "'against' has array"),
        (lambda: bench.measure(double, against=double), "'against' is <function"),
        (lambda: bench.measure(double, against="torch"), "'against' is 'torch', expected"),
        (lambda: bench.measure(double, bytes=0), "'bytes' is 0, expected"),
        (lambda: bench.measure(double, bytes="1 MB"), "'bytes' is '1 MB', expected"),
        (lambda: bench.measure(double, bytes=float("inf")), "'bytes' is inf, expected"),
        (lambda: bench.measure(double, rounds=0), "'rounds' is 0, expected"),
        (lambda: bench.measure(double, rounds=2.5), "'rounds' is 2.5, expected"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            fails()


@pytest.mark.parametrize("late", [0, 9], ids=["at once", "late"])
def test_the_function_that_raises_is_named(late, monkeypatch):
    count = itertools.count()

    def boom():
        if next(count) >= late:
            raise ZeroDivisionError("boom\nand more")

    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 1e-9)
    with pytest.raises(
        RuntimeError, match=r"^measure: 'mine' raised ZeroDivisionError: boom$"
    ) as e:
        bench.measure(lambda: None, against={"good": int, "mine": boom})
    assert isinstance(e.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("error", "skipped", "wrong"),
    [
        (OSError("gone"), "'torch' raised OSError: gone", True),
        (MemoryError(), "not enough memory", None),
    ],
)
def test_the_rival_that_raises_is_named(monkeypatch, error, skipped, wrong):
    def fails():
        raise error

    workload = Workload({"onepass": lambda: None, "torch": fails}, 1, 1.0)
    context = Context(threads=1, against=frozenset(["torch"]))
    found = _run.measured(Row("n", "optim", lambda _: workload), context, _run.Meter(rounds=1))
    assert (found["skipped"], found.get("wrong")) == (skipped, wrong)
