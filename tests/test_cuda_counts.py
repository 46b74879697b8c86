"""What kernels do, counted in the simulator: launches, bytes through the load and store wrappers,
calls of Philox."""

from __future__ import annotations

import numpy as np
import pytest
from onepass import _C, ops, optim
from test_cuda_arrays import cupy  # noqa: F401
from test_cuda_backend import on, simulator  # noqa: F401


def counted(simulator, call):  # noqa: F811
    """What a call on NumPy arrays does on the device."""
    with on(simulator):
        simulator.reset_counts()
        call()
        return simulator.counts()


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("float16", 2)])
@pytest.mark.parametrize("lead", [0, 1])
def test_an_activation_reads_and_writes_each_element_once(simulator, dtype, size, lead):  # noqa: F811
    x = np.linspace(-1, 1, 4097 + lead).astype(dtype)[lead:]
    counts = counted(simulator, lambda: ops.relu(x))
    assert counts == {"launches": 1, "read": 4097 * size, "written": 4097 * size, "philox": 0}


def test_dropout_draws_a_group_of_128_elements_as_often_as_it_has_to(simulator):  # noqa: F811
    """A probability of one half is decided by one plane, which a lane draws for its four; of three
    planes each lane draws one as well."""
    x = np.ones(1024 * 8, np.float32)
    for p, rounds in [(0.5, 1), (0.125, 1)]:
        counts = counted(simulator, lambda p=p: ops.dropout(x, p, seed=3))
        assert counts["philox"] == len(x) // 32 * rounds
        assert counts["launches"] == 1


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "shape",
    # Whole channels in a block, and several blocks; planes, odd ones, and channels last.
    [(16, 4, 8, 32), (64, 2, 16, 32), (32, 8, 7, 7), (512, 64), (4096, 16), (32768, 4)],
    ids=str,
)
def test_batch_norm_draws_each_bit_once(simulator, shape, dtype, p):  # noqa: F811
    """At most 0.11 calls of Philox an element, forward and backward: a warp draws 1024 bits at
    once, plane by plane until all are decided."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    weight = np.ones(shape[1], np.float32)
    options = {"training": True, "activation": "relu", "dropout_p": p, "seed": 3, "offset": 5}
    saved = []

    def forward():
        saved.append(ops.batch_norm(x, weight, weight, None, None, **options)[1])

    for call in (forward, lambda: ops.batch_norm_backward(x, saved[0])):
        drawn = counted(simulator, call)["philox"] / x.size
        assert 0 < drawn <= 0.11, drawn


WHOLE = [(16, 4, 8, 32), (40, 8, 7, 7), (30, 256, 14, 14), (200, 64), (1000, 16), (1000, 12)]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(shape, dtype) for shape in WHOLE for dtype in ("float32", "float16")]
    + [((16, 4, 8, 32), "float64")],
    ids=str,
)
def test_batch_norm_reads_once_what_a_block_holds(simulator, shape, residual, dtype):  # noqa: F811
    """A unit forward, two backward, and the residual; beside them each thread reads a few numbers
    of its channels."""
    rng = np.random.default_rng(0)
    x, r, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    vector = np.ones(shape[1], np.float64 if dtype == "float64" else np.float32)
    options = {"training": True, "activation": "relu"} | ({"residual": r} if residual else {})
    results = {}

    def forward():
        results["y"], results["saved"] = ops.batch_norm(x, vector, vector, None, None, **options)

    def backward():
        results["dx"] = ops.batch_norm_backward(dy, results["saved"])[0]

    units = {forward: 1 + residual, backward: 2 + residual}
    for call, wanted in units.items():
        counts = counted(simulator, call)
        assert counts["launches"] == 1
        more = counts["read"] - wanted * x.nbytes
        assert 0 <= more <= max(16 << 10, 0.2 * x.nbytes) < x.nbytes
    kept = {key: results[key].tobytes() for key in ("y", "dx")}
    with on(simulator):
        simulator.set_shared_limit(0)  # of a GPU that has no such memory: read again, the same bits
        for call, wanted in units.items():
            simulator.reset_counts()
            call()
            assert simulator.counts()["read"] / x.nbytes > 2 * (wanted - residual) + residual
    assert kept == {key: results[key].tobytes() for key in ("y", "dx")}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_small_batch_norm_is_one_launch(simulator, dtype):  # noqa: F811
    """Of 16 bits too, where a block for columns of eight would have twice as many elements."""
    x = np.random.default_rng(0).standard_normal((100, 256)).astype(dtype)
    saved = []

    def forward():
        saved.append(ops.batch_norm(x, None, None, None, None, training=True)[1])

    assert counted(simulator, forward)["launches"] == 1
    assert counted(simulator, lambda: ops.batch_norm_backward(x, saved[0]))["launches"] == 1


# Batch norms of ResNet-50: channels and extent of the planes, of 256 samples.
RESNET = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14)]
RESNET += [(1024, 14), (512, 14), (512, 7), (2048, 7)]
# (channels, extent): how a forward call goes in float32 and bfloat16, planes and channels last. A
# block reads once what it holds: of so many units of a thread; "split": in several blocks.
PATHS = {
    (256, 14): {"float32": ("whole, 49 of 49", "split"), "bfloat16": ("whole, 49 of 49", "split")},
    (512, 14): {"float32": ("whole, 49 of 49", "split"), "bfloat16": ("whole, 49 of 49", "split")},
    (1024, 14): {"float32": ("whole, 49 of 49", "split"), "bfloat16": ("whole, 49 of 49", "split")},
    (2048, 7): {"float32": ("whole, 20 of 52", "split"), "bfloat16": ("whole, 20 of 52", "split")},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "extent"), RESNET, ids=str)
def test_the_paths_of_resnet(simulator, channels, extent, dtype):  # noqa: F811
    size, limit = {"float32": 4, "bfloat16": 2}[dtype], 227 << 10  # of a block on sm_90
    expected = PATHS.get((channels, extent), {}).get(dtype, ("split", "split"))
    for layout, wanted in enumerate(expected):
        outer, inner = (256, extent**2) if layout == 0 else (256 * extent**2, 1)
        unit = 8 if (size == 2 and extent != 14) or (size == 2 and layout == 1) else 4
        path = simulator.channel_path(outer, channels, inner, unit)
        path = simulator.channel_path(outer, channels, inner, unit, path["width"] * size, limit)
        threads = 256 // path["lanes"] if path["columns"] else 256
        units = outer if path["columns"] else outer * inner // path["width"]
        each = -(-units // threads)
        found = f"whole, {path['held']} of {each}" if path["whole"] else "split"
        assert found == wanted, path


def test_nothing_is_counted_where_nothing_is_launched(simulator):  # noqa: F811
    x = np.ones(5, np.float32)
    simulator.reset_counts()
    _C.activation["relu"](x, x)  # on the CPU
    ops.dropout(x, 0.5, seed=1)
    assert set(simulator.counts().values()) == {0}


# ---- steps over long lists


def stepped(simulator, optimizer, grads, **controls):  # noqa: F811
    simulator.reset_counts()
    optimizer.step(grads, **controls)
    return simulator.counts()["launches"]


def long_list(cupy, dtypes, count=1000):  # noqa: F811
    def made(seed):
        rng = np.random.default_rng(seed)
        return [
            cupy.asarray(rng.standard_normal(1 + i % 5).astype(dtypes[i % len(dtypes)]))
            for i in range(count)
        ]

    return made(1), made(2), made(3)


KINDS = {
    "float32": ["float32"],
    "float64": ["float64"],
    "mixed": ["float32", "float16"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW])
@pytest.mark.parametrize(
    ("controls", "launches"),
    [({}, 1), ({"max_norm": 1.0}, 2), ({"nonfinite": "skip"}, 2), ({"zero_grad": True}, 1)],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else str(value),
)
def test_a_step_over_many_tensors(cupy, simulator, kind, cls, controls, launches):  # noqa: F811
    """One launch, two with the norm of gradients; the table is written at the first step alone."""
    params, grads, _ = long_list(cupy, KINDS[kind])
    optimizer = cls(params, lr=0.1)
    first = stepped(simulator, optimizer, grads, **controls)
    assert first > launches  # the table's writers
    for lr in (0.1, 0.2, 0.3):
        optimizer.param_groups[0]["lr"] = lr
        assert stepped(simulator, optimizer, grads, **controls) == launches


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("riders", [{}, {"ema_decay": 0.9}], ids=["plain", "EMA"])
def test_new_addresses_of_gradients_come_with_the_launch(cupy, simulator, kind, riders):  # noqa: F811
    params, grads, others = long_list(cupy, KINDS[kind])
    optimizer = optim.AdamW(params, lr=0.1, **riders)
    stepped(simulator, optimizer, grads, max_norm=1.0)
    host = [p.get() for p in long_list(cupy, KINDS[kind])[0]]
    reference = optim.AdamW(host, lr=0.1, **riders)
    for given in (others, grads, others):
        assert stepped(simulator, optimizer, given, max_norm=1.0) == 2
    for given in (grads, others, grads, others):
        reference.step([g.get() for g in given], max_norm=1.0)
    for on_device, on_host in zip(params, host, strict=True):
        if kind == "float64":  # whose norm is added in another order
            np.testing.assert_allclose(on_device.get(), on_host, rtol=1e-12)
        else:
            assert on_device.get().tobytes() == on_host.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [3, 48, 400, 3000])
def test_any_number_of_tensors(cupy, simulator, count, dtype):  # noqa: F811
    params, grads, others = long_list(cupy, [dtype], count)
    optimizer = optim.AdamW(params, lr=0.1)
    optimizer.step(grads, max_norm=1.0)
    assert stepped(simulator, optimizer, others, max_norm=1.0) == 2


@pytest.mark.parametrize(
    ("make", "launches"),
    [
        (lambda params: optim.LAMB(params, lr=0.1), 3),  # of which two measure
        (lambda params: optim.Adafactor(params, lr=0.1), 4),  # and one moves averages: no matrix
        (lambda params: optim.AdamW(params, lr=0.1, ema_decay=0.9), 1),
    ],
    ids=["LAMB", "Adafactor", "EMA"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_passes_around_an_update_keep_their_tables(cupy, simulator, make, launches, dtype):  # noqa: F811
    params, grads, others = long_list(cupy, [dtype], 600)
    optimizer = make(params)
    optimizer.step(grads)
    assert stepped(simulator, optimizer, grads) == launches
    assert stepped(simulator, optimizer, others) == launches


def test_a_launch_that_fails_leaves_no_table_behind(cupy, simulator):  # noqa: F811
    params, grads, others = long_list(cupy, ["float32"], 600)
    host = [p.get() for p in params]
    optimizer, reference = optim.AdamW(params, lr=0.1), optim.AdamW(host, lr=0.1)
    optimizer.step(grads)
    simulator.device_fails("no luck")
    with pytest.raises(RuntimeError, match="no luck"):
        optimizer.step(others)
    assert stepped(simulator, optimizer, others) > 1
    reference.step([g.get() for g in grads])
    reference.step([g.get() for g in others])
    for on_device, on_host in zip(params, host, strict=True):
        assert on_device.get().tobytes() == on_host.tobytes()


def test_replays_over_a_long_list_write_no_table_either(cupy, simulator):  # noqa: F811
    """The graph reads the table that the steps before it have left, which then stays as it is."""
    params, grads, others = long_list(cupy, ["float32"])
    host = [p.get() for p in params]
    optimizer, reference = optim.AdamW(params, lr=0.1), optim.AdamW(host, lr=0.1)

    def replay():
        simulator.reset_counts()
        launch()
        return simulator.counts()["launches"]

    def on_host(*gradients):
        for given in gradients:
            reference.step([None if g is None else g.get() for g in given], max_norm=1.0)
        for on_device, own in zip(params, host, strict=True):
            assert on_device.get().tobytes() == own.tobytes()

    optimizer.step(grads, max_norm=1.0)
    stream = cupy.cuda.Stream()
    with stream:
        stream.begin_capture()
        optimizer.step(grads, max_norm=1.0)
        launch = stream.end_capture().launch
    assert replay() == 2
    on_host(grads, grads)
    fewer = [None, *others[1:]]  # another table: beside the graph's, then in memory of its own
    assert stepped(simulator, optimizer, fewer, max_norm=1.0) > 2
    assert stepped(simulator, optimizer, fewer, max_norm=1.0) > 2
    assert stepped(simulator, optimizer, fewer, max_norm=1.0) == 2
    assert replay() == 2
    on_host(fewer, fewer, fewer, grads)
    assert stepped(simulator, optimizer, others, max_norm=1.0) > 2
    assert replay() == 2
    on_host(others, grads)
