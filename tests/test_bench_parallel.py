"""`onepass bench parallel`: its table, wrong lines, missing parts, the model on paper."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onepass import parallel
from onepass.bench import _parallel, _parallel_groups, _parallel_model, _parallel_run, _timing
from onepass.bench._command import main
from onepass.bench._end_to_end import ours
from onepass.bench._parallel_groups import EndedError, Group
from onepass.bench._parallel_model import Link, Step
from onepass.bench._parallel_rank import Layers, Silent, loop, trained
from onepass.bench._training import SMOOTH
from onepass.data._shares import Share, share_of
from ranks import needs_mpiexec, run_threads

SMALL = Layers("step of 6-8-8-10 batch 8", (6, 8, 8, 10), 8, 0.2)
PLAIN = Layers("step of 6-8-10 batch 8", (6, 8, 10), 8, 0.2, False)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Small steps, few samples, and no rest between them."""
    monkeypatch.setattr(_timing, "REST_SECONDS", 0.0)
    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setattr(_parallel_run, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setattr(_parallel_run, "SIZES", (8, 4096))
    for module in (_parallel, _parallel_run):
        monkeypatch.setattr(module, "STEPS", {"small": SMALL, "plain": PLAIN})


def run(capsys, *arguments):
    """(exit status, standard output, standard error)"""
    status = main(["parallel", "--rounds", "2", "--threads", "2", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_what_a_run_prints_and_writes(capsys, tmp_path):
    needs_mpiexec()
    file = tmp_path / "a.json"
    given = ["--ranks", "2,3", "--against", "none", "--at", "4,16", "--json", file]
    status, out, err = run(capsys, *given, "--latency", "1e-3", "--bandwidth", "1e9")
    assert (status, err) == (0, "")
    found = json.loads(file.read_text())
    assert found["options"]["ranks"] == [1, 2, 3]
    lines = {(line["step"], line["form"], line["ranks"]): line for line in found["lines"]}
    forms = [("loop", n) for n in (1, 2, 3)] + [("Trainer", n) for n in (1, 2, 3)]
    wanted = {(SMALL.name, *form) for form in [*forms, ("own norms", 2), ("own norms", 3)]}
    assert lines.keys() == wanted | {(PLAIN.name, *form) for form in forms}
    for (_, form, ranks), line in lines.items():
        assert line["threads"] == max(1, 2 // ranks)
        assert 0 < min(line["samples"]) <= line["low"] <= line["seconds"] <= line["high"]
        assert line["wrong"] == ""
        if form == "own norms":
            assert line["error"] is None
        else:
            assert line["error"] == 0 if ranks == 1 else line["error"] < 2e-5
    assert re.search(r"^  onepass Trainer +3 +1 +[\d.]+ .s \([\d.e+]+-[\d.e+]+\) +[\d.]+x  \d", out,
                     re.MULTILINE)  # fmt: skip
    assert out.count("onepass own norms  ") == 2 + 1  # and the legend
    for sums in found["sums"]:
        line = zip(sums["bytes"], sums["seconds"], strict=True)
        assert all(t > 0 for _, t in line)
        by = [sums["latency"] + sums["seconds_per_byte"] * n for n in sums["alone"]["sums"]]
        assert math.isclose(sums["predicted"], sums["alone"]["seconds"] + sum(by))
        assert sums["measured"] == lines[sums["step"], "loop", sums["ranks"]]["seconds"]
    for paper in found["paper"]:
        by = Link(1e-3, 1e-9, paper["seconds_per_byte_added"])
        step = Step(*(paper[name] for name in ("sums", "computes", "backward", "last")))
        for overlap, words in ((False, "without"), (True, "with overlap")):
            for name, seconds in paper["seconds"][words].items():
                assert step.seconds(name, paper["ranks"], by, overlap=overlap) == seconds
    assert [(p["step"], p["ranks"], p["rows"]) for p in found["paper"]][:4] == [
        (SMALL.name, 4, 4), (SMALL.name, 16, 4), (SMALL.name, 4, 2), (SMALL.name, 16, 2)
    ]  # fmt: skip


def test_beside_torch(capsys):
    """Eager, and DistributedDataParallel on two ranks."""
    pytest.importorskip("torch")
    status, out, _ = run(capsys, "--only", "plain", "--ranks", "2")
    assert status == 0
    assert re.search(r"^  torch +1 +2 .* 1\.00x", out, re.MULTILINE)
    assert re.search(r"^  torch DDP gloo +2 +1 .*\dx", out, re.MULTILINE)
    assert "WRONG" not in out.partition("time  ")[0]


def test_what_is_missing_is_a_line(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    gone = ("mpi4py", "torch")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in gone else find_spec(name, *a)
    )
    from onepass.bench._peers import _library

    _library._absent.cache_clear()
    try:
        status, out, _ = run(capsys, "--only", "plain")
    finally:
        _library._absent.cache_clear()
    assert status == 0
    assert re.search(r"^  onepass +1 +2 ", out, re.MULTILINE)
    for line in (
        "onepass on 2 ranks: mpi4py or mpiexec is not installed (pip install onepass[mpi])",
        "torch: not installed (pip install torch)",
        "torch on 2 ranks: not installed (pip install torch)",
    ):
        assert f"not measured: {line}\n" in out


class Told(Group):
    """Processes whose answers are the test's."""

    change = 0.0
    differ = False

    def __init__(self, library, size, threads, network, folder):
        self.library, self.size, self.threads = library, size, threads
        self.network, self.folder = network, folder

    def close(self):
        pass

    def ask(self, question, *arguments):
        if question == "check":
            path = self.folder / f"{self.size}{arguments[0]}.npy"
            values = np.concatenate([p.reshape(-1) for p in self.network.parameters()]) + 1
            if self.size > 1:
                values[-1] += self.change
            np.save(path, values)
            return [{"digest": str(rank * self.differ), "path": path} for rank in range(self.size)]
        one = {
            "make": {"at_once": 1},
            "alone": {"sums": [8, 4096], "seconds": 2.0, "backward": 1.0},
        }.get(question, 0.5)
        return [one] * self.size


@pytest.mark.parametrize(
    ("change", "differ", "said"),
    [
        (1e-4, False, ""),
        (3e-4, False, "parameters are not those of one process: 0.0003"),
        (np.nan, False, "parameters are not those of one process: inf"),
        (0.0, True, "parameters of ranks differ"),
    ],
)
def test_ranks_that_compute_something_else_are_wrong(capsys, monkeypatch, change, differ, said):
    """Beyond 1e-4 of the largest change, which is 1 here."""
    monkeypatch.setattr(Told, "change", change)
    monkeypatch.setattr(Told, "differ", differ)
    monkeypatch.setattr(_parallel_run, "Group", Told)
    monkeypatch.setattr(_parallel_run, "SHARE", 2e-4)
    monkeypatch.setattr(_parallel_run, "lacking", lambda library, size: "")
    status, out, _ = run(capsys, "--only", "plain", "--against", "none")
    assert status == bool(said)
    wrong = re.findall(r"^  (.*?) +2 .*WRONG: (.*)", out, re.MULTILINE)
    assert wrong == ([("onepass", said), ("onepass Trainer", said)] if said else [])


WRONG = {
    "--ranks 0": "--ranks: '0', expected numbers of ranks such as 1,2",
    "--ranks 5": "--ranks 5: expected at most 4, which have two samples each of a batch of 8",
    "--only smal": "--only: 'smal', expected some of small, plain; did you mean 'small'",
    "--latency -1": "--latency: '-1', expected a number > 0",
    "--bandwidth inf": "--bandwidth: 'inf', expected a number > 0",
    "--rounds 0": "--rounds: '0', expected a number from 1 to 1024",
    "--rounds 1,2": "--rounds: '1,2', expected a number from 1 to 1024",
    "--json no/such/a.json": "--json: 'no/such/a.json', but there is no folder no/such",
    "--colour": "unrecognized arguments: --colour",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use_is_one_line(capsys, line):
    status, out, err = run(capsys, *line.split())
    assert (status, out) == (2, "")
    assert re.fullmatch(f"onepass bench parallel: (argument )?{re.escape(WRONG[line])}.*\n", err)


def test_a_file_that_is_there_is_kept(capsys, tmp_path):
    file = tmp_path / "a.json"
    file.write_text("a run of an hour")
    status, _, err = run(capsys, "--json", file)
    assert (status, file.read_text()) == (2, "a run of an hour")
    assert f"--json {file}: the file is there already" in err
    assert "--overwrite" in err


@pytest.mark.parametrize("where", ["of the run", "at its end"])
def test_what_fails_says_itself(capsys, monkeypatch, tmp_path, where):
    """And a file that cannot be written is named, but no other."""
    file = tmp_path / "a.json"

    def fails(run):
        raise OSError(28, "No space left on device", "parameters.npy")

    def ends(run):
        file.mkdir()
        return True

    monkeypatch.setattr(_parallel.Run, "run", fails if where == "of the run" else ends)
    status, out, err = run(capsys, "--json", file)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert ("No space left on device: 'parameters.npy'" in err) == (where == "of the run")
    assert (str(file) in err) == (where == "at its end")


def test_a_process_that_is_silent_ends_the_run(monkeypatch, tmp_path):
    def silent(library, size, program):
        connected = (
            f"import socket, time; s = socket.create_connection(('127.0.0.1', {program[3]}))"
        )
        return [([program[0], "-c", f"{connected}; time.sleep(60)"], {})]

    monkeypatch.setattr(_parallel_groups, "_commands", silent)
    monkeypatch.setattr(_parallel_groups, "SECONDS", 0.2)
    with pytest.raises(EndedError, match=r"did not say its rank: .*timed out"):
        Group("onepass", 1, 1, PLAIN, tmp_path)


# ---- what the processes do


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for ranks in /proc")
def test_sigterm_leaves_no_process_and_no_folder(tmp_path):
    """As `timeout` sends it, with ranks that wait for a question."""
    needs_mpiexec()
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-m", "onepass.bench", "parallel", "--ranks", "1,2", "--threads",
               "2", "--only", "demo", "--against", "none", "--rounds", "1024"]  # fmt: skip
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as bench:
        try:
            deadline = time.monotonic() + 120
            while len(of_folder(folder)) < 3 and bench.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            bench.terminate()
            assert bench.wait(30) == 128 + signal.SIGTERM
        finally:
            bench.kill()
    deadline = time.monotonic() + 10
    while of_folder(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_folder(folder) == []
    assert list(folder.iterdir()) == []


def of_folder(folder):
    """The command lines of ranks that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line and "_parallel_rank" in line and "mpiexec" not in line:
                found.append(line)
    return found


@pytest.mark.parametrize("size", [1, 2])
def test_processes_that_fail_say_why_and_end(tmp_path, size):
    if size > 1:
        needs_mpiexec()
    group = Group("onepass", size, 1, PLAIN, tmp_path)
    try:
        with pytest.raises(EndedError, match=r"AttributeError.*'fly'"):
            group.ask("fly")
    finally:
        group.close()
    assert all(process.poll() is not None for process in group._started)


def test_steps_are_those_of_the_end_to_end_row():
    """The parameters of the loop, of `Trainer.fit` and of the row of one process."""
    row = ours(SMALL, SMOOTH, True)
    for _ in range(3):
        row.run()
    share = Share(0, SMALL.batch, SMALL.rows)
    for make in (
        lambda: loop(SMALL, SMOOTH, parallel.Alone(), share),
        lambda: trained(SMALL, SMOOTH, None, 3),
    ):
        steps = make()  # which seeds the masks anew
        assert steps.run(3) > 0
        for got, want, start in zip(steps.read(), row.read(), SMALL.parameters(), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)
            assert np.abs(want - start).max() > 1e-3


def test_a_network_without_norms_keeps_its_layers():
    from onepass import nn

    model = PLAIN.modules(nn, True)
    kinds = [type(part).__name__ for part in model]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]
    shapes = [p.shape for p in PLAIN.parameters()]
    assert shapes == [p.shape for p in model.parameters()] == [(8, 6), (8,), (10, 8), (10,)]


def test_a_silent_rank_takes_the_step_of_ranks_that_are_alike():
    """Parameters, and bytes of each sum, as of three real ranks with the same rows."""
    rows = tuple(part[:4] for part in SMALL.rows)
    network = dataclasses.replace(SMALL, p=0.0)  # masks are those of a place in the batch

    def real(comm):
        steps = loop(network, SMOOTH, comm, Share(0, 12, rows))
        steps.run(2)
        return [p.copy() for p in steps.read()]

    silent = Silent(3)
    steps = loop(network, SMOOTH, silent, Share(0, 12, rows))
    steps.run(1)
    silent.sums.clear()
    steps.run(1)
    wanted = run_threads(real, 3)[0]
    for got, want in zip(steps.read(), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    size = 4 * sum(p.size for p in SMALL.parameters())
    tables = [3 * 5 * 8 * 8] * 2 + [3 * 3 * 8 * 8] * 2  # two norms of 8 channels, both ways
    assert silent.sums == [*tables, 8 * len(SMALL.parameters()), size]


def test_shares_of_the_ranks_make_the_batch():
    x, t = SMALL.rows
    for size in (2, 3):
        parts = [share_of((x, t), rank, size).rows for rank in range(size)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), x)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), t)


# ---- the model on paper


def played(algorithm, n, p, by):
    """The same, by the messages of one rank: (bytes, bytes to add) of each round."""
    if algorithm == "doubling":
        rounds = [(n, n)] * round(math.log2(p))
    elif algorithm == "halving":
        parts = [n / 2**k for k in range(1, round(math.log2(p)) + 1)]
        rounds = [(part, part) for part in parts] + [(part, 0) for part in reversed(parts)]
    else:
        rounds = [(n / p, n / p)] * (p - 1) + [(n / p, 0)] * (p - 1)
    return sum(by.latency + sent * by.inverse + added * by.adding for sent, added in rounds)


@pytest.mark.parametrize("algorithm", _parallel_model.ALGORITHMS)
def test_costs_are_those_of_the_messages(algorithm):
    by = Link(3e-6, 2e-10, 5e-11)
    for p in (2, 4, 64, 1024):
        for n in (8, 1e4, 1e8):
            want = played(algorithm, n, p, by)
            assert math.isclose(_parallel_model.ALGORITHMS[algorithm](n, p, by), want)
    assert _parallel_model.doubling(8, 5, by) == _parallel_model.doubling(8, 8, by)


def test_overlap_hides_gradients_behind_the_backward_at_best():
    """All but the first layer's; sums of norms are never hidden."""
    by = Link(0.0, 1e-6, 0.0)  # two ranks: a second for 10⁶ bytes
    step = Step([1_000_000, 50_000], computes=3.0, backward=0.25, last=0.1)
    assert math.isclose(step.seconds("doubling", 2, by), 3.0 + 0.05 + 1.0)
    assert math.isclose(step.seconds("doubling", 2, by, overlap=True), 3.0 + 0.05 + 0.75)
    longer = Step([1_000_000, 50_000], computes=3.0, backward=2.0, last=0.1)
    assert math.isclose(longer.seconds("doubling", 2, by, overlap=True), 3.0 + 0.05 + 0.1)
    assert (step.gradients, step.others) == (1_000_000, [50_000])


def test_small_sums_go_by_doubling():
    by = Link(1.0, 0.0, 0.0)
    step = Step([1 << 20, 1 << 16, (1 << 16) + 1], 0.0, 0.0, 0.0)
    assert step.seconds("ring", 8, by) == 14 + 3 + 14


def test_the_line_through_sums():
    sizes = [8, 1000, 10**6, 10**8]
    a, b = _parallel_model.fitted(sizes, [5e-6 + 2e-10 * n for n in sizes])
    assert math.isclose(a, 5e-6)
    assert math.isclose(b, 2e-10)
    a, b = _parallel_model.fitted([10, 1000], [1e-6, 2e-4])  # steeper than any line from 0 on
    assert a == 0 < b < 2e-7
    a, b = _parallel_model.fitted([10, 1000], [2e-4, 1e-4])
    assert b == 0 < a < 2e-4
