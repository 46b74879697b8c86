"""The command line through real processes: results, exit statuses, one-line messages."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import ENVIRONMENT, onepass, started
from onepass import config
from onepass.ops._declare import ACTIVATIONS

FAST = ["--hidden", "8", "--epochs", "3"]


def refused(done, words, status=2):
    """Status and exactly one line, which holds the words."""
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(words, done.stderr)


@pytest.fixture
def table(tmp_path):
    """A table whose classes can be told apart."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((120, 3)) * [1, 10, 100] + [0, 5, 1000]
    kind = np.where(X[:, 0] + X[:, 1] / 10 > 0.5, "large", "small")
    rows = [f"{a!r},{b!r},{c!r},{k}" for (a, b, c), k in zip(X.tolist(), kind, strict=True)]
    path = tmp_path / "things.csv"
    path.write_text("\n".join(["a,b,c,kind", *rows]) + "\n")
    return path


@pytest.mark.parametrize("line", ["train things.csv --hidden 8 --epochs 3", "train", "info"])
def test_a_command_in_a_fork_is_one_in_a_fresh_interpreter(table, line):
    seen = []
    for runs in (onepass, started):
        done = runs(*line.split(), cwd=table.parent)
        shown = re.sub(r"[\d.]+( m?s)?$", "", done.stdout, flags=re.MULTILINE)  # without times
        seen.append((done.returncode, shown, done.stderr))
        shutil.rmtree(table.parent / "runs", ignore_errors=True)
    assert seen[0] == seen[1]


WRONG = {
    "": "required: {train,predict,evaluate,report,search,lab,bench,info}",
    "trian": "unknown command 'trian'.*did you mean 'train'",
    "train": "'DATA' is missing, expected a data set or a file",
    "train --resume --out no": "'DATA' is missing, expected .*; no has no run to resume",
    "train nosuch": "'name_or_path' is 'nosuch', expected .*digits",
    "train digit": "did you mean 'digits'",
    "train none.csv": r"no such file: none\.csv",
    "train things.csv --target kin": "no column 'kin'.*did you mean 'kind'",
    "train things.csv --target c --task rank": "--task: invalid choice",
    "train things.csv --target a": "column 'kind', row 1: '(small|large)' is not a finite number",
    "train things.csv --epochs 0": "train: '--epochs' is 0, expected a whole number >= 1$",
    "train things.csv --epochs two": "train: '--epochs' is 'two', expected a whole number >= 1$",
    "train things.csv --batch-size 1.5": "'--batch-size' is '1.5', expected a whole number >= 1$",
    "train things.csv --batch-size 1": "'--batch-size' is 1, expected a number above 1",
    "train things.csv --lr -1": "train: '--lr' is -1.0, expected a number > 0$",
    "train things.csv --lr fast": "train: '--lr' is 'fast', expected a number > 0$",
    "train things.csv --optimizer adamm": "did you mean 'adam",
    "train things.csv --hidden 8,x": "train: '--hidden' is 'x', expected a whole number >= 1$",
    "train things.csv --hidden 99999999999999": "Unable to allocate",
    "train things.csv --norm layer": "--norm: invalid choice: 'layer'",
    "train things.csv --activation rel": ", ".join(sorted(ACTIVATIONS)) + ".*did you mean 'relu'",
    "train things.csv --dropout 1": "train: '--dropout' is 1.0, expected a number >= 0 and < 1$",
    "train things.csv --device tpu": "--device: invalid choice: 'tpu'",
    "train things.csv --seed x": "train: '--seed' is 'x', expected a whole number >= 0",
    "train things.csv --epoch 3": "--epoch",
    "info --yaml": "info: unknown argument '--yaml'",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use(table, line):
    done = onepass(*line.split(), cwd=table.parent)
    refused(done, WRONG[line])
    assert done.stdout == ""


def test_train_resume_and_refusals(table):
    done = started("train", table.name, *FAST, "--lr", "0.05", cwd=table.parent)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("81 training, 9 validation, 30 held out", "3 → 8 → 2, batch norm", "3/3"):
        assert words in done.stdout
    out = table.parent / "runs" / "things"
    assert sorted(os.listdir(out)) == sorted(
        [
            "checkpoints",
            "held_out.csv",
            "history.csv",
            "model.npz",
            "run.json",
            *found("curves.png", "matplotlib"),
            *found("confusion.png", "matplotlib"),
        ]
    )
    assert len((out / "history.csv").read_text().splitlines()) == 4
    record = json.loads((out / "run.json").read_text())
    assert record["options"]["hidden"] == [8]
    assert record["result"]["accuracy"] > 0.7
    line = next(line for line in done.stdout.splitlines() if line.startswith("held-out"))

    again = onepass("train", table.name, *FAST, "--lr", "0.05", "--resume", cwd=table.parent)
    assert again.returncode == 0
    assert line in again.stdout
    assert "1/3" not in again.stdout

    silent = onepass("train", table.name, "--resume", cwd=table.parent)
    assert (silent.returncode, line in silent.stdout) == (0, True)
    other = onepass("train", table.name, "--lr", "0.1", "--resume", cwd=table.parent)
    refused(other, r"runs/things was started with --lr 0\.05; --resume cannot go on with --lr 0\.1")

    for path in (out / "checkpoints").iterdir():
        (path / "model.npz").write_bytes(b"")
    damaged = onepass("train", table.name, *FAST, "--lr", "0.05", "--resume", cwd=table.parent)
    assert damaged.returncode == 1
    assert "none of 2 checkpoints is valid" in damaged.stderr
    assert "Traceback" not in damaged.stderr

    fresh = onepass("train", table.name, *FAST, "--lr", "0.05", cwd=table.parent)
    assert fresh.returncode == 0
    assert line in fresh.stdout


def found(name, library):
    try:
        __import__(library)
    except ImportError:
        return []
    return [name]


def test_regression(table):
    options = ["--target", "c", "--norm", "none", "--activation", "tanh", "--dropout", "0"]
    table.write_text(table.read_text().replace(",large", ",1").replace(",small", ",0"))
    done = onepass("train", table.name, *options, *FAST, "--out", "here", cwd=table.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "held-out part: rmse" in done.stdout
    assert "r2" in done.stdout
    assert (table.parent / "here" / "history.csv").read_text().startswith("epoch,loss,mae,val_loss")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_names_of_ops(table, name):
    done = onepass("train", table.name, *FAST, "--activation", name, cwd=table.parent)
    assert (done.returncode, done.stderr) == (0, "")


def test_divergence_is_one_line_with_a_cure(table):
    done = onepass("train", table.name, *FAST, "--lr", "1e30", cwd=table.parent)
    refused(done, r"not finite: .*epoch 1.*; pass a lower --lr", status=1)


@pytest.mark.parametrize("command", ["info", "info --json"])
def test_a_full_disk_is_one_line(command):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "onepass", *command.split()]
        done = subprocess.run(line, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True)
    refused(done, "cannot write the output: No space left", status=1)


def test_tables_that_are_too_small(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,0\n2,1\n3,0\n")
    refused(onepass("train", "t.csv", cwd=tmp_path), "3 samples, expected at least 8")
    np.savez(tmp_path / "t.npz", X=np.ones((9, 2)), y=np.arange(9))
    refused(onepass("train", "t.npz", cwd=tmp_path), "--task regression")


def test_interrupt(table):
    command = [sys.executable, "-m", "onepass", "train", table.name, "--epochs", "100000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=table.parent, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True
    ) as process:
        for line in process.stdout:
            if line.split()[:1] == ["1/100000"]:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1
    assert "--resume" in errors
    assert (table.parent / "runs" / "things" / "checkpoints").is_dir()


def test_digits_reaches_its_accuracy(tmp_path):
    pytest.importorskip("sklearn")
    done = onepass("train", "digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs" / "digits" / "run.json").read_text())["result"]
    assert result["accuracy"] >= 0.975


@pytest.mark.skipif(config.cuda_available(), reason="CUDA is usable")
def test_cuda_that_is_not_there(table):
    done = onepass("train", table.name, "--device", "cuda", cwd=table.parent)
    refused(done, "--device cuda: .*CUDA")


def test_without_scikit_learn(tmp_path):
    code = "import sys; sys.modules['sklearn'] = None; import onepass.cli as c; "
    command = [sys.executable, "-c", code + "sys.exit(c.main(['train', 'digits']))"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    refused(done, "pip install scikit-learn")


def test_bench(tmp_path):
    """Everything else of it: test_bench_*.py."""
    done = onepass("bench", "--list", "--only", "^relu 65536", cwd=tmp_path)
    assert done.stdout.split() == ["activation", "relu", "65536"]
    refused(onepass("bench", "--threads", "0", cwd=tmp_path), "--threads: '0', expected")


def test_info(tmp_path):
    done = onepass("info", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["cpu_level"] in config.cpu_levels()
    assert found["threads"] >= 1
    assert found["cuda"]["usable"] == config.cuda_available()
    assert bool(found["cuda"]["why_not"]) != found["cuda"]["usable"]
    assert found["libraries"]["numpy"] == np.__version__
    assert {"cupy", "torch", "jax", "scikit-learn"} <= set(found["libraries"])  # of the fronts
    plain = onepass("info", cwd=tmp_path)
    assert plain.returncode == 0
    machine = found["machine"]
    assert machine["threads"] == found["threads"]
    assert f"\nthreads    {machine['threads']}: {machine['threads_reason']}\n" in plain.stdout
    assert plain.stdout.startswith(f"onepass    {found['version']}\n")


def test_help(tmp_path):
    done = started("train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    options = ["epochs", "batch-size", "lr", "optimizer", "hidden", "norm", "activation", "dropout"]
    for name in [*options, "device", "seed", "out", "resume", "target"]:
        assert f"--{name} " in done.stdout
    assert "(default 256,256)" in done.stdout


def test_version(tmp_path):
    done = started("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"onepass \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("module", ["onepass.cli._main", "argparse", "numpy", "onepass._numbers",
                                    "onepass.runs._recipe", "onepass.optim"])  # fmt: skip
def test_ctrl_c_while_something_is_imported_is_one_line(module, table):
    code = f"""
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from onepass.cli import main
sys.exit(main(["train", "things.csv", "--epochs", "1"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=table.parent, env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    refused(done, "^onepass: interrupted$", 130)
