"""What kernels do, counted in the simulator: launches, bytes through the load and store wrappers,
calls of Philox."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cuda_simulator import on
from onepass import _C, ops, optim


def counted(simulator, call):
    """What a call on NumPy arrays does on the device."""
    with on(simulator):
        simulator.reset_counts()
        call()
        return simulator.counts()


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("float16", 2)])
@pytest.mark.parametrize("lead", [0, 1])
def test_an_activation_reads_and_writes_each_element_once(simulator, dtype, size, lead):
    x = np.linspace(-1, 1, 4097 + lead).astype(dtype)[lead:]
    counts = counted(simulator, lambda: ops.relu(x))
    assert counts == {"launches": 1, "read": 4097 * size, "written": 4097 * size, "philox": 0}


def test_dropout_draws_a_group_of_128_elements_as_often_as_it_has_to(simulator):
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
def test_batch_norm_draws_each_bit_once(simulator, shape, dtype, p):
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


LIMIT = 227 << 10  # bytes of shared memory that a block on sm_90 may have
WHOLE = [(16, 4, 8, 32), (40, 8, 7, 7), (30, 256, 14, 14), (200, 64), (1000, 16), (1000, 12)]
# Of a cluster of blocks: planes, odd ones, and channels last, also with channels to spare.
SHARED = [(17, 16, 32, 32), (101, 128, 7, 7), (300, 512), (130, 1036)]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(shape, dtype) for shape in WHOLE + SHARED for dtype in ("float32", "float16")]
    + [((16, 4, 8, 32), "float64"), ((17, 16, 32, 32), "float64"), ((300, 512), "float64")],
    ids=str,
)
def test_batch_norm_reads_once_what_a_block_or_a_cluster_holds(simulator, shape, residual, dtype):
    """A unit forward, two backward, and the residual; beside them each thread reads a few numbers
    of its channels. Where nothing is held, x, and backward dy, are read once more."""
    rng = np.random.default_rng(0)
    x, r, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    vector = np.ones(shape[1], np.float64 if dtype == "float64" else np.float32)
    options = {"training": True, "activation": "relu"} | ({"residual": r} if residual else {})
    results = {}

    def forward():
        results["y"], results["saved"] = ops.batch_norm(x, vector, vector, None, None, **options)

    def backward():
        results["dx"] = ops.batch_norm_backward(dy, results["saved"])[0]

    def bits():
        return {key: results[key].tobytes() for key in ("y", "dx")}

    units = {forward: 1 + residual, backward: 2 + residual}
    read = {}
    for call, wanted in units.items():
        counts = counted(simulator, call)
        assert counts["launches"] == 1
        read[call] = counts["read"]
        more = counts["read"] - wanted * x.nbytes
        assert more >= 0
        if shape in WHOLE:
            assert more <= max(16 << 10, 0.2 * x.nbytes) < x.nbytes
    kept = bits()
    with on(simulator):
        simulator.set_shared_limit(0)  # of a GPU that has no such memory: read again, the same bits
        for call, wanted in units.items():
            simulator.reset_counts()
            call()
            assert simulator.counts()["read"] - read[call] >= (wanted - residual) * x.nbytes
    assert kept == bits()
    # Of a GPU that has none, and of a kernel that cannot run so: three kernels, the same bits.
    for take_away in (
        lambda: simulator.set_clusters(False),
        lambda: simulator.set_cluster_blocks(0),
    ):
        with on(simulator):
            take_away()
            for call in units:
                simulator.reset_counts()
                call()
                assert simulator.counts()["launches"] == (3 if shape in SHARED else 1)
        assert kept == bits()


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHARED, ids=str)
def test_a_cluster_gives_the_results_of_the_cpu(simulator, shape, dtype, drops):
    rng = np.random.default_rng(1)
    x, r, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    weight, bias = rng.uniform(0.5, 1.5, (2, shape[1])).astype(np.float32)
    options = {"training": True, "activation": "gelu" if drops else "relu", "residual": r}
    options |= {"dropout_p": 0.3, "seed": 5, "offset": 9} if drops else {}

    def call():
        mean, var = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
        y, saved = ops.batch_norm(x, weight, bias, mean, var, **options)
        return y, mean, var, *ops.batch_norm_backward(dy, saved)

    expected = call()
    with on(simulator):
        found = call()
    with on(simulator):
        simulator.set_cluster_blocks(0)
        alone = call()
    assert [a.tobytes() for a in alone] == [a.tobytes() for a in found]
    step = np.finfo(dtype).eps
    for a, b in zip(found, expected, strict=True):
        scale = np.abs(b.astype(np.float64)).max()
        np.testing.assert_allclose(
            a.astype(np.float64), b.astype(np.float64), rtol=8 * step, atol=8 * step * scale
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_small_batch_norm_is_one_launch(simulator, dtype):
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


def way(simulator, channels, extent, dtype, layout, arrays):
    """How a call goes whose second walk needs so many arrays again: "split", or blocks that share a
    group of channels and the units that each thread of them keeps."""
    size = {"float32": 4, "bfloat16": 2}[dtype]
    planes = layout == "planes"
    outer, inner = (256, extent**2) if planes else (256 * extent**2, 1)
    shape = (outer, channels, inner)
    path = simulator.channel_path(*shape, 4, size, arrays, LIMIT, size == 2, arrays > 1)
    threads = 256 // path["lanes"] if path["columns"] else 256
    units = outer if path["columns"] else outer * inner // path["width"]
    each = math.ceil(math.ceil(units / path["cluster"]) / threads)
    assert path["splits"] == path["cluster"] or not path["whole"]
    return f"{path['cluster']}: {path['kept']} of {each}" if path["whole"] else "split"


PLANES = {  # extent of the planes, or channels and extent; forward, backward, and with a residual
    (112, "float32"): ("split", "split", "split"),
    (112, "bfloat16"): ("split", "split", "split"),
    (56, "float32"): ("8: 56 of 98", "split", "split"),
    (56, "bfloat16"): ("8: 49 of 49", "8: 28 of 49", "split"),
    (28, "float32"): ("8: 25 of 25", "8: 25 of 25", "8: 18 of 25"),
    (28, "bfloat16"): ("4: 25 of 25", "8: 13 of 13", "8: 13 of 13"),
    (14, "float32"): ("1: 49 of 49", "4: 13 of 13", "8: 7 of 7"),
    (14, "bfloat16"): ("1: 49 of 49", "1: 49 of 49", "4: 13 of 13"),
    ((512, 7), "float32"): ("4: 13 of 13", "8: 7 of 7", "8: 7 of 7"),
    ((512, 7), "bfloat16"): ("8: 7 of 7", "4: 13 of 13", "4: 13 of 13"),
    ((2048, 7), "float32"): ("1: 52 of 52", "8: 7 of 7", "8: 7 of 7"),
    ((2048, 7), "bfloat16"): ("4: 13 of 13", "1: 52 of 52", "4: 13 of 13"),
}
LAST = {  # channels last: a cluster can hold those of the smallest planes, 16 or 32 side by side
    (7, "float32"): ("8: 49 of 49", "8: 25 of 25", "split"),
    (7, "bfloat16"): ("8: 25 of 25", "8: 49 of 49", "split"),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "extent"), RESNET, ids=str)
def test_the_paths_of_resnet(simulator, channels, extent, dtype):
    tables = {"planes": PLANES, "last": LAST}
    for layout, table in tables.items():
        found = tuple(
            way(simulator, channels, extent, dtype, layout, arrays) for arrays in (1, 2, 3)
        )
        other = table.get((extent, dtype), ("split", "split", "split"))
        assert found == table.get(((channels, extent), dtype), other), layout


def kept(row):
    """Of a row of so many bytes, in all its arrays: the fraction that its block keeps between two
    sweeps, and the block's threads."""
    threads = 256 if row < 32 << 10 else 512 if row < 128 << 10 else 1024
    return min(1, (LIMIT // (1024 // threads) - (2 << 10)) / row), threads


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(3, 13001), (3, 16421), (2, 50257), (2, 70001)], ids=str)
def test_rows_of_classes_are_read_once(simulator, shape, dtype):
    """Loss and gradient of labels read the logits once, softmax x, and backward y and dy: beside
    them what a block cannot keep, and a few numbers by each thread."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    labels = rng.integers(0, shape[1], shape[0])
    y = ops.softmax(x)
    calls = {
        "cross_entropy": (1, lambda: ops.cross_entropy(x, labels)),
        "softmax": (1, lambda: (ops.softmax(x),)),
        "log_softmax": (1, lambda: (ops.log_softmax(x),)),
        "softmax_backward": (2, lambda: (ops.softmax_backward(dy, y),)),
    }
    for name, (arrays, call) in calls.items():
        in_registers = name != "cross_entropy" and shape[1] <= 32 * 512
        part, threads = (1, 512) if in_registers else kept(arrays * x.nbytes // shape[0])
        total, slack = arrays * x.nbytes, shape[0] * threads * (16 * arrays + 8)
        assert slack < total / 2
        with on(simulator):
            simulator.reset_counts()
            found = call()
            read = simulator.counts()["read"]
            assert 0 <= read - total <= (1 - part) * total + slack, name
            simulator.set_shared_limit(0)  # the same bits where nothing can be kept
            simulator.reset_counts()
            again = call()
            more = simulator.counts()["read"] - read
        assert more == 0 if in_registers else more >= part * total - slack, name
        for a, b in zip(found, again, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


def test_nothing_is_counted_where_nothing_is_launched(simulator):
    x = np.ones(5, np.float32)
    simulator.reset_counts()
    _C.activation["relu"](x, x)  # on the CPU
    ops.dropout(x, 0.5, seed=1)
    assert set(simulator.counts().values()) == {0}


# ---- steps over long lists


def stepped(simulator, optimizer, grads, **controls):
    simulator.reset_counts()
    optimizer.step(grads, **controls)
    return simulator.counts()["launches"]


def long_list(cupy, dtypes, count=1000):
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
def test_a_step_over_many_tensors(cupy, simulator, kind, cls, controls, launches):
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
def test_new_addresses_of_gradients_come_with_the_launch(cupy, simulator, kind, riders):
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
def test_any_number_of_tensors(cupy, simulator, count, dtype):
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
def test_passes_around_an_update_keep_their_tables(cupy, simulator, make, launches, dtype):
    params, grads, others = long_list(cupy, [dtype], 600)
    optimizer = make(params)
    optimizer.step(grads)
    assert stepped(simulator, optimizer, grads) == launches
    assert stepped(simulator, optimizer, others) == launches


def test_a_launch_that_fails_leaves_no_table_behind(cupy, simulator):
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


def test_replays_over_a_long_list_write_no_table_either(cupy, simulator):
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
    fewer = [None, *others[1:]]  # another table, in memory of its own
    assert stepped(simulator, optimizer, fewer, max_norm=1.0) > 2
    assert stepped(simulator, optimizer, fewer, max_norm=1.0) == 2
    assert replay() == 2
    on_host(fewer, fewer, grads)
    assert stepped(simulator, optimizer, others, max_norm=1.0) > 2
    assert replay() == 2
    on_host(others, grads)
