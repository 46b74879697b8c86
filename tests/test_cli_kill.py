"""A kill at any moment of a command: nothing lost, and the same bits afterwards."""

import json
import subprocess
import sys

import numpy as np
import pytest
from commands import ENVIRONMENT

# Runs each command in a child that kills itself at the Nth change of the disk.
DRIVER = r"""
import csv, io, json, os, pathlib, shutil, signal, sys, zipfile
import numpy, onepass.cli, onepass.runs._recipe, onepass.runs._evaluation
try:
    from matplotlib.figure import Figure
except ImportError:
    pass
else:  # drawing changes nothing on the disk, and takes longer than the rest
    Figure.savefig = lambda self, file, **_: file.write(b"picture")

class counted_writer:
    def __init__(self, writer, counted):
        self.writerow, self.writerows = counted(writer.writerow), counted(writer.writerows)

def child(arguments, kill_at):
    pid = os.fork()
    if pid == 0:
        moments = 0
        def counted(function):
            def changed(*args, **kwargs):
                nonlocal moments
                moments += 1
                if moments == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = function(*args, **kwargs)
                moments += 1
                if moments == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result
            return changed
        for name in ("replace", "rename", "fsync", "mkdir", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        zipfile.ZipFile.writestr = counted(zipfile.ZipFile.writestr)
        _csv = csv.writer
        csv.writer = lambda *args, **options: counted_writer(_csv(*args, **options), counted)
        sys.stdout = sys.stderr = io.StringIO()
        status = onepass.cli.main(arguments)
        if status:
            os.write(2, sys.stderr.getvalue().encode())
        pathlib.Path("moments").write_text(str(moments))
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

home, table, train, after, step = json.loads(sys.argv[1])
os.chdir(home)
os.mkdir("whole")
os.chdir("whole")
assert child(train, 0) == 0
total = int(pathlib.Path("moments").read_text())
found = []
for number in range(1, total + 1, step):
    os.mkdir(f"../{number}")
    os.chdir(f"../{number}")
    killed = child(train, number)
    if os.path.exists("run/model.npz"):
        assert child(["predict", "run", table, "--out", "early.csv"], 0) == 0, number
    early = pathlib.Path("p.csv").read_text() if os.path.exists("p.csv") else None
    again = child(after, number + 7) if number % 2 else 0
    last = child(after, 0)
    found.append([number, killed, again, last, early])
print(json.dumps(found))
"""


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f},{'yn'[int(a > b)]}\n" for a, b in rng.random((60, 2)))
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}")
    return tmp_path / "t.csv"


# The same for a training that replaces a run: what each kill leaves, and what a reader finds then.
REPLACING = (
    DRIVER.partition("home, table")[0]
    + r"""
def files(run):
    found = [(run / name).read_bytes() for name in ("model.npz", "history.csv")]
    seed = json.loads((run / "run.json").read_text())["options"]["seed"]
    steps = sorted(p.name for p in (run / "checkpoints").iterdir())
    pictures = sorted(p.name for p in run.glob("*.png"))
    return [found, seed, steps, pictures, sorted(p.name for p in run.iterdir())]

home, table, step = json.loads(sys.argv[1])
os.chdir(home)
train = ["train", table, "--hidden", "4", "--out", "run", "--quiet"]
first = [*train, "--epochs", "2", "--diagnose"]
second = [*train, "--epochs", "3", "--seed", "1", "--overwrite"]
predict = ["predict", "run", table, "--out", "p.csv"]
os.mkdir("whole")
os.chdir("whole")
assert child(first, 0) == 0
pathlib.Path("run/notes.txt").write_text("mine")
old = files(pathlib.Path("run"))
shutil.copytree("run", "../old")
assert child(second, 0) == 0
new = files(pathlib.Path("run"))
assert old != new and "notes.txt" in new[-1] and new[3] == ["confusion.png", "curves.png"]
total = int(pathlib.Path("moments").read_text())
found = []
for number in [*range(1, total - 60, step), *range(max(1, total - 60), total + 1, 2)]:
    os.mkdir(f"../{number}")
    os.chdir(f"../{number}")
    shutil.copytree("../old", "run")
    killed = child(second, number)
    assert child(predict, 0) == 0, number
    now = files(pathlib.Path("run"))
    now[-1] = [name for name in now[-1] if name != ".new"]
    assert now in (old, new), (number, now[1:], old[1:], new[1:])
    found.append([killed, now == new])
    if number % 5 == 0:
        assert child(second if now == old else predict, 0) == 0
        assert files(pathlib.Path("run")) == new, number
    if number % 5 == 1 and os.path.exists("run/.new/run.json"):
        assert child(["train", "--resume", "--quiet", "--out", "run/.new"], 0) == 0
        assert files(pathlib.Path("run")) == new, number
    shutil.rmtree("run")
print(json.dumps(found))
"""
)


def driven(table, train, after, step):
    home = str(table.parent)
    code = [sys.executable, "-c", DRIVER, json.dumps([home, str(table), train, after, step])]
    done = subprocess.run(code, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_kill_at_any_moment_loses_nothing(table):
    """Of a training, and then of the resume: its end has the bits of a run without a kill."""
    train = ["train", str(table), "--hidden", "4", "--epochs", "2", "--out", "run"]
    outcomes = driven(table, train, [*train, "--resume"], 17)
    assert len(outcomes) > 4
    assert {killed for _, killed, *_ in outcomes} == {-9}
    assert {again for _, _, again, *_ in outcomes} <= {-9, 0}
    whole = table.parent / "whole" / "run"
    for number, _, _, last, _ in outcomes:
        assert last == 0
        run = table.parent / str(number) / "run"
        for name in ("model.npz", "history.csv"):
            assert (run / name).read_bytes() == (whole / name).read_bytes(), (number, name)
        results = [json.loads((r / "run.json").read_text())["result"] for r in (run, whole)]
        assert results[0] == results[1]
        left = [p.name for p in run.rglob(".*")]
        assert left == [], number


def test_a_kill_while_predictions_are_written_leaves_those_of_before(table):
    run = table.parent / "run"
    train = ["train", str(table), "--hidden", "4", "--epochs", "1", "--out", str(run)]
    code = [sys.executable, "-m", "onepass", *train, "--quiet"]
    assert subprocess.run(code, env=ENVIRONMENT, capture_output=True).returncode == 0
    predict = ["predict", str(run), str(table), "--out", "p.csv"]
    outcomes = driven(table, predict, predict, 1)
    assert [killed for _, killed, *_ in outcomes] == [-9] * len(outcomes)
    whole = (table.parent / "whole" / "p.csv").read_text()
    assert {early for *_, early in outcomes} == {None, whole}
    for number, *_ in outcomes:
        assert (table.parent / str(number) / "p.csv").read_text() == whole


def test_a_kill_while_a_run_is_replaced_leaves_the_old_or_the_new_one_whole(table):
    """And files of the user where they are; a run that was cut short can be resumed."""
    code = [sys.executable, "-c", REPLACING, json.dumps([str(table.parent), str(table), 61])]
    done = subprocess.run(code, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    outcomes = json.loads(done.stdout)
    assert {killed for killed, _ in outcomes} == {-9}
    replaced = [new for _, new in outcomes]
    assert replaced == sorted(replaced)
    assert 4 < sum(replaced) < len(replaced) - 4
