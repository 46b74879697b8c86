"""``mpiexec -n N onepass train``: one run of several processes, as that of one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onepass.cli import main
from onepass.runs import _recipe
from onepass.train import Diagnosis, Run
from ranks import end_ranks

FAST = ["--hidden", "6", "--epochs", "3", "--batch-size", "20", "--quiet"]
# Adam makes whole steps of the rounding of gradients that are 0, as of biases before a batch norm.
SGD = ["--optimizer", "sgd", "--lr", "0.05"]


def command(folder: str, *arguments: str) -> None:
    """What a rank runs."""
    os.chdir(folder)
    sys.exit(main([*arguments]))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = np.random.default_rng(0).standard_normal((2, 130))
    rows = zip(a.tolist(), b.tolist(), np.where(a + b > 0, "yes", "no").tolist(), strict=True)
    Path("t.csv").write_text("a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in rows))
    return tmp_path


def ranks(here, size, *arguments, status=0):
    ended = end_ranks(command, size, str(here), *arguments, timeout=180)
    assert ended.status == status, ended
    return ended


def history(folder):
    table = np.genfromtxt(Path(folder) / "history.csv", delimiter=",", names=True)
    return {name: table[name] for name in table.dtype.names}


def arrays(folder):
    with np.load(Path(folder) / "model.npz") as file:
        return {name: file[name] for name in file.files if name.startswith("weights/")}


def assert_close(a, b):
    assert a.keys() == b.keys()
    for name in a:  # of float32
        np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_a_run_of_several_processes(here, capsys):
    """Of three, the shares are unequal; they read one table, and write one run."""
    assert main(["train", "t.csv", *FAST, *SGD, "--out", "one"]) == 0
    ended = ranks(here, 3, "train", "t.csv", *FAST, *SGD, "--out", "three")
    last = "predict with: onepass predict three NEW.csv --out predictions.csv"
    assert ended.outputs[0].splitlines()[-1] == last
    assert (ended.outputs[1:], ended.errors) == (["", ""], "")
    assert_close(history("three"), history("one"))
    assert_close(arrays("three"), arrays("one"))
    assert {p.name for p in Path("three").iterdir()} == {p.name for p in Path("one").iterdir()}
    assert len(json.loads(Path("three/run.json").read_text())["sessions"]) == 1


def test_a_run_goes_on_with_another_number_of_processes(here):
    options = [*FAST, *SGD, "--schedule", "none"]
    ranks(here, 2, "train", "t.csv", *options, "--out", "run")
    ranks(here, 3, "train", "--resume", "--out", "run", "--epochs", "6", "--quiet")
    assert main(["train", "t.csv", *options, "--epochs", "6", "--out", "one"]) == 0
    assert_close(history("run"), history("one"))


def test_reproducible_runs_have_the_same_bits(here):
    """With the batch norms and dropout that a run has by default."""
    options = [*FAST, "--reproducible", "4"]
    assert main(["train", "t.csv", *options, "--out", "one"]) == 0
    for size in (2, 4):
        ranks(here, size, "train", "t.csv", *options, "--out", f"of {size}")
        assert Path(f"of {size}/history.csv").read_bytes() == Path("one/history.csv").read_bytes()
        assert all((arrays(f"of {size}")[k] == v).all() for k, v in arrays("one").items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["t.csv", "--out", "t.csv"], "expected a directory"),
        (
            ["t.csv", "--cv", "3"],
            "'--cv' is 3, expected none with 3 processes that train together: start it without",
        ),
        (["-"], "'DATA' is -, standard input, expected none with 3 processes"),
        (["t.csv", "--reproducible", "8"], "'--reproducible' is 8, with 3 ranks"),
        (["t.csv", "--reproducible", "6"], "'--reproducible' is 6, expected a power of two"),
    ],
)
def test_wrong_use_is_one_line_of_rank_0(here, arguments, said):
    ended = ranks(here, 3, "train", *arguments, *FAST, status=2)
    lines = [line for line in ended.errors.splitlines() if line.startswith("onepass:")]
    assert len(lines) == 1
    assert said in lines[0]


def test_what_all_ranks_would_note_rank_0_alone_does(here):
    a = np.random.default_rng(0).standard_normal(11).tolist()
    rows = "".join(f"{x},{x * x},{'no' if i % 2 else 'yes'}\n" for i, x in enumerate(a))
    Path("few.csv").write_text(f"a,b,y\n{rows}")
    ended = ranks(here, 2, "train", "few.csv", *FAST, "--batch-size", "4")
    assert ended.errors.count("note: ") == 1, ended.errors
    assert "note: fit: 'batch_size' is 4, which leaves 3 in a batch" in ended.errors


def test_an_error_of_one_rank_is_one_line(here):
    """Rank 1 alone cannot go on; it says so, and the others end quietly."""
    ended = end_ranks(full_disk, 3, str(here), timeout=180)
    assert ended.status == 1
    assert "onepass: rank 1: no space left\n" in ended.errors
    assert "Traceback" not in ended.errors
    record = json.loads(Path("run/run.json").read_text())
    assert "rank 1 of 3 failed in a fit: OSError: no space left" in str(record["ended"])


def full_disk(folder: str) -> None:
    class Fails(Diagnosis):
        def on_epoch_end(self, run: Run) -> None:
            if run.comm.rank == 1 and run.epoch == 2:
                raise OSError("no space left")

    _recipe.Diagnosis = Fails
    command(folder, "train", "t.csv", *FAST, "--diagnose", "--out", "run")


def unlike(folder: str, data: str, more: list[str]) -> None:
    """What ranks run that were started otherwise than rank 0, which trains on t.csv."""
    others = os.environ["PMI_RANK"] != "0"
    command(folder, "train", data if others else "t.csv", *FAST, "--out", "r", *more * others)


@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        ("t.csv", ["--lr", "0.2"], "'--lr' is not given on rank 0 and 0.2 on rank 1"),
        ("t.csv", ["--resume"], "'--resume' is not given on rank 0 and True on rank 1"),
        ("t.csv", ["--diagnose"], "'--diagnose' is not given on rank 0 and True on rank 1"),
        ("t.csv", ["--early-stopping", "1"], "'--early-stopping' is not given on rank 0 and 1 on"),
        ("t.csv", ["--out", "q"], "'--out' is r on rank 0 and q on rank 1"),
        ("u.csv", [], "'DATA' is t.csv on rank 0 and u.csv on rank 1"),
        ("other/t.csv", [], "'DATA' is t.csv on rank 0 and other/t.csv on rank 1"),
    ],
)
def test_ranks_with_other_options_are_refused(here, data, more, said):
    ended = end_ranks(unlike, 2, str(here), data, more, timeout=180)
    lines = [line for line in ended.errors.splitlines() if line.startswith("onepass:")]
    assert (ended.status, len(lines)) == (2, 1), ended
    assert said in lines[0]
    assert "expected the same options on all ranks" in lines[0]
    assert not Path("r").exists()


def misspelt(folder: str, own: list[str], at: str) -> None:
    """One rank was started with arguments that the parser refuses."""
    more = own if os.environ.get("PMI_RANK", os.environ.get("RANK")) == at else []
    command(folder, *(more or ["train", "t.csv", *FAST, "--out", "r"]))


@pytest.mark.parametrize(
    ("launcher", "at", "own", "said"),
    [
        ("mpi", "1", "train --norm none --epoch 2", "train: unknown argument '--epoch'; did you"),
        ("mpi", "0", "train t.csv --epochs x", "train: '--epochs' is 'x', expected a whole number"),
        ("torch", "1", "train t.csv --task x", "train: argument --task: invalid choice: 'x'"),
        ("mpi", "1", "trian t.csv", "unknown command 'trian', expected one of train"),
        ("torch", "0", "--unknown", "unknown argument '--unknown', expected a command"),
    ],
)
def test_arguments_that_one_rank_refuses_end_all(here, launcher, at, own, said):
    ended = end_ranks(misspelt, 2, str(here), own.split(), at, launcher=launcher, timeout=60)
    lines = [line for line in ended.errors.splitlines() if line.startswith("onepass:")]
    assert (ended.status, len(lines)) == (2, 1), ended
    assert lines[0].startswith(f"onepass: {'rank 1 of 2: ' if at == '1' else ''}{said}")
    assert not Path("r").exists()


def test_arguments_that_all_ranks_refuse_are_one_line(here):
    ended = ranks(here, 3, "train", "t.csv", "--unknown", status=2)
    assert ended.errors.count("onepass: train: unknown argument '--unknown'") == 1, ended.errors


@pytest.mark.parametrize("name", ["predict", "search", "bench"])
def test_commands_of_one_process_refuse_several(here, name):
    ended = ranks(here, 2, name, "t.csv", status=2)
    said = f"onepass: {name}: PMI_SIZE is 2, as of processes that were started together, expected "
    assert ended.errors.count("onepass: ") == 1, ended.errors
    assert said in ended.errors
    assert f"start {name} without mpiexec or torchrun, or unset PMI_SIZE" in ended.errors
    assert sorted(p.name for p in here.iterdir()) == ["t.csv"]


def test_one_process_of_mpiexec_is_not_refused_and_info_is_of_each(here):
    assert "momentum" in ranks(here, 1, "lab").outputs[0]
    assert all("onepass" in text for text in ranks(here, 2, "info").outputs)


def other_version(folder: str) -> None:
    """Each rank has a file of one name, as on machines with disks of their own."""
    place = Path(folder, os.environ["PMI_RANK"])
    command(str(place), "train", "t.csv", *FAST, "--out", "r")


def test_ranks_with_another_version_of_the_data_are_refused(here):
    for rank in range(3):
        Path(str(rank)).mkdir()
        rows = Path("t.csv").read_text().splitlines()
        Path(f"{rank}/t.csv").write_text("\n".join(rows[: -1 if rank == 2 else None]) + "\n")
    ended = end_ranks(other_version, 3, str(here), timeout=180)
    lines = [line for line in ended.errors.splitlines() if line.startswith("onepass:")]
    assert (ended.status, len(lines)) == (2, 1), ended
    assert "train: 'contents' is " in lines[0]
    assert "on rank 2, expected the same data on all ranks" in lines[0]
    assert not Path("0/r").exists()


def test_watching_pieces_is_wrong_use_on_all_ranks(here):
    options = [*FAST, "--reproducible", "4", "--diagnose", "--out", "r"]
    ended = ranks(here, 2, "train", "t.csv", *options, status=2)
    assert ended.errors.count("'--diagnose' is given, expected none with --reproducible 4") == 1
    assert not Path("r").exists()


def test_without_parallel_each_process_trains_alone(here):
    ranks(here, 2, "train", "t.csv", *FAST, "--parallel", "none")
    assert sorted(p.name for p in Path("runs").iterdir()) == ["t", "t-2"]
    assert_close(history("runs/t"), history("runs/t-2"))
