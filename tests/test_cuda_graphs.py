"""Steps that a CUDA graph holds: each replay trains, with the options that the groups have then.

CuPy of fake_cupy.py and the simulator, which records the launches of a capture and replays them.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from onepass import nn, ops, optim

SHAPES = [(300,), (7, 33), (5,)]


def values(seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def captured(module, function):
    """A function that replays what ``function`` launches."""
    stream = module.cuda.Stream()
    stream.begin_capture()
    with stream:
        function()
    return stream.end_capture().launch


class Pair:
    """An optimizer on the device, of which a graph holds a step, and the same one on the host,
    which steps as often and sees the same options."""

    def __init__(self, module, make, dtype="float32", **controls):
        self.module = module
        self.host, self.device = values(1, dtype), list(map(module.asarray, values(1, dtype)))
        self.host_grads = values(2, dtype)
        self.grads = list(map(module.asarray, self.host_grads))
        self.on_host, self.on_device = make(self.host), make(self.device)
        self.host_controls = {
            k: float(v.get()) if hasattr(v, "get") else v for k, v in controls.items()
        }
        self.on_device.step(self.grads, **controls)
        self.on_host.step(self.host_grads, **self.host_controls)
        self.launch = captured(module, lambda: self.on_device.step(self.grads, **controls))

    def replay(self, seed):
        for grad, new in zip(self.grads, values(seed, self.host[0].dtype), strict=True):
            grad.set(new)
        self.launch()
        self.on_host.step(values(seed, self.host[0].dtype), **self.host_controls)

    def change(self, key, value, group=0):
        for optimizer in (self.on_host, self.on_device):
            optimizer.param_groups[group][key] = value

    def assert_same(self):
        for on_device, on_host in zip(self.device, self.host, strict=True):
            assert on_device.get().tobytes() == on_host.tobytes()

    def assert_close(self):
        """A norm of float64 is added in another order on the device."""
        for on_device, on_host in zip(self.device, self.host, strict=True):
            np.testing.assert_allclose(on_device.get(), on_host, rtol=1e-13, atol=1e-15)


def two_groups(cls, **options):
    def make(params):
        return cls([{"params": params[:1]}, {"params": params[1:], "lr": 0.02}], **options)

    return make


OPTIMIZERS = {
    "AdamW": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.03, "weight_decay": 0.2}),
    "SGD": (optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.5, "momentum": 0.5}),
    "RMSprop": (optim.RMSprop, {"lr": 0.1}, {"lr": 0.03, "eps": 1e-3}),
    "NAdam": (optim.NAdam, {"lr": 0.1}, {"lr": 0.03}),
    "LAMB": (optim.LAMB, {"lr": 0.1}, {"lr": 0.03, "weight_decay": 0.2}),
    "Adafactor": (optim.Adafactor, {"lr": 0.1}, {"lr": 0.03}),
    "l1": (optim.AdamW, {"lr": 0.1, "l1": 0.1}, {"lr": 0.03, "l1": 0.2}),
    "limit": (optim.SGD, {"lr": 0.1, "max_weight_norm": 1.0}, {"max_weight_norm": 0.5}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_replay_has_the_options_of_now(cupy, name, dtype):
    cls, options, changes = OPTIMIZERS[name]
    pair = Pair(cupy, two_groups(cls, **options), dtype)
    pair.replay(3)
    pair.assert_same()
    before = pair.host[2].copy()
    for key, value in changes.items():
        pair.change(key, value, group=1)
        pair.replay(4)
        pair.assert_same()
    assert not np.array_equal(before, pair.host[2])
    steps = [entry["step"] for entry in pair.on_device.state_dict()["state"].values()]
    assert [int(step) for step in steps] == [2 + len(changes)] * len(SHAPES)


def test_a_change_that_is_not_told_is_seen_to_matter(cupy):
    """The test above can fail: without the groups' word a replay has the options of the capture."""
    pair = Pair(cupy, two_groups(optim.AdamW, lr=0.1))
    pair.on_device.param_groups[0].changed = None
    pair.change("lr", 0.9)
    pair.replay(3)
    with pytest.raises(AssertionError):
        pair.assert_same()


def test_every_way_to_change_a_group_counts(cupy):
    pair = Pair(cupy, lambda params: optim.AdamW(params, lr=0.1))

    def change(function):
        for optimizer in (pair.on_host, pair.on_device):
            function(optimizer.param_groups[0])
        pair.replay(3)
        pair.assert_same()

    change(lambda group: group.update(lr=0.2, weight_decay=0.3))
    change(lambda group: group.__setitem__("lr", group["lr"] * 0.5))
    change(lambda group: group.__ior__({"eps": 1e-3}))
    change(lambda group: group.setdefault("name", "all"))
    change(lambda group: group.pop("name"))


def test_a_schedule_between_replays(cupy):
    pair = Pair(cupy, two_groups(optim.AdamW, lr=0.1))
    schedules = [
        optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        for optimizer in (pair.on_host, pair.on_device)
    ]
    for seed in range(3):
        pair.replay(seed)
        for schedule in schedules:
            schedule.step()
    pair.replay(9)
    pair.assert_same()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_on_the_device_are_read_at_each_replay(cupy, dtype):
    scale, limit = cupy.asarray(np.float32(8)), cupy.asarray(np.float64(0.5))
    pair = Pair(
        cupy, lambda params: optim.AdamW(params, lr=0.1), dtype, grad_scale=scale, max_norm=limit
    )
    for new_scale, new_limit in [(8, 0.5), (2, 0.5), (4, 100.0), (0.5, 1e-3)]:
        scale.set(np.asarray(np.float32(new_scale)))
        limit.set(np.asarray(np.float64(new_limit)))
        pair.host_controls = {"grad_scale": new_scale, "max_norm": new_limit}
        pair.replay(3)
        pair.assert_same() if dtype == "float32" else pair.assert_close()


def test_nothing_waits_for_a_number_on_the_device(cupy):
    import fake_cupy

    params, grads = (list(map(cupy.asarray, values(seed))) for seed in (1, 2))
    optimizer = optim.SGD(params, lr=0.1)
    scale = cupy.asarray(np.float32(2))
    fake_cupy.state.synchronised = 0
    optimizer.step(grads, grad_scale=scale, max_norm=cupy.asarray(np.float32(1)))
    assert fake_cupy.state.synchronised == 0


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, 3e38])
def test_a_scale_that_no_host_has_seen_spoils_no_step_in_silence(cupy, scale):
    params = [cupy.ones(40, np.float32)]
    optimizer = optim.SGD(params, lr=0.1)
    given = cupy.asarray(np.float64(scale))
    info = optimizer.step([cupy.ones(40, np.float32)], grad_scale=given, nonfinite="skip")
    assert info.skipped
    assert (params[0].get() == 1).all()
    optimizer.step([cupy.ones(40, np.float32)], grad_scale=given)
    assert np.isnan(params[0].get()).all()


def test_wrong_numbers_on_a_device(cupy):
    host, grads = [np.ones(4, np.float32)], [np.ones(4, np.float32)]
    number = cupy.asarray(np.float32(2))
    with pytest.raises(ValueError, match=r"'grad_scale' lies on CUDA device 0 but .* on the CPU"):
        optim.SGD(host).step(grads, grad_scale=number)
    params, grads = [cupy.ones(4, np.float32)], [cupy.ones(4, np.float32)]
    for wrong in (cupy.ones(2, np.float32), cupy.asarray(np.int64(2))):
        with pytest.raises(ValueError, match="'max_norm' is an array on a CUDA device of another"):
            optim.SGD(params).step(grads, max_norm=wrong)
    with cupy.cuda.Device(1):
        far = cupy.asarray(np.float32(2))
    with pytest.raises(ValueError, match=r"'max_norm' lies on CUDA device 1 but .* CUDA device 0"):
        optim.SGD(params).step(grads, max_norm=far)
    assert (params[0].get() == 1).all()


def test_a_refused_option_changes_nothing(cupy):
    pair = Pair(cupy, lambda params: optim.AdamW(params, lr=0.1))
    with pytest.raises(ValueError, match="'lr' is -1"):
        pair.on_device.param_groups[0]["lr"] = -1.0
    assert pair.on_device.param_groups[0]["lr"] == 0.1
    pair.replay(3)
    pair.assert_same()


def test_what_replays_cannot_follow_is_said(cupy):
    pair = Pair(cupy, lambda params: optim.SGD(params, lr=0.1))
    for key, value in [("momentum", 0.9), ("maximize", True)]:
        with pytest.warns(RuntimeWarning, match="capture the step anew"):
            pair.on_device.param_groups[0][key] = value


def test_an_option_does_not_change_inside_a_capture(cupy):
    pair = Pair(cupy, lambda params: optim.SGD(params, lr=0.1))
    with pytest.raises(RuntimeError, match="while a CUDA graph is captured"):
        captured(cupy, lambda: pair.on_device.param_groups[0].update(lr=0.5))
    cupy.cuda.Stream().end_capture()
    assert pair.on_device.param_groups[0]["lr"] == 0.1


def test_an_option_that_may_change_in_place_is_refused(cupy):
    params, grads = [cupy.ones(4, np.float32)], [cupy.ones(4, np.float32)]
    optimizer = optim.SGD(params, lr=np.array(0.1))
    optimizer.step(grads)
    with pytest.raises(RuntimeError, match=r"'lr' of group 0 is a ndarray.*expected a number"):
        captured(cupy, lambda: optimizer.step(grads))
    cupy.cuda.Stream().end_capture()


@pytest.mark.parametrize("cls", [optim.Muon, optim.SparseAdam])
def test_a_step_that_a_graph_cannot_hold_is_refused(cupy, cls):
    params = [cupy.ones((4, 4), np.float32)]
    optimizer = cls(params)
    with pytest.raises(RuntimeError, match=f"cannot hold a step of {cls.__name__}"):
        captured(cupy, lambda: optimizer.step([cupy.ones((4, 4), np.float32)]))
    cupy.cuda.Stream().end_capture()


def test_a_loaded_state_reaches_replays(cupy):
    pair = Pair(cupy, two_groups(optim.AdamW, lr=0.1))
    other = two_groups(optim.AdamW, lr=0.4, weight_decay=0.3)(values(5))
    for seed in range(3):
        other.step(values(seed))
    saved = other.state_dict()
    on_device = copy.deepcopy(saved)
    for entry in on_device["state"].values():
        entry.update({k: cupy.asarray(v) for k, v in entry.items() if isinstance(v, np.ndarray)})
    pair.on_host.load_state_dict(saved)
    pair.on_device.load_state_dict(on_device)
    pair.replay(7)
    pair.assert_same()
    wrong = copy.deepcopy(on_device)
    wrong["param_groups"][1]["lr"] = -1.0
    with pytest.raises(ValueError, match="'lr'"):
        pair.on_device.load_state_dict(wrong)
    pair.change("lr", 0.2)
    pair.replay(8)
    pair.assert_same()


def test_a_schedule_free_optimizer_turns_between_replays(cupy):
    pair = Pair(cupy, two_groups(optim.ScheduleFreeAdamW, lr=0.1))
    for seed in range(2):
        for optimizer in (pair.on_host, pair.on_device):
            optimizer.eval()
            optimizer.train()
        pair.change("lr", 0.1 + seed)
        pair.replay(seed)
        pair.assert_same()


def test_copies_are_in_no_graph(cupy):
    pair = Pair(cupy, lambda params: optim.AdamW(params, lr=0.1))
    for twin in (copy.deepcopy(pair.on_device), pickle.loads(pickle.dumps(pair.on_device))):
        assert twin.param_groups[0].changed is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            twin.param_groups[0]["lr"] = 7.0
    pair.replay(3)
    pair.assert_same()


def test_a_list_that_is_long_is_replayed(cupy):
    """Its table is in the workspace of the capture: later steps may write another one."""
    params = [cupy.ones(3, np.float32) for _ in range(700)]
    grads = [cupy.ones(3, np.float32) for _ in range(700)]
    optimizer = optim.AdamW(params, lr=0.1)
    optimizer.step(grads, max_norm=1.0)
    launch = captured(cupy, lambda: optimizer.step(grads, max_norm=1.0))
    others = [cupy.ones(3, np.float32) for _ in range(699)]
    optimizer.step([*others, None], max_norm=1.0)
    launch()
    host = [np.ones(3, np.float32) for _ in range(700)]
    reference = optim.AdamW(host, lr=0.1)
    ones = [np.ones(3, np.float32) for _ in range(700)]
    reference.step(ones, max_norm=1.0)
    reference.step([*ones[1:], None], max_norm=1.0)
    reference.step(ones, max_norm=1.0)
    for on_device, on_host in zip(params, host, strict=True):
        assert on_device.get().tobytes() == on_host.tobytes()


def many(module, kinds, strided=False):
    """Ones of float32 ("f"), float64 ("d"), or float64 of many elements ("D"); 0: none."""
    shape = {"f": (3, 2), "d": (3, 2), "D": (700 << 10, 1)}
    dtype = {"f": np.float32, "d": np.float64, "D": np.float64}

    def one(kind):
        ones = module.asarray(np.ones(shape[kind], dtype[kind]))
        return module.asarray(np.ones(shape[kind][::-1], dtype[kind])).T if strided else ones

    return [None if kind == "0" else one(kind) for kind in kinds]


# So many that their tables do not fit into the arguments of a kernel; floats do if they are dense.
ALL, SMALL, LARGE = "d" * 600 + "D", "d" * 600 + "0", "0" * 600 + "D"
MIXED, DOUBLES = "f" * 400 + "d" * 600, "0" * 400 + "d" * 600
TURNED = (MIXED, True)


@pytest.mark.parametrize(
    ("make", "all_of", "steps"),
    [
        # The sums of a long tensor are as long as those of many short ones and their table.
        (lambda p: optim.LAMB(p, lr=0.1), ALL, [ALL, SMALL, LARGE, SMALL, ALL]),
        # The table of doubles is behind that of floats, if there is one,
        (lambda p: optim.AdamW(p, lr=0.1, l1=0.1), MIXED, [MIXED, DOUBLES, MIXED]),
        # and that one grows where gradients are strided.
        (lambda p: optim.SGD(p, lr=0.1), MIXED, [MIXED, TURNED, MIXED, TURNED]),
    ],
    ids=["sums", "types", "strides"],
)
@pytest.mark.parametrize("graph", [False, True])
def test_tables_of_other_lists_leave_those_that_are_kept(cupy, make, all_of, steps, graph):
    """Nothing else is written where a list's table stays, or where a graph reads it."""
    params, host = many(cupy, all_of), many(np, all_of)
    on_device, on_host = make(params), make(host)
    replays = []

    def given(module, step):
        return many(module, *((step,) if isinstance(step, str) else step))

    for step in steps:
        on_device.step(given(cupy, step))
        on_host.step(given(np, step))
        if graph and step not in [seen for seen, _, _ in replays]:
            grads = given(cupy, step)
            on_device.step(grads)
            on_host.step(given(np, step))
            replays.append((step, grads, captured(cupy, lambda g=grads: on_device.step(g))))
        for seen, _, launch in replays:
            launch()
            on_host.step(given(np, seen))
    for one, expected in zip(params, host, strict=True):
        np.testing.assert_allclose(one.get(), expected, rtol=1e-6 if one.dtype == "f" else 1e-13)


# ---- dropout


def words(module, seed, offset, dtype):
    return {
        "seed": module.asarray(np.asarray(seed, dtype)),
        "offset": module.asarray(np.asarray([offset], dtype)),
    }


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_dropout", "bias_act"])
def test_a_mask_by_numbers_on_the_device(cupy, name, dtype):
    x = np.random.default_rng(0).standard_normal((6, 5, 7)).astype(np.float32)
    seed, offset = 2**62 + 5, 2**40 + 3
    on_device = cupy.asarray(x)
    if name == "bias_act":
        bias = np.ones(5, np.float32)
        want = ops.bias_act(x, bias, axis=1, dropout_p=0.4, seed=seed, offset=offset)
        given = words(cupy, seed, offset, dtype)
        got = ops.bias_act(on_device, cupy.asarray(bias), axis=1, dropout_p=0.4, **given)
    else:
        function = getattr(ops, name)
        want = function(x, 0.4, seed=seed, offset=offset)
        got = function(on_device, 0.4, **words(cupy, seed, offset, dtype))
    assert got.get().tobytes() == want.tobytes()


def test_batch_norm_with_a_mask_by_numbers_on_the_device(cupy):
    x = np.random.default_rng(0).standard_normal((40, 5, 7)).astype(np.float32)
    dy = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    results = []
    for place, numbers in [
        (np.asarray, {"seed": 7, "offset": 9}),
        (cupy.asarray, words(cupy, 7, 9, np.int64)),
    ]:
        vector = place(np.ones(5, np.float32))
        y, saved = ops.batch_norm(
            place(x), vector, vector, None, None, training=True, dropout_p=0.4, **numbers
        )
        results.append([y, ops.batch_norm_backward(place(dy), saved)[0]])
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got.get(), want, rtol=1e-5, atol=1e-6)
        assert np.array_equal(got.get() == 0, want == 0)


def test_wrong_numbers_of_a_mask(cupy):
    x, host = cupy.ones(8, np.float32), np.ones(8, np.float32)
    for wrong in (cupy.ones(2, np.int64), cupy.asarray(np.float32(2)), cupy.asarray(np.int32(2))):
        with pytest.raises(TypeError, match="'seed' is an array on a CUDA device of another"):
            ops.dropout(x, 0.5, seed=wrong)
    with pytest.raises(
        TypeError, match=r"'offset' lies on CUDA device 0 but the arrays on the CPU"
    ):
        ops.dropout(host, 0.5, seed=1, offset=cupy.asarray(np.int64(2)))
    with cupy.cuda.Device(1):
        far = cupy.asarray(np.int64(2))
    with pytest.raises(TypeError, match=r"'seed' lies on CUDA device 1 but .* CUDA device 0"):
        ops.dropout(x, 0.5, seed=far)


@pytest.mark.parametrize("make", [nn.Dropout, nn.AlphaDropout, nn.Dropout1d])
def test_each_replay_has_a_mask_of_its_own(cupy, make):
    layer = make(0.5).train()
    x, dy = cupy.ones((4, 64, 3), np.float32), cupy.ones((4, 64, 3), np.float32)
    eager = [layer(x).get() for _ in range(2)]
    kept = {}

    def both():
        kept["y"] = layer(x)
        kept["dx"] = layer.backward(dy)

    launch = captured(cupy, both)
    masks = []
    for _ in range(3):
        launch()
        masks.append(kept["y"].get())
        if make is not nn.AlphaDropout:
            assert np.array_equal(masks[-1], kept["dx"].get())  # of ones the same
    masks += [*eager, layer(x).get()]  # and those between replays are others still
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_a_norm_with_dropout_behind_it(cupy):
    model = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)).to("cuda").train()
    x = cupy.asarray(np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32))
    model(x)
    kept = {}
    launch = captured(cupy, lambda: kept.update(y=model(x)))
    masks = set()
    for _ in range(3):
        launch()
        masks.add((kept["y"].get() == 0).tobytes())
    assert len(masks) == 3


def test_a_layer_that_was_never_called_is_not_captured(cupy):
    layer = nn.Dropout(0.5).train()
    x = cupy.ones((4, 4), np.float32)
    with pytest.raises(RuntimeError, match="call the layer once before the capture begins"):
        captured(cupy, lambda: layer(x))
    cupy.cuda.Stream().end_capture()
    layer(x)


@pytest.mark.slow
def test_what_a_gpu_tests_of_graphs_is_in_order(simulator):
    """test_gpu.py, which waits for a GPU, on the simulator that is compiled by now."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("test_gpu.py", "-k", "cupy and (captured or replay)"),
        ],
        cwd=Path(__file__).parent,
        env=os.environ | {"ONEPASS_TEST_GPU": "simulator"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert " passed" in done.stdout, done.stdout
    assert " skipped" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout
