"""The Trainer in processes that mpiexec starts, or that torchrun would: results, errors, kills."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Checkpoint, Trainer
from ranks import end_ranks, run_ranks

RNG = np.random.default_rng(3)
X = RNG.standard_normal((37, 5))
Y = (X[:, 0] > 0).astype(np.int64)


class At(Callback):
    """Fails in one way after a step, on one rank."""

    def __init__(self, how, rank, step):
        self.how, self.rank, self.step = how, rank, step

    def on_step_end(self, run):
        if self.how == "Ctrl-C":
            if run.comm.rank == 0 and run.step >= self.step:
                if run.step == self.step:
                    os.kill(os.getsid(0), signal.SIGINT)  # mpiexec, which tells all ranks
                time.sleep(0.1)
        elif (run.comm.rank, run.step) == (self.rank, self.step):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                print(time.time(), flush=True)
                raise RuntimeError("no more")


def trained(parallel, folder=None, how=None, rank=0, step=0, reproducible=None):
    nn.manual_seed(5)
    model = nn.Sequential(
        nn.Linear(5, 8, dtype="float64"), nn.BatchNorm1d(8, dtype="float64"), nn.ReLU(),
        nn.Dropout(0.3), nn.Linear(8, 2, dtype="float64"),
    )  # fmt: skip
    callbacks = [At(how, rank, step)] if how else []
    callbacks += [Checkpoint(folder, every_n_steps=1)] if folder else []
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.02),
        metrics=["accuracy", "auc"], max_norm=0.5, callbacks=callbacks, progress=False,
        parallel=parallel, reproducible=reproducible,
    )  # fmt: skip
    validation = (X[:9], Y[:9])
    try:
        trainer.fit(X, Y, max_epochs=4, batch_size=8, validation_data=validation, ckpt_path=folder)
    except KeyboardInterrupt:
        print("interrupted", trainer.step)
    return trainer


def told(trainer):
    """Rank, a digest of all parameters and statistics, and the history."""
    digest = hashlib.sha256()
    for name, array in sorted(trainer.model.state_dict().items()):
        digest.update(name.encode() + array.tobytes())
    values = [p.data.ravel().tolist() for p in trainer.model.parameters()]
    return {
        "rank": trainer.comm.rank, "size": trainer.comm.size, "digest": digest.hexdigest(),
        "history": dict(trainer.history), "values": [v for vs in values for v in vs],
        "step": trainer.step,
    }  # fmt: skip


def train(*arguments):
    """What each rank runs."""
    print(json.dumps(told(trained("auto", *arguments))))


def check(outputs, alone):
    found = [json.loads(output) for output in outputs]
    assert [f["rank"] for f in found] == [*range(len(found))]
    assert len({f["digest"] for f in found}) == 1
    for one in found:
        assert one["size"] == len(found)
        assert one["history"] == found[0]["history"]
        for name, column in alone["history"].items():
            np.testing.assert_allclose(one["history"][name], column, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(one["values"], alone["values"], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_of_mpiexec(size):
    if size == 1:
        (output,) = run_ranks(train, 1)
        assert json.loads(output)["digest"] == told(trained(None))["digest"]
    else:
        check(run_ranks(train, size), told(trained(None)))


def test_processes_of_torch():
    check(run_ranks(train, 2, launcher="torch"), told(trained(None)))


def test_reproducible_processes_have_the_bits_of_one():
    alone = told(trained(None, reproducible=4))
    for size in (2, 4):
        for output in run_ranks(train, size, None, None, 0, 0, 4):
            found = json.loads(output)
            assert found["digest"] == alone["digest"]
            assert found["history"] == alone["history"]


def test_an_exception_on_one_rank_ends_all_at_once(tmp_path):
    ended = end_ranks(train, 3, str(tmp_path), "raise", 1, 6)
    assert ended.status != 0
    assert ended.at - float(ended.outputs[1]) < 10
    assert "onepass: rank 1 of 3 failed: RuntimeError: no more; all ranks end" in ended.errors


def test_a_rank_that_is_killed_and_a_run_that_goes_on_with_others(tmp_path):
    alone = told(trained(None))
    ended = end_ranks(train, 3, str(tmp_path), "kill", 2, 13)
    assert ended.status != 0
    assert ended.outputs == ["", "", ""]
    assert len(list(tmp_path.glob("step_*"))) > 0
    check(run_ranks(train, 2, str(tmp_path)), alone)


def test_ctrl_c_on_one_rank_ends_all_after_the_same_step(tmp_path):
    outputs = run_ranks(train, 3, str(tmp_path), "interrupt", 1, 7)
    assert [output.splitlines()[0] for output in outputs] == ["interrupted 7"] * 3
    check(run_ranks(train, 2, str(tmp_path)), told(trained(None)))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ctrl_c_and_a_resume_have_the_bits_of_an_uninterrupted_run(tmp_path, size):
    """Of two ranks, with pieces, and a norm and dropout; any number of ranks goes on."""
    ended = end_ranks(train, 2, str(tmp_path), "Ctrl-C", 0, 7, 4)
    lines = [output.splitlines()[0] for output in ended.outputs]
    assert lines[0].startswith("interrupted ")
    assert lines[0] == lines[1]
    assert 7 <= int(lines[0].split()[1]) < 20  # inside an epoch or between two
    alone = told(trained(None, reproducible=4))
    for output in run_ranks(train, size, str(tmp_path), None, 0, 0, 4):
        found = json.loads(output)
        assert found["digest"] == alone["digest"]
        assert found["history"] == alone["history"]


def of_tensors():
    """What each rank runs: data are tensors of PyTorch."""
    import torch

    model = nn.Sequential(nn.Linear(5, 8, dtype="float64"), nn.ReLU(), nn.Dropout(0.3),
                          nn.Linear(8, 2, dtype="float64"))  # fmt: skip
    nn.manual_seed(5)
    for p in model.parameters():
        p.data[...] = np.random.default_rng(p.size).standard_normal(p.shape)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        metrics=["accuracy", "auc"], progress=False, parallel="auto",
    )  # fmt: skip
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    trainer.fit(x, y, max_epochs=3, batch_size=8, validation_data=(x[:9], y[:9]))
    predicted = trainer.predict(x)
    assert isinstance(predicted, torch.Tensor)
    print(json.dumps(told(trainer)))


@pytest.mark.parametrize(("launcher", "n"), [("mpi", 3), ("torch", 2)])
def test_tensors_of_torch(launcher, n):
    pytest.importorskip("torch")
    (alone,) = run_ranks(of_tensors, 1)
    check(run_ranks(of_tensors, n, launcher=launcher), json.loads(alone))


class SlowToWrite(Callback):
    """A checkpoint of a large model, on a slow disk."""

    rank_0_only = True

    def __init__(self, file):
        self.file = file

    def on_abort(self, run, error):
        time.sleep(2)
        Path(self.file).write_text(type(error).__name__)


def cut_off(file, how):
    """What each rank runs: nobody catches the error."""
    model = nn.Sequential(nn.Linear(5, 2, dtype="float64"))
    callbacks = [SlowToWrite(file)] + ([At(how, 1, 3)] if how == "interrupt" else [])
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        callbacks=callbacks, progress=False, parallel="auto", nonfinite="raise",
    )  # fmt: skip
    x = np.where(np.arange(len(X))[:, None] == 30, np.nan, X) if how == "nan" else X
    trainer.fit(x, Y, max_epochs=4, batch_size=8)


@pytest.mark.parametrize(("how", "name"), [("interrupt", "KeyboardInterrupt"),
                                           ("nan", "SpoiltBatchError")])  # fmt: skip
def test_an_error_of_all_ranks_lets_rank_0_write(tmp_path, how, name):
    file = tmp_path / "written"
    ended = end_ranks(cut_off, 2, str(file), how)
    assert ended.status != 0
    assert file.read_text() == name
    assert ended.errors.count("Traceback") == 1  # of rank 0
    assert "onepass: rank" not in ended.errors
