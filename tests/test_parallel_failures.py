"""A rank that fails or leaves ends all within seconds, with a line that says which and why."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from onepass import parallel
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
        assert "RuntimeError: Torch: rank 1 of 2 failed: ValueError: broken\n" in ended.errors


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
    said = {"mpi": "(signal 9)", "torch": "RuntimeError: Torch: a call failed: "}
    check(end_ranks(by_kill, n, launcher=launcher), [said[launcher]])


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
