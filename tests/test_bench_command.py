"""`onepass bench` as people use it: what it prints and writes, wrong rows, wrong use, the wheel."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass.bench import _choice, _rows, _run, _session, _table
from onepass.bench._row import GROUPS, Context, Row, Workload
from small_bench import RELU, hurried, leaky_relu, run  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]


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
    for change, words in ((off, "error .* times its bound"), (nan, "an infinite error")):
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
    monkeypatch.setattr(_session._run, "absent", lambda *_: {})
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


def test_rivals_without_a_function_are_lines():
    def result(**more):
        return {"row": "relu 8", "threads": 1, "wrong": False, "missing": {}, "ratios": {}} | more

    rows = [result(ratios={"torch out=": 2.0}), result(missing={"numpy": "not in float16"})]
    every = {"torch", "numpy", "jax", "optax"}
    rows[0]["seconds"] = {"onepass out=": 1.0, "torch out=": 2.0, "onepass": 1.0}
    rows[0]["low"] = rows[0]["high"] = rows[0]["seconds"]
    found = _table.summary(rows, {"optax": "not installed"}, sorted(every))
    assert found[found.index("not measured:") + 1 :] == [
        "  jax: has no function of these rows",
        "  numpy: not in float16, in 1 of 2 rows",
        "  optax: not installed",
    ]
    assert _table.summary([], {}, every) == []


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


def test_rows_of_pytorch_say_that_it_is_absent(monkeypatch):
    """They are in the list, and have not failed."""
    torch = dataclasses.replace(_run.LIBRARIES["torch"], module="no_such_module_at_all")
    monkeypatch.setitem(_run.LIBRARIES, "torch", torch)
    names = ("adamw 120 torch tensors 250k", "front relu 64")
    rows = [row for row in _rows.rows(Context()) if row.name in names]
    assert len(rows) == 2
    for row in rows:
        found = _run.measured(row, Context(against=frozenset()), _run.Meter())
        assert found["skipped"] == "PyTorch is not installed (pip install torch)"
        assert not found.get("wrong")


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
        status, _, _ = run(capsys, *more, "--threads", "1", "--against", "none", "--plain-malloc")
        assert (len(measured), status) == (count, 0 if more else 141)  # 1 is a wrong result


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


def test_a_quick_run_that_time_ends_has_its_share_of_each_group():
    rows = [row for row in _rows.rows(Context()) if row.quick]
    turns = _choice.spread(rows)
    assert sorted(row.name for row in turns) == sorted(row.name for row in rows)
    for group in GROUPS:
        places = [row.name for row in rows if row.group == group]
        assert [row.name for row in turns if row.group == group] == places
        for end in range(len(turns)):
            share = len(places) * end / len(turns)
            assert abs(sum(row.group == group for row in turns[:end]) - share) <= 2


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
