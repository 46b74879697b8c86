"""onepass.parallel over real processes: mpiexec of the mpich wheel, and gloo of torch.distributed.

Sums of whole numbers are exact, so every element is compared without a tolerance.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import re
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from onepass import nn, optim, parallel
from onepass.parallel import _collectives, _exit, _find
from onepass.train import Trainer
from ranks import run_ranks

ENGINES = [("mpi", n) for n in (1, 2, 3)] + [("torch", 2)]
each_engine = pytest.mark.parametrize(("launcher", "n"), ENGINES)
DTYPES = ("float32", "float64", "int64")
SHAPES = [(5,), (2, 3), (), (0,), (100_003,)]


def of_rank(rank, shape, dtype):
    """Small whole numbers, other ones on each rank."""
    size = int(np.prod(shape))
    return ((np.arange(size) * (rank + 3)) % 11 - 5).astype(dtype).reshape(shape)


def verbs():
    comm = parallel.find("auto")
    ranks = range(comm.size)
    for dtype in DTYPES:
        for shape in SHAPES:
            every = [of_rank(rank, shape, dtype) for rank in ranks]
            x = every[comm.rank].copy()
            comm.sum_(x)
            np.testing.assert_array_equal(x, sum(every), strict=True)
            for root in ranks:
                x = every[comm.rank].copy()
                comm.broadcast_(x, root)
                np.testing.assert_array_equal(x, every[root], strict=True)
    comm.barrier()
    # Rounding too is the same everywhere.
    x = np.random.default_rng(comm.rank).standard_normal(99_999).astype(np.float32)
    comm.sum_(x[:9999])
    comm.sum_(x[9999:])
    print(type(comm).__name__, comm.rank, comm.size, hashlib.sha256(x).hexdigest())


@each_engine
def test_the_verbs(launcher, n):
    outputs = [text.split() for text in run_ranks(verbs, n, launcher=launcher)]
    name = "Alone" if n == 1 else {"mpi": "MPI", "torch": "Torch"}[launcher]
    assert [words[:3] for words in outputs] == [[name, str(r), str(n)] for r in range(n)]
    assert len({words[3] for words in outputs}) == 1


def rows_of_ranks():
    comm, rng = parallel.MPI(), np.random.default_rng(5)
    for shape in ((5, 7), (1,), (3, 4000), (0,)):
        for dtype in ("float64", "float32"):
            whole = rng.standard_normal((comm.size, *shape)).astype(dtype)
            table = np.zeros_like(whole)
            table[comm.rank] = whole[comm.rank]
            comm._fill_rows(table)
            np.testing.assert_array_equal(table, whole, strict=True)
    print("rows")


@pytest.mark.parametrize("n", [2, 3])
def test_rows_that_each_rank_has_filled_come_to_all(n):
    assert run_ranks(rows_of_ranks, n) == ["rows\n"] * n


def mpi_of_one():
    comm = parallel.MPI()
    x = np.float32([1, 2])
    comm.sum_(x)
    comm.broadcast_(x)
    comm.barrier()
    print(comm.rank, comm.size, x.tolist())


def test_mpi_of_one_process():
    assert run_ranks(mpi_of_one, 1) == ["0 1 [1.0, 2.0]\n"]


def collectives():
    comm = parallel.find("auto")
    own = np.arange(6.0).reshape(3, 2)[: comm.rank] + 10 * comm.rank  # rank 0 has no row
    rows = [share.tolist() for share in _collectives.gather(comm, own)]
    sent = _collectives.broadcast_object(comm, {"rank": comm.rank, "x": [0.1, None]}, comm.size - 1)
    same = _collectives.first_other(comm, "one text")
    other = _collectives.first_other(comm, f"text {comm.rank == 1}")
    print(json.dumps([rows, sent, same, other]))


@each_engine
def test_the_collectives(launcher, n):
    rows = [(np.arange(6.0).reshape(3, 2)[:r] + 10 * r).tolist() for r in range(n)]
    want = [rows, {"rank": n - 1, "x": [0.1, None]}, None, 1 if n > 1 else None]
    for text in run_ranks(collectives, n, launcher=launcher):
        assert json.loads(text) == want


def values(rank, size):
    """Of very different sizes: the order of additions shows in the last bits."""
    rng = np.random.default_rng(100 + rank)
    return (rng.standard_normal(size) * 10.0 ** rng.integers(-6, 6, size)).astype(np.float32)


def tree():
    comm = parallel.find("auto")
    for size in (1, 7, 10_001):
        x = values(comm.rank, size)
        _collectives.tree_sum_(comm, x)
        print(hashlib.sha256(x).hexdigest())


@pytest.mark.parametrize(("launcher", "n"), [("mpi", 2), ("mpi", 4), ("torch", 2)])
def test_the_tree(launcher, n):
    want = ""
    for size in (1, 7, 10_001):
        x = [values(rank, size) for rank in range(n)]
        total = x[0] + x[1] if n == 2 else (x[0] + x[1]) + (x[2] + x[3])
        want += hashlib.sha256(total).hexdigest() + "\n"
    assert run_ranks(tree, n, launcher=launcher) == [want] * n


def refusals():
    comm = parallel.find("auto")
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    bad = [np.zeros(3, np.float16), np.zeros(3, np.int32), np.zeros(3, ">f4"), [1.0], None,
           np.zeros((4, 4))[::2, ::2], read_only]  # fmt: skip
    for array in bad:
        for call in (comm.sum_, comm.broadcast_):
            try:
                call(array)
            except (TypeError, ValueError) as error:
                print(f"{type(error).__name__}: {error}")
    for root in (-1, comm.size, 0.5):
        try:
            comm.broadcast_(np.zeros(3), root)
        except (TypeError, ValueError) as error:
            print(f"{type(error).__name__}: {error}")
    x = np.ones(1)
    comm.sum_(x)  # and all goes on
    print(x)


@each_engine
def test_arrays_that_cannot_be_summed_are_refused_by_name(launcher, n):
    said = run_ranks(refusals, n, launcher=launcher)[0].splitlines()
    owner = "Alone" if n == 1 else {"mpi": "MPI", "torch": "Torch"}[launcher]
    want = [
        "TypeError: {}: 'array' has dtype float16, expected float32, float64, int64; gradients of "
        "16 bits are summed by parallel.all_reduce_gradients, in float32",
        "TypeError: {}: 'array' has dtype int32, expected float32",
        "TypeError: {}: 'array' has dtype >f4, expected float32",
        "TypeError: {}: 'array' is a list, expected an array",
        "TypeError: {}: 'array' is None, expected an array",
        "ValueError: {}: 'array' of shape (2, 2) has gaps or another order in memory, expected C",
        "ValueError: {}: 'array' is read-only, expected one to write the result to",
    ]
    roots = [
        f"ValueError: {owner}: 'root' is -1, expected a whole number >= 0 and < {n}",
        f"ValueError: {owner}: 'root' is {n}, expected a whole number >= 0 and < {n}",
        f"TypeError: {owner}: 'root' is 0.5, expected a whole number >= 0 and < {n}",
    ]
    for i, line in enumerate(line for line in want for _ in range(2)):
        assert said[i].startswith(line.format(owner)), said[i]
    assert said[14:] == [*roots, f"[{n}.]"]


def tensors():
    import torch

    comm = parallel.find("auto")
    x = torch.arange(6.0).reshape(2, 3) * (comm.rank + 1)
    comm.sum_(x)
    y = torch.full((2,), comm.rank)
    comm.broadcast_(y, 1)
    z = torch.ones(3, requires_grad=True)
    comm.sum_(z)
    print(json.dumps([x.tolist(), y.tolist(), z.tolist()]))


@pytest.mark.parametrize("launcher", ["mpi", "torch"])
def test_tensors_on_the_cpu(launcher):
    pytest.importorskip("torch")
    want = [[[0, 3, 6], [9, 12, 15]], [1, 1], [2, 2, 2]]
    for text in run_ranks(tensors, 2, launcher=launcher):
        assert json.loads(text) == want


def wrapped():
    if "PMI_RANK" in os.environ:
        from mpi4py import MPI

        world = MPI.COMM_WORLD
        part = world.Split(world.rank == 0)
    else:
        import torch.distributed as dist

        parallel.Torch()
        world = dist.group.WORLD
        part = dist.new_group([1, 2]) if dist.get_world_size() > 2 else world
    comm, again = parallel.find(world), parallel.find(world)
    x = np.ones(1)
    comm.sum_(x)
    again.sum_(x)
    print(type(comm).__name__, comm.size, x[0], parallel.find(comm) is comm)
    if comm.rank:
        two = parallel.find(part)
        y = np.float64([comm.rank])
        two.sum_(y)
        z = np.float64([comm.rank])
        two.broadcast_(z, 1)
        print(two.rank, two.size, y[0], z[0])


@pytest.mark.parametrize("launcher", ["mpi", "torch"])
def test_communicators_of_others_and_of_a_part_of_the_ranks(launcher):
    name = {"mpi": "MPI", "torch": "Torch"}[launcher]
    first = f"{name} 3 9.0 True\n"
    assert run_ranks(wrapped, 3, launcher=launcher) == [
        first, first + "0 2 3.0 2.0\n", first + "1 2 3.0 2.0\n"
    ]  # fmt: skip


@pytest.mark.slow
def test_torchrun_itself():
    outputs = [text.split() for text in run_ranks(verbs, 2, launcher="torchrun")]
    assert [words[:3] for words in outputs] == [["Torch", "0", "2"], ["Torch", "1", "2"]]


# ------------------------------------------------------------------------- which communicator


@pytest.fixture
def environment(monkeypatch):
    for name in (*_find.SIZES, "PMI_RANK", "PMIX_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


TORCHRUN = {"RANK": "0", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "Alone"),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, "Alone"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, "MPI"),
        ({"PMIX_RANK": "1"}, "MPI"),
        ({**TORCHRUN, "WORLD_SIZE": "2"}, "Torch"),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, "Alone"),
        ({**TORCHRUN, "WORLD_SIZE": "4", "PMI_RANK": "1", "PMI_SIZE": "2"}, "Torch"),
        ({"WORLD_SIZE": "4"}, "Alone"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "MPI"),  # srun --mpi=none: MPI() then says what is wrong
        ({"SLURM_STEP_NUM_TASKS": "2", "PMIX_RANK": "1"}, "MPI"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, "Alone"),
        ({"SLURM_NTASKS": "4"}, "Alone"),  # of the job, whose script is one process
        ({"SLURM_STEP_NUM_TASKS": "9", "PMI_RANK": "1", "PMI_SIZE": "2"}, "MPI"),
    ],
)
def test_auto_is_what_started_the_program(environment, monkeypatch, variables, name):
    environment(**variables)
    made = types.SimpleNamespace(rank=0, size=2)
    for kind in ("MPI", "Torch"):
        monkeypatch.setattr(_find, kind, {name: lambda: made}.get(kind))  # the other is None
    found = parallel.find("auto")
    assert (found is made) == (name != "Alone")
    assert isinstance(found, parallel.Alone) == (name == "Alone")


def test_several_processes_that_cannot_speak_are_never_several_lone_trainings(
    environment, monkeypatch
):
    environment(PMI_RANK="0", PMI_SIZE="2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ModuleNotFoundError, match=r"MPI: mpi4py cannot .*onepass\[mpi\]"):
        parallel.find("auto")
    monkeypatch.setattr(_find, "MPI", parallel.Alone)
    with pytest.raises(RuntimeError, match="2 processes were started and MPI sees 1: mpi4py was"):
        parallel.find("auto")


def test_srun_that_has_started_lone_processes(environment, monkeypatch):
    environment(SLURM_STEP_NUM_TASKS="3")
    monkeypatch.setattr(_find, "MPI", parallel.Alone)
    with pytest.raises(RuntimeError, match=r"3 processes were started and .* \(--mpi=none\)"):
        parallel.find("auto")


def test_auto_is_the_group_that_the_program_has_made(environment, monkeypatch):
    torch = pytest.importorskip("torch")
    environment()
    made = types.SimpleNamespace(rank=0, size=2)
    monkeypatch.setattr(_find, "Torch", lambda: made)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for size, found in ((2, made), (1, parallel.Alone)):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda size=size: size)
        assert parallel.find("auto") is found or isinstance(parallel.find("auto"), found)


def test_torch_without_a_group_says_how_to_get_one(environment):
    pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="no group and the environment no RANK, WORLD_SIZE, MA"):
        parallel.Torch()
    with pytest.raises((TypeError, RuntimeError), match="Torch: 'group' is 3, expected a group"):
        parallel.Torch(3)


class Own:
    rank, size = 0, 1

    def sum_(self, array): ...
    def broadcast_(self, array, root=0): ...
    def barrier(self): ...


class Lacking(Own):
    barrier = None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "'parallel' is 3, expected None, 'auto' or a communicator: parallel.MPI(), "),
        ("mpi", "'parallel' is 'mpi', expected"),
        (True, "'parallel' is True, expected"),
        (Own, "'parallel' is <class"),
        (Lacking(), "it lacks barrier"),
    ],
)
def test_what_is_no_communicator_is_refused(value, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        parallel.find(value)


def test_a_communicator_is_taken_as_it_is():
    own = Own()
    assert parallel.find(own) is own
    assert isinstance(parallel.find(None), parallel.Alone)


def test_an_import_of_onepass_or_parallel_imports_no_engine():
    import subprocess

    code = (
        "import sys, onepass; a = 'onepass.parallel' in sys.modules; import onepass.parallel; "
        "print(a, sorted({'torch', 'mpi4py', 'cupy'} & {m.partition('.')[0] for m in sys.modules}))"
    )
    source = Path(parallel.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(source)})  # fmt: skip
    assert done.stdout == "False []\n", done.stderr


def copied():
    """A trainer in ranks is copied and pickled as one of a single process."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    made = optim.SGD(model.parameters(), lr=0.1)
    x = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    comm = parallel.find("auto")
    for reproducible in (None, 4):
        options = {"progress": False, "parallel": comm, "reproducible": reproducible}
        trainer = Trainer(model, nn.MSELoss(), made, **options)
        trainer.fit(x, x[:, :2], max_epochs=1)
        if comm.rank == 0:  # alone: nobody waits for it
            for twin in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
                assert (twin.comm.rank, twin.comm.size) == (0, 1)
                twin.fit(x, x[:, :2], max_epochs=2)
                assert twin.epoch == 2
    print(len(_exit._members))


@pytest.mark.parametrize("launcher", ["mpi", "torch"])
def test_a_copy_of_a_trainer_is_of_one_process(launcher):
    assert run_ranks(copied, 2, launcher=launcher) == ["1\n"] * 2


def many():
    """A communicator is one member, however often it is found."""
    for _ in range(3):
        comm = parallel.find("auto")
        comm.barrier()
    print(len(_exit._members))


@pytest.mark.parametrize("launcher", ["mpi", "torch"])
def test_a_communicator_that_is_found_often_is_one(launcher):
    assert run_ranks(many, 2, launcher=launcher) == ["1\n"] * 2


def held_up(folder):
    """Rank 0 is held up behind a barrier, in which it has answered the others."""
    from mpi4py import MPI

    class Slow(MPI.Intracomm):
        def Barrier(self):  # noqa: N802 - the name that mpi4py gave
            super().Barrier()
            until = time.monotonic() + 0.5
            while self.rank == 0 and time.monotonic() < until:
                self.Iprobe()

    comm = parallel.MPI(Slow(MPI.COMM_WORLD))
    there = Path(folder, "there")
    if comm.rank == 0:
        there.touch()
    until = time.monotonic() + 10
    while not there.exists() and time.monotonic() < until:
        time.sleep(0.01)  # and speaks with nobody, as one that waits for a file or a connection
    print(there.exists())


def test_a_rank_that_has_its_communicator_need_not_help_others_to_theirs(tmp_path):
    assert run_ranks(held_up, 3, str(tmp_path)) == ["True\n"] * 3


def slowly_looked_for():
    """The other rank comes after a wait for it has ended, and before it has been asked about."""
    comm = parallel.find("auto")
    x = np.ones(3)
    comm.sum_(x)
    if comm.rank == 0:
        who_left = comm._member.who_left

        def slowly():
            time.sleep(1)
            return who_left()

        comm._member.who_left = slowly
    else:
        time.sleep(0.5)
    comm.sum_(x)
    print(x[0])


def test_a_call_that_ends_while_a_rank_asks_who_has_failed_is_done():
    assert run_ranks(slowly_looked_for, 2, launcher="torch") == ["4.0\n"] * 2


def receiving():
    """Each program waits for any message of the other, while they add up."""
    from mpi4py import MPI

    world, comm = MPI.COMM_WORLD, parallel.find("auto")
    other, own, box = 1 - world.rank, np.full(40_000, world.rank), np.zeros(40_000, np.int64)
    request = world.Irecv(box, other)
    x = np.ones(30_000)
    comm.sum_(x)
    world.Send(own, other)
    request.Wait()
    print(set(x.tolist()), set(box.tolist()))


def test_messages_of_the_program_are_not_taken_for_ours():
    assert run_ranks(receiving, 2, timeout=30) == ["{2.0} {1}\n", "{2.0} {0}\n"]
