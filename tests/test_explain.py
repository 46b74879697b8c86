"""config.explain() and Optimizer.explain(): every number beside a count of another kind."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cases.optimizers import BY_NAME
from helpers import bits
from onepass import _C, _explain, _machine, config, nn, optim

SHAPES = [(7, 5), (5,), (3, 2, 2)]
ELEMENTS = 35 + 5 + 12


def params(dtype="float32", shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


# ---- the machine


def in_process(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS",)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


TOLD = """
import dataclasses, json, os
{before}
from onepass import config
{after}
print(json.dumps(dataclasses.asdict(config.explain(measure=False))))
"""


def told(before="", after="", **environment):
    return in_process(TOLD.format(before=before, after=after), **environment)


def test_threads_come_from_the_processors_that_may_be_used():
    usable = sorted(os.sched_getaffinity(0))
    found = told()
    assert found["affinity"] == len(usable)
    assert found["processors"] == os.cpu_count()
    assert found["threads"] == min(len(usable), found["quota"] or len(usable))
    assert found["variable"] is None
    one = told(before=f"os.sched_setaffinity(0, {{{usable[0]}}})")
    assert (one["affinity"], one["threads"]) == (1, 1)
    if one["processors"] > 1:
        of = one["processors"]
        assert one["threads_reason"] == f"those of {of} processors that this process may run on"
        assert one["notes"] == [f"this process may use 1 of {of} processors"]


def test_threads_come_from_a_variable():
    own = told(ONEPASS_NUM_THREADS="3", OMP_NUM_THREADS="2")
    assert (own["threads"], own["variable"]) == (3, "ONEPASS_NUM_THREADS")
    assert own["threads_reason"] == "ONEPASS_NUM_THREADS says so"
    theirs = told(OMP_NUM_THREADS="5,1")
    assert (theirs["threads"], theirs["variable"]) == (5, "OMP_NUM_THREADS")
    usable = min(theirs["affinity"], theirs["quota"] or theirs["affinity"])
    if usable < 5:
        assert theirs["notes"] == [
            f"5 threads share {usable} usable processors and wait for each other"
        ]


def test_threads_that_were_set():
    found = told(after="config.set_num_threads(7)", ONEPASS_NUM_THREADS="2")
    assert (found["threads"], found["variable"]) == (7, None)
    assert found["threads_reason"] == (
        "set by set_num_threads, by threadpoolctl or by the first call, which would now take 2"
    )


def test_threads_that_the_first_call_found():
    """A thread that may use less now, as after taskset, has not been given another number."""
    usable = sorted(os.sched_getaffinity(0))
    few = f"config.get_num_threads(); os.sched_setaffinity(0, {{{usable[0]}}})"
    found = told(after=few)
    assert (found["affinity"], found["threads"]) == (1, told()["threads"])
    if found["threads"] > 1:
        assert found["threads_reason"].endswith("or by the first call, which would now take 1")
        assert found["notes"] == [
            f"{found['threads']} threads share 1 usable processors and wait for each other"
        ]


def test_a_quota_is_the_reason_where_it_is_least(monkeypatch):
    """csrc/cpu/cpus.cpp reads it, and tests/cpp tries that on files of both versions."""
    threads = config.get_num_threads()
    limits = {"processors": 64, "affinity": 64, "quota": threads, "variable": None}
    monkeypatch.setattr(_C, "thread_limits", lambda: {**limits, "default": threads})
    found = config.explain(measure=False)
    assert (found.quota, found.affinity, found.processors) == (threads, 64, 64)
    assert found.threads_reason.startswith("the quota of this process's control group")
    assert found.notes == (f"this process may use {threads} of 64 processors",)


def test_the_level_and_why():
    best = config.cpu_levels()[-1]
    found = config.explain(measure=False)
    assert (found.level, found.levels) == (config.cpu_level(), tuple(config.cpu_levels()))
    assert found.level_reason == "the best of this processor and this build"
    lowest = config.cpu_levels()[0]
    if lowest != best:
        config.set_cpu_level(lowest)
        try:
            found = config.explain(measure=False)
        finally:
            config.set_cpu_level(best)
        assert (found.level, found.level_reason) == (lowest, "chosen by set_cpu_level")
        assert f"level {lowest} is in use where {best} would be faster" in found.notes
    assert told(ONEPASS_CPU_LEVEL=best)["level_reason"] == "ONEPASS_CPU_LEVEL says so"


@pytest.mark.parametrize(("cache", "free", "copied"), [
    (1 << 20, 1 << 40, 64 << 20), (32 << 20, 1 << 40, 128 << 20),
    (256 << 20, 1 << 30, 128 << 20), (256 << 20, 1000, 64 << 20),
])  # fmt: skip
def test_the_speed_of_a_copy_is_that_of_memory(monkeypatch, cache, free, copied):
    rate = config.explain().copy_bytes_per_second
    assert rate is not None
    assert rate > 1e8
    moved = []
    monkeypatch.setattr(_C, "move_streams", lambda *given: moved.append(given) or 0)
    monkeypatch.setattr(_explain, "least_seconds", lambda function: function() or 0.5)
    monkeypatch.setattr(_machine, "last_caches", lambda threads: cache)
    monkeypatch.setattr(_machine, "free_memory", lambda: free)
    assert config.explain().copy_bytes_per_second == copied / 0.5
    reads, writes, updates, *_ = moved[-1]
    assert sum(a.nbytes for a in (*reads, *writes)) == copied
    assert (len(reads), len(writes), len(updates)) == (1, 1, 0)
    assert config.explain(measure=False).copy_bytes_per_second is None


def test_every_chiplet_has_a_last_cache(monkeypatch, tmp_path):
    for cpu in range(8):
        for level, size, shared in ((2, "1M", f"{cpu}"), (3, "32M", f"{cpu // 2 * 2}-{cpu | 1}")):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{level}"
            folder.mkdir(parents=True)
            for name, value in (("type", "Unified"), ("level", level), ("size", size),
                                ("shared_cpu_list", shared)):  # fmt: skip
                (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(_machine, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 7}, raising=False)
    for threads, caches in ((1, 1), (3, 3), (8, 4)):
        assert _machine.last_caches(threads) == caches * 32 << 20
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3}, raising=False)
    assert _machine.last_caches(8) == 32 << 20
    monkeypatch.setattr(_machine, "CPUS", tmp_path / "nothing")
    assert _machine.last_caches(8) == 32 << 20


def test_it_is_text_and_a_dict():
    found = config.explain(measure=False)
    text = str(found)
    for value in (found.cpu, found.level, found.threads, found.threads_reason, "not measured"):
        assert str(value) in text
    assert dataclasses.asdict(found)["threads"] == found.threads
    with pytest.raises(TypeError, match=r"^explain: 'measure' is 'no', expected True or False"):
        config.explain(measure="no")


# ---- a step

# Bytes of an element of float32 that each pass moves, as the formulas in csrc/kernels say: the
# gradient is read; a parameter and a state are read and written.
PASSES = {
    optim.SGD: {"update": 12},
    optim.Adam: {"update": 28},
    optim.AdamW: {"update": 28},
    optim.Lion: {"update": 20},
    optim.RMSprop: {"update": 20},
    optim.Adadelta: {"update": 28},
    optim.Rprop: {"update": 28},
    optim.Adagrad: {"update": 20},
    # p and g are read and both averages moved; then p is moved and the averages are read.
    optim.LAMB: {"measure": 24, "update": 16},
}


def of(optimizer, **options):
    return optimizer.explain(measure=False, **options)


@pytest.mark.parametrize("cls", PASSES)
def test_passes_and_bytes(cls):
    found = of(cls(params()))
    assert found.passes == {name: n * ELEMENTS for name, n in PASSES[cls].items()}
    assert list(found.passes) == list(PASSES[cls])  # in order
    assert found.launches == len(PASSES[cls])
    assert found.bytes == ELEMENTS * sum(PASSES[cls].values())
    assert (found.parameters, found.frozen, found.elements, found.groups) == (3, 0, ELEMENTS, 1)
    assert found.fused_groups == ((0, 1, 2),)
    assert (found.optimizer, found.device) == (cls.__name__, "cpu")


@pytest.mark.parametrize("name", BY_NAME)
def test_an_update_moves_what_its_arrays_hold(name):
    """Beside the lists of a plan: the parameter, its gradient, and each state of its state_dict."""
    record = BY_NAME[name].record
    cls = record.cls
    optimizer = cls(params(), **BY_NAME[name].options)
    found = of(optimizer)
    if not cls._plans:
        assert (found.launches, found.bytes, found.passes) == (None, None, {})
        return
    optimizer.step([np.ones_like(p) for p in optimizer.param_groups[0]["params"]])
    entries = optimizer.state_dict()["state"].values()
    states = [a for e in entries for a in e.values() if hasattr(a, "nbytes") and a.ndim]
    own, held = 4 * ELEMENTS, sum(a.nbytes for a in states)
    assert 3 * own <= found.bytes  # g is read, p read and written
    assert found.bytes <= 12 * own + 4 * held
    assert of(optimizer) == found
    zeroed = of(optimizer, zero_grad=True)
    assert zeroed.bytes == found.bytes + own


@pytest.mark.parametrize(
    ("options", "more"),
    [({"max_norm": 1.0}, {"global_norm": 4}), ({"nonfinite": "skip"}, {"global_norm": 4}),
     ({"max_norm": 1.0, "nonfinite": "raise"}, {"global_norm": 4})],
)  # fmt: skip
def test_clipping_and_checking_read_the_gradients_first(options, more):
    found = of(optim.AdamW(params()), **options)
    assert found.passes == {**{k: n * ELEMENTS for k, n in more.items()}, "update": 28 * ELEMENTS}
    assert list(found.passes) == ["global_norm", "update"]
    assert "max_norm and nonfinite read all gradients once" in str(found)


def test_options_that_ride_along():
    matrices = 35 + 12
    found = of(optim.AdamW(params(), max_weight_norm=1.0))
    assert found.passes == {"update": 28 * ELEMENTS, "limit_rows": 8 * matrices}
    found = of(optim.AdamW(params(), ema_decay=0.9))
    assert found.passes == {"update": 36 * ELEMENTS}
    found = of(optim.AdamW(params(), diagnostics=True))
    assert found.passes == {
        "watch_before": 12 * ELEMENTS, "update": 28 * ELEMENTS, "watch_after": 8 * ELEMENTS
    }  # fmt: skip
    found = of(optim.AdamW(params("float16"), master_weights=True))
    assert found.passes == {"update": (2 + 4 + 8 + 16) * ELEMENTS}
    found = of(optim.AdamW(params(), state_dtype="bfloat16"))
    assert found.passes == {"update": 20 * ELEMENTS}
    coded = of(optim.AdamW(params(), state_dtype="int8"))
    of_codes = sum(_C.coded_bytes(n) for n in (35, 5, 12))
    assert coded.passes == {"update": 12 * ELEMENTS + 2 * 2 * of_codes}


def test_adafactor_moves_rows_and_columns():
    found = of(optim.Adafactor(params()))
    rows, columns, vector = 7 + 3 * 2, 5 + 3 * 2, 5
    assert found.passes == {
        "factor": 4 * ELEMENTS + 8 * (rows + columns + vector),
        "measure": 8 * ELEMENTS,
        "update": 12 * ELEMENTS,
    }


def test_gradients_count_in_their_own_dtype_once_seen():
    own = params("float16", [(8,)])
    optimizer = optim.SGD(own)
    assert of(optimizer).bytes == 8 * (2 + 4)
    optimizer.step([np.ones(8, np.float32)])
    assert of(optimizer).bytes == 8 * (4 + 4)


def test_frozen_parameters_and_groups():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad = False
    optimizer = optim.AdamW(
        [{"params": [layer.weight]}, {"params": [layer.bias]}, {"params": params()}]
    )
    found = of(optimizer, zero_grad=True)
    assert (found.parameters, found.frozen, found.groups) == (4, 1, 3)
    assert found.fused_groups == ((1, 2, 3, 4),)
    assert found.bytes == (28 + 4) * (3 + ELEMENTS)
    alone = of(optim.SGD(layer.parameters()), zero_grad=True)
    assert alone.bytes == 12 * 3  # its gradient is forgotten, not written


def test_sentences_on_what_costs():
    cut = np.zeros((6, 8), np.float32)[:, ::2]
    notes = of(optim.SGD([cut, *params()])).notes
    assert notes[0].startswith("parameter 0: not in one stretch of memory")
    turned = nn.Parameter(np.zeros((3, 4), np.float32).T)
    turned.grad = np.zeros((4, 3), np.float32)
    notes = of(optim.SGD([turned])).notes
    assert notes[0].startswith("parameter 0: in another order in memory than the gradient")
    dense = of(optim.SGD([np.zeros((3, 4), np.float32).T, np.zeros((4, 0, 2), np.float32)]))
    assert not [n for n in dense.notes if "memory" in n]
    notes = of(optim.AdamW(params("float16"))).notes
    assert "parameters are of 16 bits and their states of 32" in notes[0]
    assert "state_dtype='bfloat16'" in notes[0]
    assert "float64 moves twice the bytes of float32" in of(optim.SGD(params("float64"))).notes
    p, q = params("float32", [(3,), (4,)])
    mixed = optim.SGD([{"params": [p], "maximize": True}, {"params": [q]}])
    assert any("groups differ in maximize" in note for note in of(mixed).notes)


def test_time_and_share(monkeypatch):
    """Of a copy: nothing of the optimizer changes, and the copy takes the steps of the original."""
    optimizer = optim.AdamW(params(), lr=0.1)
    optimizer.step(params())
    before = copy.deepcopy(optimizer.state_dict())
    values = [p.copy() for p in optimizer.param_groups[0]["params"]]
    found = optimizer.explain(max_norm=1.0)
    assert found.seconds is not None
    assert found.limit_seconds is not None
    assert found.share == found.limit_seconds / found.seconds
    assert min(found.seconds, found.limit_seconds) > 0
    assert "% of copy speed" in str(found)
    for p, value in zip(optimizer.param_groups[0]["params"], values, strict=True):
        assert np.array_equal(bits(p), bits(value))
    after = optimizer.state_dict()["state"]
    for index, entry in before["state"].items():
        assert entry["step"] == after[index]["step"] == 1
        assert np.array_equal(entry["exp_avg"], after[index]["exp_avg"])

    moved = []
    monkeypatch.setattr(_C, "move_streams", lambda *given: moved.append(given) or 0)
    optimizer.explain(max_norm=1.0)
    step = [given for given in moved if len(given[2]) == 3]  # two reads of g; p, m, v
    assert step, "no loop moved p, m and v"
    reads, writes, updates, *_ = step[-1]
    size = sum(a.nbytes for a in (*reads, *writes)) + 2 * sum(a.nbytes for a in updates)
    assert abs(size - found.bytes) < 4 * len([*reads, *writes, *updates, *updates])


def test_the_limit_is_that_of_the_fastest_way(monkeypatch):
    times = iter([0.5, 0.3, 0.2, 0.4])
    monkeypatch.setattr(optim._explain, "least_seconds", lambda function: next(times))
    monkeypatch.setattr(optim._explain, "ways", lambda *shape: dict.fromkeys("abc"))
    found = optim.AdamW(params()).explain()
    assert (found.seconds, found.limit_seconds) == (0.5, 0.2)
    assert found.share == 0.4


def test_a_step_that_is_more_than_its_plan():
    muon = optim.Muon(params()).explain()
    assert muon.launches == 1
    assert muon.seconds is not None
    assert muon.share is None
    assert any("products of matrices" in note for note in muon.notes)
    for cls in (optim.LBFGS, optim.SparseAdam):
        found = cls(params()).explain()
        assert (found.launches, found.bytes, found.seconds) == (None, None, None)
        assert "no fixed number of launches" in str(found)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [({"max_norm": 0}, ValueError, "AdamW: 'max_norm' is 0, expected a number > 0"),
     ({"nonfinite": "stop"}, ValueError, "AdamW: 'nonfinite' is 'stop'"),
     ({"zero_grad": 3}, TypeError, "AdamW: 'zero_grad' is 3"),
     ({"measure": None}, TypeError, "AdamW: 'measure' is None")],
)  # fmt: skip
def test_wrong_options(wrong, error, said):
    with pytest.raises(error, match=said):
        optim.AdamW(params()).explain(**wrong)


def test_the_optimizers_of_pytorch_explain_too():
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    p = torch.nn.Parameter(torch.ones(4, 3))
    p.grad = torch.ones(4, 3)
    found = front.AdamW([p], lr=0.1).explain(measure=False)
    assert (found.optimizer, found.passes) == ("AdamW", {"update": 28 * 12})
    assert front.AdamW([p]).explain().seconds is not None
    assert float(p.detach()[0, 0]) == 1
