"""A rank that fails or leaves ends all within seconds, with a line that says which and why."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from onepass import nn, optim, parallel
from onepass.parallel._errors import told
from onepass.train import Callback, Trainer
from ranks import end_ranks, run_ranks

SECONDS = 10  # from the failure to the end of all
each_launcher = pytest.mark.parametrize(("launcher", "n"), [("mpi", 3), ("torch", 2)])


def sums(comm, times):
    """Calls that every rank takes part in."""
    x = np.ones(1000, np.float32)
    for _ in range(times):
        comm.sum_(x)


def ends(how):
    """Rank 1 ends after three calls; the others go on."""
    comm = parallel.find("auto")
    sums(comm, 3)
    if comm.rank == 1:
        print(time.time(), flush=True)
        how()
        return
    sums(comm, 10)
    print("not reached")


def raising():
    raise ValueError("broken\nin two lines")


def by_exception():
    ends(raising)


def by_exit():
    ends(lambda: sys.exit(3))


def by_exit_with_zero():
    ends(lambda: sys.exit(0))


def by_end_of_program():
    ends(lambda: None)


def by_kill():
    ends(lambda: os.kill(os.getpid(), signal.SIGKILL))


def check(ended, words):
    assert ended.status != 0
    assert ended.at - float(ended.outputs[1] or 0) < SECONDS, ended.errors
    assert "not reached" not in "".join(ended.outputs)
    for text in words:
        assert text in ended.errors, ended.errors


@each_launcher
def test_an_exception_on_one_rank(launcher, n):
    ended = end_ranks(by_exception, n, launcher=launcher)
    line = f"onepass: rank 1 of {n} failed: ValueError: broken; all ranks end\n"
    check(ended, ["Traceback", line])
    assert ended.errors.count(line) == 1
    if launcher == "torch":
        assert "OtherRankError: Torch: rank 1 of 2 failed: ValueError: broken\n" in ended.errors


@each_launcher
@pytest.mark.parametrize("how", [by_exit, by_exit_with_zero, by_end_of_program])
def test_a_rank_that_leaves_while_others_wait(launcher, n, how):
    said = {
        "mpi": "onepass: rank 1 of 3 has left while rank ",
        "torch": "RuntimeError: Torch: rank 1 of 2 has left\n",
    }
    check(end_ranks(how, n, launcher=launcher), [said[launcher]])


@each_launcher
def test_a_killed_rank(launcher, n):
    said = {
        "mpi": "(signal 9)",
        "torch": "onepass: another rank of 2 has ended without a word; all ranks end\n",
    }
    check(end_ranks(by_kill, n, launcher=launcher), [said[launcher]])


def kept_the_store():
    """Rank 0 is killed, over which others learn of one that leaves."""
    comm = parallel.find("auto")
    sums(comm, 3)
    if comm.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    print(time.time(), flush=True)
    sums(comm, 10)
    print("not reached")


def test_a_killed_rank_that_kept_the_store():
    ended = end_ranks(kept_the_store, 2, launcher="torch")
    check(ended, ["onepass: another rank of 2 has ended without a word; all ranks end\n"])
    assert ended.errors.count("onepass: ") == 1, ended.errors


def in_a_thread():
    comm = parallel.find("auto")

    def train():
        sums(comm, 3)
        if comm.rank == 1:
            print(time.time(), flush=True)
            raise ValueError("broken")
        sums(comm, 10)

    thread = threading.Thread(target=train)
    thread.start()
    threading.Event().wait()  # the program never looks at its thread again


def test_an_exception_in_the_thread_that_trains():
    ended = end_ranks(in_a_thread, 2)
    check(ended, ["onepass: rank 1 of 2 failed: ValueError: broken; all ranks end"])


def in_another_thread():
    comm = parallel.find("auto")
    sums(comm, 3)
    thread = threading.Thread(target=raising)
    thread.start()
    thread.join()
    sums(comm, 3)
    print("done")


def test_an_exception_in_a_thread_that_has_nothing_to_do_with_it_ends_nothing():
    assert run_ranks(in_another_thread, 2) == ["done\n", "done\n"]


def late():
    comm = parallel.find("auto")
    sums(comm, 3)
    if comm.rank == 0:  # it writes a report, say
        time.sleep(3)
        print("written")


@each_launcher
def test_a_rank_that_works_on_alone_is_left_to_it(launcher, n):
    assert run_ranks(late, n, launcher=launcher) == ["written\n", *[""] * (n - 1)]


def interrupted_at_the_end(status):
    """Ctrl-C, which all ranks get, after rank 1 has come to its end."""
    comm = parallel.find("auto")
    sums(comm, 3)
    if comm.rank == 1:
        pid = os.getpid()
        threading.Thread(target=interrupt_in_the_end, args=(pid,), daemon=True).start()
        print(time.time(), flush=True)
        return
    try:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(status)


def interrupt_in_the_end(pid):
    for _ in range(2):  # a terminal and mpiexec may both send it
        time.sleep(1)
        os.kill(pid, signal.SIGINT)


@each_launcher
@pytest.mark.parametrize("status", [0, 130])
def test_ctrl_c_while_a_rank_waits_at_its_end(launcher, n, status):
    """Each ends with the status that it has."""
    ended = end_ranks(interrupted_at_the_end, n, status, launcher=launcher, timeout=30)
    assert ended.status == status, ended.errors
    assert ended.at - float(ended.outputs[1]) < SECONDS
    assert ended.errors == ""


def with_fork():
    comm = parallel.find("auto")
    sums(comm, 3)
    child = os.fork()
    if not child:
        error = ValueError("in the child")
        sys.excepthook(ValueError, error, None)
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(child, 0)
    sums(comm, 3)
    print("done")


def test_a_forked_child_is_no_rank():
    ended = end_ranks(with_fork, 2)
    assert (ended.status, ended.outputs) == (0, ["done\n", "done\n"]), ended.errors
    assert "in the child" in ended.errors
    assert "all ranks end" not in ended.errors


def at_a_prompt():
    sys.ps1 = ">>> "
    comm = parallel.find("auto")
    hooks = sys.excepthook, threading.excepthook
    sums(comm, 3)
    print(hooks == (sys.__excepthook__, threading.__excepthook__))


def test_nothing_is_hooked_where_somebody_types():
    assert run_ranks(at_a_prompt, 2) == ["True\n", "True\n"]


def two_communicators():
    from mpi4py import MPI

    world = parallel.MPI()
    part = parallel.MPI(MPI.COMM_WORLD.Split(world.rank == 0))
    sums(world, 2)
    if world.rank == 0:
        return
    sums(part, 2)
    if world.rank == 1:
        print(time.time(), flush=True)
        sys.exit("enough")
    sums(part, 1)
    print("not reached")


def test_a_rank_that_leaves_a_part_of_the_ranks():
    check(end_ranks(two_communicators, 3), ["enough", "rank 0 of 2 has left while rank 1 waits"])


# ----------------------------------------------------- an exception of a fit that one rank catches

X = np.random.default_rng(0).standard_normal((37, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class FailsOn(Callback):
    """Raises on some ranks at the end of the second epoch; saves where a fit is cut off."""

    def __init__(self, ranks, folder=None):
        self.ranks, self.folder = ranks, folder

    def on_epoch_end(self, run):
        if run.comm.rank in self.ranks and run.epoch == 2:
            raise KeyError("broken")

    def on_abort(self, run, error):
        if self.folder is not None:
            run.save(self.folder)


def fit(callback, comm, norm=True):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), *[nn.BatchNorm1d(8)] * norm, nn.Linear(8, 2))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        callbacks=[callback], progress=False, parallel=comm,
    )  # fmt: skip
    trainer.fit(X, Y, max_epochs=3, batch_size=8)


def attempt(call):
    """What it raises, and how long it takes."""
    begun = time.monotonic()
    try:
        call()
        return "nothing", time.monotonic() - begun
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("; ")[0], time.monotonic() - begun


def caught(ranks, folder):
    """A fit fails on some ranks, whose program goes on as if nothing were."""
    comm = parallel.find("auto")
    x = np.ones(3)
    calls = [
        lambda: fit(FailsOn(ranks, folder), comm),
        lambda: fit(FailsOn(()), comm),
        lambda: comm.sum_(x),
        lambda: parallel.all_reduce_gradients(
            optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), comm
        ),
        comm.barrier,
    ]
    print(json.dumps([attempt(call) for call in calls]))


@each_launcher
@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize("saves", [False, True])
def test_a_fit_that_fails_on_one_rank_fails_on_all_and_so_does_every_later_call(
    tmp_path, launcher, n, failed, saves
):
    folder = str(tmp_path) if saves else None
    ended = end_ranks(caught, n, [failed], folder, launcher=launcher)
    assert ended.status == 0, ended.errors
    engine = {"mpi": "MPI", "torch": "Torch"}[launcher]
    said = f"{engine}: rank {failed} of {n} failed in a fit: KeyError: 'broken'"
    for rank, output in enumerate(ended.outputs):
        first, *later = json.loads(output)
        kind = "RuntimeError" if rank == failed else "OtherRankError"
        own = "KeyError: 'broken'" if rank == failed and not saves else f"{kind}: {said}"
        assert first[0] == own
        assert [text for text, _ in later] == [f"{kind}: {said}"] * 4
        assert all(seconds < SECONDS for _, seconds in [first, *later])
    assert "all ranks end" not in ended.errors


class SlowToLast:
    """A window of MPI whose messages to the last rank take a second."""

    def __init__(self, window, ranks):
        self._window, self._last = window, ranks - 1

    def __getattr__(self, name):
        return getattr(self._window, name)

    def Put(self, values, rank, place):  # noqa: N802
        time.sleep(rank == self._last)
        self._window.Put(values, rank, place)


def caught_and_told_slowly():
    """Rank 1 fails in a fit; the last one learns first that rank 0 has broken off."""
    comm = parallel.find("auto")
    if comm.rank == 1:
        comm._member._window = SlowToLast(comm._member._window, comm.size)
    print(json.dumps(attempt(lambda: fit(FailsOn([1]), comm))))


def test_who_learns_of_a_failure_by_another_rank_says_whose_it_is():
    outputs = run_ranks(caught_and_told_slowly, 3, launcher="mpi")
    said = "OtherRankError: MPI: rank 1 of 3 failed in a fit: KeyError: 'broken'"
    assert [json.loads(outputs[rank])[0] for rank in (0, 2)] == [said] * 2


@each_launcher
def test_ranks_that_all_fail_at_one_place_go_on_together(tmp_path, launcher, n):
    for output in run_ranks(caught, n, [*range(n)], str(tmp_path), launcher=launcher):
        assert [text for text, _ in json.loads(output)] == ["KeyError: 'broken'"] + ["nothing"] * 4
    assert len(list(tmp_path.glob("step_*"))) == 1


def all_fail_again_and_again(rounds):
    """As `fit` on all ranks, whose programs catch its error and go on."""
    comm = parallel.find("auto")
    for _ in range(rounds):
        with contextlib.suppress(KeyError), told(comm):
            raise KeyError("broken")
        sums(comm, 2)
    print("done")


@pytest.mark.parametrize(("launcher", "n", "rounds"), [("mpi", 4, 50), ("torch", 2, 10)])
def test_ranks_go_on_together_however_late_one_learns_of_the_others(launcher, n, rounds):
    found = run_ranks(all_fail_again_and_again, n, rounds, launcher=launcher)
    assert found == ["done\n"] * n


def before_the_training():
    """One rank is refused by a check of its own, before it has met the others."""
    comm = parallel.find("auto")
    y = Y[:-1] if comm.rank == 1 else Y
    model = nn.Sequential(nn.Linear(5, 2))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        progress=False, parallel=comm,
    )  # fmt: skip
    print(attempt(lambda: trainer.fit(X, y, max_epochs=1))[0])


@each_launcher
def test_data_that_one_rank_refuses(launcher, n):
    outputs = run_ranks(before_the_training, n, launcher=launcher)
    assert outputs[1].startswith("ValueError: ")
    for output in [outputs[0], *outputs[2:]]:
        assert f"rank 1 of {n} failed in a fit: ValueError: " in output


def uncaught():
    comm = parallel.find("auto")
    if comm.rank == 1:
        print(time.time(), flush=True)
    fit(FailsOn((1,)), comm)
    print("not reached")


@each_launcher
def test_a_fit_that_fails_on_one_rank_ends_all_with_one_line(launcher, n):
    ended = end_ranks(uncaught, n, launcher=launcher)
    check(ended, [f"onepass: rank 1 of {n} failed: KeyError: 'broken'; all ranks end\n"])
    assert ended.errors.count("all ranks end") == 1, ended.errors
    if launcher == "mpi":
        assert ended.errors.count("Traceback") == 1, ended.errors


def second_is_uncaught():
    comm = parallel.find("auto")
    if comm.rank == 1:
        attempt(lambda: fit(FailsOn((1,)), comm))
        print(time.time(), flush=True)
        time.sleep(60)  # its program goes on, with something else
    fit(FailsOn((1,)), comm)


def test_ranks_end_although_the_program_of_the_one_that_failed_goes_on():
    ended = end_ranks(second_is_uncaught, 2)
    check(ended, ["onepass: rank 1 of 2 failed in a fit: KeyError: 'broken'; all ranks end\n"])


class ExitsOn(Callback):
    """A hook of a rank ends the program."""

    def __init__(self, rank):
        self.rank = rank

    def on_epoch_end(self, run):
        if run.comm.rank == self.rank:
            print(time.time(), flush=True)
            sys.exit(3)


def exit_in_a_hook(rank):
    fit(ExitsOn(rank), parallel.find("auto"))


@pytest.mark.parametrize(("launcher", "rank"), [("mpi", 1), ("torch", 0)])
def test_the_line_names_the_rank_that_has_failed_first(launcher, rank):
    """Once, also where that rank has kept what they all read in."""
    ended = end_ranks(exit_in_a_hook, 3, rank, launcher=launcher)
    assert ended.at - float(ended.outputs[rank]) < SECONDS, ended.errors
    line = f"onepass: rank {rank} of 3 failed in a fit: SystemExit: 3; all ranks end\n"
    assert line in ended.errors
    assert ended.errors.count("onepass: ") == 1, ended.errors
