"""`onepass bench` as people use it: what it prints and writes, wrong rows, wrong use, the wheel."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass import bench, nn
from onepass.bench import (
    _check,
    _kernels,
    _networks,
    _rows,
    _run,
    _session,
    _table,
    _timing,
)
from onepass.bench._command import main
from onepass.bench._records import cases
from onepass.bench._row import GROUPS, Check, Context, Row, Workload

ROOT = Path(__file__).parents[1]
RELU = ["--only", "^relu 65536", "--threads", "1", "--against", "none", "--plain-malloc"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Few samples, and no rest between them."""
    monkeypatch.setattr(_timing, "REST_SECONDS", 0.0)
    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 1e-4)


def run(capsys, *arguments):
    """(exit status, standard output, standard error)"""
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_what_a_run_prints_and_writes(capsys, tmp_path):
    files = {kind: tmp_path / f"a.{kind}" for kind in ("json", "csv")}
    given = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    status, out, err = run(capsys, *RELU, "--against", "numpy", *given)
    assert (status, err) == (0, "")
    assert re.search(
        r"^relu 65536 +1 +[\d.]+ us \([\d.]+-[\d.]+\) .* exact +numpy out= [\d.]+x"
        r"  onepass out= [\d.]+x$",
        out,
        re.MULTILINE,
    )
    assert "1 of 1 rows" in out or "0 of 1 rows" in out
    data = json.loads(files["json"].read_text())
    assert data["format"] == 2
    assert data["options"]["against"] == ["numpy"]
    assert {"date", "cpu", "cpus", "caches", "numpy", "onepass"} <= data["machine"].keys()
    (row,) = data["results"]
    assert (row["row"], row["group"], row["device"], row["dtype"], row["threads"]) == (
        "relu 65536", "activation", "cpu", "float32", 1,
    )  # fmt: skip
    assert (row["elements"], row["bytes"], row["streams"]) == (1 << 16, 8 << 16, [1, 1, 0])
    assert list(row["samples"]) == ["onepass", "onepass out=", "numpy out=", "limit"]
    for label, samples in row["samples"].items():
        assert min(samples) <= row["low"][label] <= row["seconds"][label] <= row["high"][label]
    assert row["ratios"].keys() == {"numpy out="}
    assert (row["error"], row["wrong"]) == (0.0, False)
    lines = files["csv"].read_text().splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("relu 65536,activation,cpu,float32,1,65536,524288,onepass,")


def leaky_relu(monkeypatch, change):
    """The only row is that of a kernel whose result is changed."""
    case = cases.BY_NAME["leaky_relu"]

    def op(x, out=None, **options):
        return change(case.op(x, out=out, **options))

    monkeypatch.setattr(cases, "CASES", [dataclasses.replace(case, op=op)])
    return [*RELU, "--only", "leaky_relu 65536"]


def test_a_wrong_kernel_fails(capsys, monkeypatch, tmp_path):
    """One element in 65,536 that is off by three roundings; or no number."""

    def off(y):
        y[-1] *= np.float32(1 + 3 * 2**-23)
        return y

    def nan(y):
        y[-1] = np.nan
        return y

    assert json.loads(_table.json_text([np.nan, (-np.inf, 2.0)])) == [None, [None, 2.0]]
    files = [f"--{kind}={tmp_path}/a.{kind}" for kind in ("json", "html", "csv")]
    for change, words in ((off, "error .* times its bound"), (nan, "no result")):
        with monkeypatch.context() as patch:
            status, out, _ = run(capsys, *leaky_relu(patch, change), *files, "--overwrite")
        assert status == 1
        assert re.search(r"leaky_relu 65536 .* WRONG", out)
        assert re.search(f"^WRONG: leaky_relu 65536, 1 thread: {words}", out, re.MULTILINE)
        text = (tmp_path / "a.json").read_text()
        (result,) = json.loads(text, parse_constant=pytest.fail)["results"]
        assert (result["wrong"], result["error"] is None) == (True, change is nan)
        # as a run that goes on with the file, and the page of figures, read it again
        assert words.split()[-1] in " ".join(_table.summary([result], {}))
        page = (tmp_path / "a.html").read_text(encoding="utf-8")
        embedded = re.search(r'id="results">(.*?)</script>', page, re.DOTALL)[1]
        assert json.loads(embedded, parse_constant=pytest.fail) == json.loads(text)


def test_a_run_goes_on_after_a_row_that_raises(capsys, monkeypatch, tmp_path):
    """A kernel, or what a row has of a rival; each is a line, and the next row is measured."""

    def broken(y):
        raise ValueError("no\nsuch thing")

    def fails(context):
        raise AttributeError("module 'torch.optim' has no attribute 'Muon'")

    arguments = leaky_relu(monkeypatch, broken)
    relu = Row("relu 1", "activation", lambda _: Workload({"onepass": lambda: None}, 1, 1.0))
    found = [row for row in _rows.rows(Context()) if row.name == "leaky_relu 65536"]
    monkeypatch.setattr(_rows, "rows", lambda _: [*found, Row("muon", "optim", fails), relu])
    path = tmp_path / "a.json"
    arguments += ["--only", "", "--json", path]
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (1, "")
    assert re.search(r"^leaky_relu 65536 +1  FAILED: ValueError: no$", out, re.MULTILINE)
    assert re.search(r"^FAILED: muon, 1 thread: AttributeError: .*'Muon'$", out, re.MULTILINE)
    assert re.search(r"^relu 1 .* unchecked$", out, re.MULTILINE)
    wrong = [result["wrong"] for result in json.loads(path.read_text())["results"]]
    assert wrong == [True, True, False]
    tried, known = [], _run.measured
    monkeypatch.setattr(_run, "measured", lambda row, *a: tried.append(row.name) or known(row, *a))
    table = tmp_path / "a.csv"
    status, out, _ = run(capsys, *arguments, "--resume", "--csv", table)
    assert (status, tried) == (1, ["leaky_relu 65536", "muon"])  # what failed is tried again
    failed = [line for line in csv.DictReader(table.read_text().splitlines()) if line["skipped"]]
    assert [(line["row"], line["wrong"], line["skipped"], line["seconds"]) for line in failed] == [
        ("leaky_relu 65536", "True", "ValueError: no", ""),
        ("muon", "True", "AttributeError: module 'torch.optim' has no attribute 'Muon'", ""),
    ]
    # Rows that are not chosen stay as they are.
    before = json.loads(path.read_text())["results"]
    status, out, _ = run(capsys, *arguments, "--only", "^relu", "--resume")
    assert (status, "FAILED" in out.split("time  ")[0]) == (0, False)
    assert out.endswith("a.json has 2 rows more, which are not chosen here\n")
    assert json.loads(path.read_text())["results"] == before
    # Where a shape does not fit, the row has not failed.
    arguments += ["--overwrite", "--csv", table]
    status, out, _ = run(capsys, *arguments, "--shape", "4", "--only", "leaky_relu")
    assert (status, "skipped: no such thing" in out) == (0, True)
    assert table.read_text().endswith(",False,no such thing\n")


def test_forms_of_ours_stand_beside_the_rivals(capsys, monkeypatch, tmp_path):
    """They come last; a rival that writes into memory that is there has ours of its kind."""
    times = {"onepass": 4, "onepass out=": 2, "thinc eager": 8, "numpy out=": 3, "sklearn plain": 1}
    functions = dict.fromkeys(times, lambda: None)
    samples = {label: [ms * 1e-3] * 3 for label, ms in times.items()}
    monkeypatch.setattr(_run, "interleaved", lambda *_: samples)
    row = Row("waits", "end-to-end", lambda context: Workload(functions, 10, 1e6))
    monkeypatch.setattr(_rows, "rows", lambda context: [row])
    files = [f"--{kind}={tmp_path}/a.{kind}" for kind in ("json", "html", "csv")]
    monkeypatch.setattr(_session._run, "absent", lambda against: {})
    known = "numpy,thinc,sklearn"
    status, out, _ = run(capsys, "--against", known, "--threads", "1", "--plain-malloc", *files)
    assert status == 0
    line = re.search("^waits.*", out, re.MULTILINE)[0]
    labels = ["sklearn plain", "numpy out=", "thinc eager", "onepass out="]
    assert [label for label, _ in re.findall(r"  (\S+ \S+) ([\d.]+)x", line)] == labels
    assert "GB" not in line
    # What computes less is shown, and no row is behind it.
    assert "1 of 1 rows are faster than every rival, 0 even" in out
    (found,) = json.loads((tmp_path / "a.json").read_text())["results"]
    seconds = found["seconds"]
    assert found["ratios"]["numpy out="] == seconds["numpy out="] / seconds["onepass out="]
    assert found["ratios"]["thinc eager"] == seconds["thinc eager"] / seconds["onepass"]
    assert found["own"] == {"onepass out=": seconds["onepass out="] / seconds["onepass"]}
    cells = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    ratio, rate = (cells[0].index(name) for name in ("theirs_over_ours", "gb_per_second"))
    assert {line[7] for line in cells[1:] if line[ratio]} == {*labels}
    assert not any(line[rate] for line in cells[1:])  # memory sets no limit here
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"<span class=note>{found['own']['onepass out=']:.2f}× onepass out=</span>" in page
    rival = min(found["ratios"]["thinc eager"], found["ratios"]["numpy out="])
    assert f'data-value="{rival!r}">{rival:.2f}×<span' in page


def test_the_end_says_even_where_the_next_run_may_say_the_opposite():
    def result(name, theirs, low, high, ours=(1.0, 1.0)):
        return {
            "row": name, "threads": 1, "wrong": False, "missing": {},
            "seconds": {"onepass": 1.0, "torch": theirs}, "ratios": {"torch": theirs},
            "low": {"onepass": ours[0], "torch": low}, "high": {"onepass": ours[1], "torch": high},
        }  # fmt: skip

    found = _table.summary(
        [
            result("close", 0.97, 0.97, 0.97),
            result("wide", 0.7, 0.6, 1.1),
            result("wide ours", 1.4, 1.4, 1.4, (0.9, 1.5)),
            result("behind", 0.9, 0.8, 0.99),
            result("ahead", 1.1, 1.05, 1.2),
        ],
        {},
    )
    assert found == [
        "1 of 5 rows are faster than every rival, 3 even with the best within the noise; "
        "behind one are:",
        "  0.90x torch: behind, 1 thread",
    ]


def test_pools_of_libraries_that_a_row_loads_are_told(monkeypatch):
    """With `--against none`, the rows of PyTorch's modules still import it."""
    told = []
    torch = dataclasses.replace(_run.LIBRARIES["torch"], module="json", pin=told.append)
    monkeypatch.setitem(_run.LIBRARIES, "torch", torch)
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    def make(context):
        assert told == []
        monkeypatch.setitem(sys.modules, "torch", json)
        return Workload({"onepass": lambda: None}, 1, 1.0)

    context = Context(threads=1, against=frozenset())
    assert "seconds" in _run.measured(Row("n", "optim", make), context, _run.Meter(rounds=1))
    assert told == [1]
    monkeypatch.setattr(_run, "sets_blas_threads", lambda: False)
    about = _run.Meter().about()
    assert "BLAS: its threads are not set" in _table.head(about | dict.fromkeys(
        ("cpu", "cpus", "level", "onepass"), "x"))  # fmt: skip
    machine = {"cpu": "a chip", "cpus": 2, "level": "v3", "onepass": "1"}
    assert "busy, a load of 2.5" in _table.head(machine | {"load": 2.5})
    assert "busy" not in _table.head(machine | {"load": 1.5})


def test_shape_and_dtype(capsys):
    status, out, err = run(
        capsys,
        *RELU,
        "activation",
        "--only",
        "^(relu|glu) ",
        "--shape",
        "6x5",
        "--dtype",
        "float64",
    )
    assert (status, err) == (0, "")
    assert re.search(r"^relu 6x5 .* exact$", out, re.MULTILINE)
    assert re.search(r"^glu 6x5 +1 +skipped: .*even", out, re.MULTILINE)


def odd(data, name, value):
    """A file whose first row has another value there, or with `...` none."""
    row = {k: v for k, v in data["results"][0].items() if (k, value) != (name, ...)}
    return data | {"results": [row if value is ... else row | {name: value}]}


def test_rows_that_the_file_has_are_not_measured_again(capsys, monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    both = [*RELU, "--only", "^relu (65536|1048576)", "--json", path]
    status, out, _ = run(capsys, *both, "--minutes", "1e-9")
    assert status == 0
    assert "out of time before relu 65536" in out
    assert not path.exists()
    run(capsys, *RELU, "--json", path)
    first = json.loads(path.read_text())
    _, out, _ = run(capsys, *both, "--resume")
    # All that is chosen is shown, what the file had first.
    assert re.findall(r"^relu (\d+) ", out, re.MULTILINE) == ["65536", "1048576"]
    data = json.loads(path.read_text())
    assert data["results"][:1] == first["results"]
    assert data["options"] == first["options"]  # how the file was begun
    assert [call["only"] for call in data["resumed"]] == ["^relu (65536|1048576)"]
    assert (data["options"]["against"], data["machine"]["malloc"]) == ([], "plain")
    machine = data["machine"]
    for content, words in (
        ([], "cannot be read as a file of --json"),
        ({"machine": machine, "results": []}, "another version"),
        (data | {"machine": []}, "machine is [], expected an object"),
        (data | {"options": None}, "options is None, expected an object"),
        (
            data | {"results": [data["results"][0] | {"seconds": {}}]},
            "results[0].seconds has no 'onepass'",
        ),
        (odd(data, "ratios", {"torch": 2.0}), "results[0].ratios has 'torch', which has no sampl"),
        (odd(data, "low", {"onepass": "x"}), "results[0].low['onepass'] is 'x', expected a number"),
        (odd(data, "missing", {"jax": 3}), "results[0].missing['jax'] is 3, expected a text"),
        (odd(data, "group", ...), "results[0] has no 'group'"),
        (odd(data, "bytes", None), "results[0].bytes is None, expected a number >= 0"),
        (odd(data, "wrong", 2), "results[0].wrong is 2, expected true or false"),
        (data | {"machine": machine | {"malloc": "tuned"}}, "malloc was 'tuned' and is 'plain'"),
        (data | {"machine": machine | {"numpy": "1"}}, "numpy was '1' and is"),
        (data | {"machine": machine | {"clock": "processor time"}}, "clock was"),
        (data | {"options": {"quick": True}}, "--quick was True"),
        (data | {"options": {}}, "--against was None and is"),
    ):
        path.write_text(json.dumps(content))
        status, _, err = run(capsys, *both, "--resume")
        assert (status, err.count("\n")) == (2, 1)
        assert words in err, err
        assert json.loads(path.read_text()) == content


def test_a_file_stays_until_it_has_a_row_to_give_way_to(capsys, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "a.json"
    path.write_text("kept")
    monkeypatch.setattr(_session._run, "measured", interrupted)
    assert run(capsys, *RELU, "--json", path, "--overwrite")[0] == 130
    assert path.read_text() == "kept"
    path.unlink()
    assert run(capsys, *RELU, "--json", path)[0] == 130
    assert not path.exists()  # nothing to lose next time


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
def test_a_file_that_is_there_is_not_lost(capsys, monkeypatch, tmp_path, kind):
    """As a run's folder in `onepass train`: the user says which of the two is meant."""
    path = tmp_path / "a"
    path.write_text("half an hour")
    with monkeypatch.context() as patch:
        patch.setattr(_session._run, "measured", lambda *_: pytest.fail("measured in vain"))
        status, out, err = run(capsys, *RELU, f"--{kind}", path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    cures = "--resume to go on with it, " if kind == "json" else ""
    assert f"{path}: the file is there already" in err
    assert f"(or {cures}--overwrite to replace it)" in err
    assert path.read_text() == "half an hour"
    assert run(capsys, *RELU, "--list", f"--{kind}", path)[0] == 0  # it writes nothing
    assert run(capsys, *RELU, f"--{kind}", path, "--overwrite")[0] == 0
    assert "relu 65536" in path.read_text()
    path.write_text("")  # of mktemp
    assert run(capsys, *RELU, f"--{kind}", path)[0] == 0
    # A table and a page that are made of the file of --json are made anew with it, not before.
    if kind != "json":
        more = [*RELU, "--resume", "--json", tmp_path / "a.json", f"--{kind}", path]
        assert run(capsys, *more)[0] == 2
        run(capsys, *RELU, "--json", tmp_path / "a.json")
        assert run(capsys, *more)[0] == 0


def test_a_resumed_run_shows_what_is_chosen_and_keeps_the_record(capsys, monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    numpy = [*RELU, "--against", "numpy", "--json", path]
    run(capsys, *numpy, "--only", "^(relu|sigmoid|tanh) 65536")
    content = path.read_text()
    monkeypatch.setattr(_session._run, "measured", lambda *_: pytest.fail("nothing is left"))
    for only, names in (
        ("^(relu|sigmoid|tanh) 65536", ["sigmoid", "relu", "tanh"]),
        ("^relu 65536", ["relu"]),
    ):
        status, out, _ = run(capsys, *numpy, "--only", only, "--resume")
        assert status == 0
        assert sorted(re.findall(r"^(\w+) 65536 +1 ", out, re.MULTILINE)) == sorted(names)
        assert f" of {len(names)} rows are faster" in out
        assert ("not chosen here" in out) == (len(names) < 3)
        assert path.read_text() == content
    # The same in the other files, which are of all that the file has.
    table = tmp_path / "a.csv"
    run(capsys, *numpy, "--only", "^relu 65536", "--resume", "--csv", table)
    assert {line["row"] for line in csv.DictReader(table.read_text().splitlines())} == {
        "relu 65536", "sigmoid 65536", "tanh 65536",
    }  # fmt: skip
    # A wrong row counts where it is shown.
    data = json.loads(content)
    data["results"][0]["wrong"] = True
    path.write_text(json.dumps(data))
    wrong, *others = (result["row"] for result in data["results"])
    for row, expected in ((wrong, 1), (others[0], 0)):
        assert run(capsys, *numpy, "--only", f"^{row}$", "--resume")[0] == expected


def test_a_call_that_goes_on_is_recorded_once(capsys, tmp_path):
    path = tmp_path / "a.json"

    def goes_on(only):
        run(capsys, *RELU, "--only", only, "--json", path, "--resume")
        data = json.loads(path.read_text())
        return [call["only"] for call in (data["options"], *data.get("resumed", []))]

    assert goes_on("^relu 65536") == ["^relu 65536"]
    assert goes_on("^(relu|sigmoid) 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]
    assert goes_on("^(relu|sigmoid) 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]
    assert goes_on("^sigmoid 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]


def test_an_interrupted_start_is_a_line(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_session, "Session", interrupted)
    assert run(capsys, *RELU) == (130, "", "\nonepass bench: interrupted\n")


HEAD = """
import sys
from onepass.bench._command import main
RIVALS = {"torch", "jax", "optax", "thinc", "sklearn", "keras", "bitsandbytes"}
class Out:
    began = None
    def write(self, text):
        self.began = self.began or [text.split()[0], sorted(RIVALS & sys.modules.keys())]
    def flush(self): pass
out = sys.stdout = Out()
status = main(sys.argv[1:])
print([status, *out.began, sorted(RIVALS & sys.modules.keys())], file=sys.__stdout__)
"""


@pytest.mark.parametrize("against", ["none", "numpy", "torch"])
def test_the_head_comes_before_rivals_are_imported(against):
    """Which takes many seconds, some of them; and only those that are asked for are."""
    command = [sys.executable, "-c", HEAD, *RELU, "--against", against]
    environment = os.environ | {"PYTHONPATH": str(Path(onepass.__file__).parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    there = {"torch"} & {against} if importlib.util.find_spec("torch") else set()
    assert done.stdout == f"[0, 'onepass', [], {sorted(there)}]\n"


def test_a_run_that_nobody_reads_ends(capsys, monkeypatch, tmp_path):
    """`onepass bench | head`; with a file it goes on."""
    rows = [Row(name, "optim", lambda context: None) for name in "abc"]
    monkeypatch.setattr(_rows, "rows", lambda context: rows)
    monkeypatch.setattr(_session._console, "write", lambda text, file: False)
    measured = []
    monkeypatch.setattr(_session._run, "measured", lambda row, *_: measured.append(row) or {
        "row": "a", "threads": 1, "skipped": "", "group": "optim"})  # fmt: skip
    for more, count in ([], 1), (["--html", tmp_path / "a.html"], 3):
        measured.clear()
        run(capsys, *more, "--threads", "1", "--against", "none", "--plain-malloc")
        assert len(measured) == count


def test_an_interrupted_run_keeps_its_rows(capsys, monkeypatch, tmp_path):
    def measured(row, context, meter, before):
        if "1048576" in row.name:
            raise KeyboardInterrupt
        return known(row, context, meter, before)

    known = _session._run.measured
    monkeypatch.setattr(_session._run, "measured", measured)
    path = tmp_path / "a.json"
    status, out, err = run(capsys, *RELU, "--only", "^relu ", "--json", path)
    assert status == 130
    assert "interrupted" in err
    assert len(json.loads(path.read_text())["results"]) == 1
    assert "GB/s   on the fewest bytes" in out


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


WRONG = {
    "--repeat 0": "--repeat: '0', expected a number from 1 to 10000",
    "--repeat 3 --quick": "--quick ends within a minute; for --repeat pass --only PATTERN",
    "--threads 0": "--threads: '0', expected numbers of threads",
    "--threads ²": "--threads: '²', expected numbers of threads",
    "--only (": "--only: '\\(' is not a regular expression",
    "--only relo": "--only 'relo' matches no row, see --list; did you mean 'relu'",
    "--only adamw loss": "--only 'adamw' matches no row of loss; without loss there are \\d+, see",
    "--only ^softmax --shape 1": "'\\^softmax' matches no row with --shape 1; without --shape 1",
    "--only conv --shape 8x8 --dtype float64": "'conv' matches no row with --shape 8x8 and --dtype",
    "--only ^front --dtype float16": "with --dtype float16; without --dtype float16 there are",
    "--only ^softmax --quick loss": "of loss with --quick; without loss there is one, see --list$",
    "--shape 1x1x1x1x1x1x1 conv": "there is no row of conv with --shape 1x1x1x1x1x1x1; without",
    "--overwrite": "--overwrite: expected --json, --csv or --html FILE",
    "--overwrite --json a --resume": "--overwrite: expected .* and no --resume",
    "--against tf": "--against: 'tf', expected some of torch,",
    "norms": "'norms', expected some of optim, norm, .*; did you mean 'norm'",
    "--shape 3y4": "--shape: '3y4', expected sizes such as 4096x512",
    "--dtype int8": "--dtype: invalid choice: 'int8'",
    "--processor-time": "pass --threads 1",
    "--resume": "expected --json FILE",
    "--minutes nan": "--minutes: 'nan', expected a number > 0",
    "--threads 1,1025": "--threads: '1,1025', expected .* none above 1024",
    "--json no/such/a.json": "--json: 'no/such/a.json', but there is no folder no/such",
    "--html .": "--html: '.', expected the name of a file",
    "--csv /dev/full --only ^sigmoid --threads 1": "cannot write /dev/full|no folder",
    "--csv a --html a": "expected a file for each",
    "--device cuda --quick": "--quick is for the CPU",
    "--device cuda --dtype float16": "--dtype is for the CPU",
    "--colour": "unrecognized arguments: --colour",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use_is_one_line(capsys, line):
    status, out, err = run(capsys, *line.split(), "--plain-malloc")
    assert (status, out) == (2, "")
    assert err.startswith("onepass bench: ")
    assert err.count("\n") == 1
    assert re.search(WRONG[line], err), err


def test_bfloat16_needs_a_package(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ml_dtypes" else find_spec(name)
    )
    status, out, err = run(capsys, *RELU, "--dtype", "bfloat16")
    assert (status, out) == (2, "")
    assert err.endswith("pip install ml_dtypes\n")


def test_the_list(capsys):
    status, out, _ = run(capsys, "--list", "norm")
    names = out.splitlines()
    assert status == 0
    assert len(names) == len(set(names)) > 30
    assert all(name.startswith("norm  ") for name in names)


def test_quick_has_a_row_of_each_group():
    rows = [row for row in _rows.rows(Context()) if row.quick]
    assert {row.group for row in rows} == {*GROUPS}
    assert 40 < len(rows) < 90
    assert len({row.name for row in _rows.rows(Context())}) == len(list(_rows.rows(Context())))


# --------------------------------------------------------------------------------------- timing


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


# --------------------------------------------------------------------------------------- checks


def small(case):
    options = case.bench_options or case.options[0]
    shape = {1: (512,), 2: (64, 8)}.get(len(case.bench_shapes[0]), (16, 4, 6, 6))
    return shape, options


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_part_has_the_verdict_of_the_whole(case, monkeypatch):
    """The first rows, or fewer rows: the kernel is right either way. And the streams of a row add
    up to its bytes."""
    shape, options = small(case)
    whole = _check.of_case(case, shape, "float32", options)
    monkeypatch.setattr(_check, "MOST", np.prod(shape) // 4)
    part = _check.of_case(case, shape, "float32", options)
    assert not whole.wrong
    assert not part.wrong
    assert part.note
    streams = _kernels.streams(case, case.bench_shapes[-1], "float32")
    arrays = streams.reads + streams.writes + 2 * streams.updates
    assert case.bytes(4) / arrays in (1, 2, 4)  # bytes, halves, floats


@pytest.mark.parametrize("name", ["gelu", "adamw", "softmax_backward", "batch_norm", "layer_norm"])
def test_a_wrong_element_is_seen(name, monkeypatch):
    case = cases.BY_NAME[name]
    shape, options = small(case)
    monkeypatch.setattr(_check, "MOST", np.prod(shape) // 4)

    def off(*inputs, **keywords):
        result = case.op(*inputs, **keywords)
        changed = inputs[0][0] if case.written and result is None else result
        changed[1] += np.float32(0.01)
        return result

    assert _check.of_case(dataclasses.replace(case, op=off), shape, "float32", options).wrong


def test_errors_without_a_number_are_wrong():
    assert Check(float("nan")).wrong
    assert _check.within(np.float32([np.nan]), [1.0], 0.1).wrong
    assert _check.within(np.zeros(2), np.ones(3), 0.1).wrong


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in _rows.rows(Context())
        if re.search(
            "6 tensors|465 groups|states 64k|sparse|lbfgs|64x128|lenet.*8x8|pool 2x2", row.name
        )
    ],
    ids=lambda row: row.name,
)
def test_workloads_are_checked(row):
    """One of each kind."""
    assert not row.make(Context(against=frozenset())).check().wrong


def test_a_result_that_is_wrong_with_out_alone_is_found(monkeypatch):
    case = cases.BY_NAME["relu"]
    known = case.op

    def spoils(*arrays, out=None, **options):
        result = known(*arrays, out=out, **options)
        if out is not None:
            out[-1] = 7
        return result

    row = _kernels.kernel(case, (1000,))(Context(against=frozenset()))
    assert row.check().error <= 1
    wrong = _kernels.kernel(dataclasses.replace(case, op=spoils), (1000,))
    found = wrong(Context(against=frozenset())).check()
    assert (found.wrong, found.note) == (True, "out= gives another result")


@pytest.mark.parametrize(("errors", "draws"), [([0.5], 1), ([40, 3, 0.9], 3), ([9, 8, 7, 6, 5], 5)])
def test_a_network_is_wrong_where_no_draw_agrees(errors, draws, monkeypatch):
    asked = []

    def drawn(make, shape, last, seed):
        asked.append(seed)
        return Check(0.25, None, ""), Check(errors[seed], None, "")

    monkeypatch.setattr(_networks, "_drawn", drawn)
    found = _networks.checked(_networks.lenet, (8, 1, 8, 8))
    assert (asked, found.error) == ([*range(draws)], min(errors))


def test_a_gradient_that_is_off_by_a_thousandth_is_found(monkeypatch):
    known = nn.MaxPool2d.backward

    def off(self, dy, **options):
        return known(self, dy, **options) * dy.dtype.type(1.001 if dy.dtype == np.float32 else 1)

    assert not _networks.checked(_networks.lenet, (8, 1, 8, 8)).wrong
    monkeypatch.setattr(nn.MaxPool2d, "backward", off)
    assert _networks.checked(_networks.lenet, (8, 1, 8, 8)).wrong


# --------------------------------------------------------------------------------------- the wheel


def test_the_installed_command(tmp_path):
    """As CMake and pip lay the files: the records beside the package's, no source tree around."""
    assert "install(DIRECTORY tests/cases/ DESTINATION onepass/bench/_cases" in (
        ROOT / "CMakeLists.txt"
    ).read_text(encoding="utf-8")
    package = Path(onepass.__file__).parent
    site, empty = tmp_path / "site", tmp_path / "empty"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(package, site / "onepass", ignore=ignored)
    if not (site / "onepass/bench/_cases").exists():
        shutil.copytree(ROOT / "tests/cases", site / "onepass/bench/_cases", ignore=ignored)
    for library in package.glob("*.so"):
        (site / "onepass" / library.name).symlink_to(library)
    empty.mkdir()
    code = "from onepass.bench import _records; print(_records.cases.__file__)"
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(site)
    options = {"cwd": empty, "env": environment, "capture_output": True, "text": True}
    found = subprocess.run([sys.executable, "-c", code], check=True, **options)
    assert found.stdout.strip() == str(site / "onepass/bench/_cases/__init__.py")
    # Not --plain-malloc: it starts itself anew.
    command = [sys.executable, "-m", "onepass.bench", *RELU[:-1], "--json", "a.json"]
    done = subprocess.run(command, check=False, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^relu 65536 .* exact$", done.stdout, re.MULTILINE)
    assert [path.name for path in empty.iterdir()] == ["a.json"]
    assert json.loads((empty / "a.json").read_text())["machine"]["malloc"] == "tuned"
