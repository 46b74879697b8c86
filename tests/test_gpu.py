"""onepass on a real GPU: arrays of CuPy and tensors of PyTorch, as far as each is installed and
sees a device. Skipped elsewhere; `scripts/gpu` runs it on a machine that has one.

ONEPASS_TEST_GPU=simulator runs what it can on the CuPy of fake_cupy.py and the simulator of
tests/cuda_sim: that shows that the tests themselves are in order.
"""

from __future__ import annotations

import importlib
import os
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from cases import BFLOAT16
from cuda_simulator import ELEMENTWISE, RUNNABLE, simulable
from helpers import (
    assert_all_close,
    assert_all_same,
    each_dtype,
    from_torch,
    mapped,
    sweep,
    to_torch,
)  # fmt: skip
from onepass import _C, config, ops, optim

SIMULATED = os.environ.get("ONEPASS_TEST_GPU") == "simulator"
STEP = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}

each_case = pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])
each_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=[c.name for c in ELEMENTWISE])


class Cupy:
    """The functions that the tests use, from CuPy; Torch has the same ones."""

    def __init__(self):
        self.cupy = importlib.import_module("cupy")

    def devices(self):
        return self.cupy.cuda.runtime.getDeviceCount()

    def current_device(self):
        return self.cupy.cuda.Device().id

    def array(self, a, device=0):
        with self.cupy.cuda.Device(device):
            try:
                return self.cupy.asarray(a)
            except (TypeError, ValueError):
                if BFLOAT16 is None or a.dtype != BFLOAT16:
                    raise
                pytest.skip("this CuPy has no bfloat16")

    def host(self, a):
        return a.get() if isinstance(a, self.cupy.ndarray) else a

    def synchronize(self):
        self.cupy.cuda.Device().synchronize()

    def huge(self):
        """An array that no device has room for, in next to no memory."""
        return self.cupy.broadcast_to(self.cupy.ones(1, np.float32), (2**40,))

    def busy(self):
        """Work of some tenths of a second on the current stream."""
        if SIMULATED:
            return
        a = self.cupy.ones((8192, 8192), np.float32)
        for _ in range(20):
            a = a @ a

    @contextmanager
    def side_stream(self):
        with self.cupy.cuda.Stream(non_blocking=True) as stream:
            yield stream

    def is_done(self, stream):
        return stream.done

    def capture(self, function):
        """A function that replays what `function` started."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        self.synchronize()
        with stream:
            stream.begin_capture()
            try:
                result = function()
            finally:
                graph = stream.end_capture()

        def replay():
            self.synchronize()  # the stream does not wait for what the default one still does
            graph.launch(stream)
            stream.synchronize()
            return result

        return replay

    @contextmanager
    def no_synchronising(self):
        yield


class Torch:
    def __init__(self):
        self.torch = importlib.import_module("torch")

    def devices(self):
        return self.torch.cuda.device_count()

    def current_device(self):
        return self.torch.cuda.current_device()

    def array(self, a, device=0):
        return to_torch(np.array(a, order="C")).to(f"cuda:{device}")  # keeps 0-d

    def host(self, a):
        return from_torch(a.cpu()) if isinstance(a, self.torch.Tensor) else a

    def synchronize(self):
        self.torch.cuda.synchronize()

    def huge(self):
        return self.torch.ones(1, device="cuda").expand(2**40)

    def busy(self):
        self.torch.cuda._sleep(500_000_000)

    @contextmanager
    def side_stream(self):
        stream = self.torch.cuda.Stream()
        with self.torch.cuda.stream(stream):
            yield stream

    def is_done(self, stream):
        return stream.query()

    def capture(self, function):
        self.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            result = function()

        def replay():
            graph.replay()
            self.synchronize()
            return result

        return replay

    @contextmanager
    def no_synchronising(self):
        with warnings.catch_warnings():  # PyTorch says that the mode is a prototype
            warnings.simplefilter("ignore")
            self.torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            self.torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=[Cupy, Torch], ids=["cupy", "torch"])
def gpu(request, monkeypatch):
    name = request.param.__name__.lower()
    if SIMULATED and name == "cupy":
        import fake_cupy

        simulator = request.getfixturevalue("simulator")
        fake_cupy.install(monkeypatch)
        simulator.set_order("forward", 0, 4)
        simulator.current_device(0)
        fake_cupy.state.recorder = simulator
        _C.set_test_cuda_backend(simulator.device_backend())
        yield Cupy()
        _C.set_test_cuda_backend(None)
        return
    if not config.cuda_available():
        pytest.skip(f"CUDA cannot be used: {config.cuda_why_not()}")
    pytest.importorskip(name)
    library = request.param()
    if library.devices() == 0:
        pytest.skip(f"{name} sees no CUDA device")
    yield library


@pytest.fixture
def real(gpu):
    if SIMULATED:
        pytest.skip("the simulator has no streams, and the memory of this machine")
    return gpu


def on_device(gpu, inputs, device=0):
    return mapped(lambda a: gpu.array(a, device), inputs)


def on_host(gpu, results):
    return [[gpu.host(a) for a in r] if isinstance(r, list) else gpu.host(r) for r in results]


def shapes_of(case):
    return [s for s in case.shapes if simulable(s)][-3:] if SIMULATED else case.shapes


def values(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------------------------ the numbers


@each_dtype
@each_case
def test_against_reference(gpu, case, dtype):
    for label, shape, options in sweep(case, shapes=shapes_of(case)):
        inputs = case.inputs(shape, dtype, options)
        want = case.expect(inputs, options)
        got = on_host(gpu, case.run(on_device(gpu, inputs), options))
        assert_all_close(got, want, case.tolerance, dtype, label)


@each_dtype
@each_elementwise
def test_elementwise_kernels_give_the_bits_of_the_cpu(gpu, case, dtype):
    for label, shape, options in sweep(case, shapes=shapes_of(case)):
        got = case.run(on_device(gpu, case.inputs(shape, dtype, options)), options)
        want = case.run(case.inputs(shape, dtype, options), options)
        assert_all_same(on_host(gpu, got), want, label)


@pytest.mark.parametrize("packed", [False, True])
def test_masks_give_the_bits_of_the_cpu(gpu, packed):
    for n in (1, 31, 1024, 5000, 100_003):
        for p in (0.5, 0.1, 1.0):
            want = ops.dropout_mask(n, p, seed=2, offset=2**40, packed=packed)
            out = gpu.array(np.zeros_like(want))
            assert ops.dropout_mask(n, p, seed=2, offset=2**40, packed=packed, out=out) is out
            assert_all_same([gpu.host(out)], [want], f"{n} elements, p = {p}")


def test_subnormal_moments_are_zero_as_on_the_cpu(gpu):
    def run(array):
        least = np.float32(np.finfo(np.float32).tiny)
        p, g, m, v = (values(1027, seed=i) for i in range(4))
        g[::3] = 0
        arrays = [p, g, m * least * np.float32(0.6), np.abs(v) * least * np.float32(0.5)]
        p, g, m, v = map(array, arrays)
        ops.adamw_([p], [g], [m], [v], step=2, **STEP)
        return p, m, v

    assert_all_same(on_host(gpu, run(gpu.array)), run(np.array))


def test_products_around_the_least_normal_number_are_those_of_the_cpu(gpu):
    """Both call a result subnormal before or after it is rounded: x86 does so after."""
    n = 1 << 20
    rng = np.random.default_rng(0)
    least = np.float64(np.finfo(np.float32).tiny)
    near = 1 + rng.integers(-8, 9, n) * 2.0**-24 + rng.uniform(-1, 1, n) * 2.0**-23
    rate = np.float32(0.7)
    g = (least * near / rate).astype(np.float32)

    def run(array):
        p = array(np.zeros(n, np.float32))
        ops.sgd_([p], [array(g)], lr=float(rate))
        return p

    host = run(np.array)
    assert np.count_nonzero(host) not in (0, n)
    assert_all_same([gpu.host(run(gpu.array))], [host])


@each_case
def test_the_same_bits_twice(gpu, case):
    shape = max(shapes_of(case), key=np.prod)
    for options in case.options:
        runs = [
            on_host(gpu, case.run(on_device(gpu, case.inputs(shape, "float32", options)), options))
            for _ in range(2)
        ]
        assert_all_same(*runs, f"{case.name} {options}")


def test_two_gigabytes_and_more(real):
    """Indices beyond 32 bits."""
    n = 2**31 + 12_345
    try:
        x = real.array(np.ones(1, np.float16))
        x = (real.cupy if isinstance(real, Cupy) else real.torch).broadcast_to(x, (n,))
        y = ops.dropout(x, 0.5, seed=1)
    except (MemoryError, RuntimeError) as error:
        pytest.skip(f"no room: {error}")
    tail = real.host(y[-1000:])
    kept = ops.dropout_mask((n,), 0.5, seed=1, packed=True)[(n - 1000) // 8 :]
    bits = np.unpackbits(kept, bitorder="little")[(n - 1000) % 8 :][:1000]
    np.testing.assert_array_equal(tail, np.where(bits, np.float16(2), np.float16(0)))


# ------------------------------------------------------------------- streams, graphs, waiting


def test_the_current_stream_is_used(real):
    with real.side_stream() as stream:
        x = real.array(np.full(1 << 20, -1, np.float32))
        real.busy()
        x += 3  # after the work above
        y = ops.relu(x)
        stream.synchronize()
    np.testing.assert_array_equal(real.host(y), np.full(1 << 20, 2, np.float32))


def test_the_host_does_not_wait(real):
    x, w = real.array(values(256, 300)), real.array(np.ones(300, np.float32))
    labels, mask = real.array(np.zeros(256, np.int64)), real.array(np.zeros((256, 300), np.bool_))
    params = [real.array(values(1000, seed=i)) for i in range(3)]
    grads = [real.array(values(1000, seed=i)) for i in range(3)]
    optimizer = optim.AdamW(params, lr=1e-3)

    def everything():
        ops.gelu(x)
        ops.dropout(x, 0.3, seed=1)
        ops.dropout_mask((256, 300), seed=1, out=mask)
        _, saved = ops.batch_norm(x, w, w, None, None, training=True, activation="relu")
        ops.batch_norm_backward(x, saved)
        ops.bias_act(x, w, activation="tanh")
        ops.cross_entropy(x, labels)
        ops.global_norm(grads)
        optimizer.step(grads, max_norm=1.0, nonfinite="skip", zero_grad=True)

    with real.side_stream() as stream:
        everything()  # what is made once is made now
        stream.synchronize()
        real.busy()
        with real.no_synchronising():
            everything()
        assert not real.is_done(stream), "a call waited for the device"
        stream.synchronize()


@pytest.mark.parametrize("clips", [False, True])
def test_a_captured_step_counts(gpu, clips):
    def setting(array):
        params = [array(values(*s, seed=1)) for s in ((1000,), (33, 7), (5,))]
        grads = [array(values(*s, seed=2)) for s in ((1000,), (33, 7), (5,))]
        return optim.AdamW(params, **STEP), params, grads

    more = {"max_norm": 1e9} if clips else {}
    optimizer, params, grads = setting(gpu.array)
    optimizer.step(grads, **more)
    replay = gpu.capture(lambda: optimizer.step(grads, **more))
    reference, want, host = setting(np.array)
    reference.step(host, **more)
    for lr in (STEP["lr"], 0.02, 0.03):  # numbers on the device
        optimizer.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = lr
        replay()
        reference.step(host, **more)
    assert_all_same(on_host(gpu, params), want)
    steps = [s["step"] for s in optimizer.state_dict()["state"].values()]
    assert [int(s) for s in steps] == [4, 4, 4]


def test_a_captured_step_reads_its_scale_on_the_device(gpu):
    params, grads = [gpu.array(values(1000, seed=1))], [gpu.array(values(1000, seed=2))]
    scale = gpu.array(np.full(1, 8, np.float32))
    optimizer = optim.AdamW(params, **STEP)
    optimizer.step(grads, grad_scale=scale, max_norm=1.0)
    replay = gpu.capture(lambda: optimizer.step(grads, grad_scale=scale, max_norm=1.0))
    want, host = [values(1000, seed=1)], [values(1000, seed=2)]
    reference = optim.AdamW(want, **STEP)
    reference.step(host, grad_scale=8.0, max_norm=1.0)
    for _ in range(2):
        scale *= 0.5
        replay()
    for factor in (4.0, 2.0):
        reference.step(host, grad_scale=factor, max_norm=1.0)
    assert_all_same(on_host(gpu, params), want)


def test_each_replay_has_a_mask_of_its_own(gpu):
    count = gpu.array(np.full(1, 7, np.int64))
    x = gpu.array(np.ones(4096, np.float32))
    ops.dropout(x, 0.5, seed=3, offset=count)
    replay = gpu.capture(lambda: ops.dropout(x, 0.5, seed=3, offset=count))
    for offset in (7, 8, 9):
        y = on_host(gpu, [replay()])
        assert_all_same(y, [ops.dropout(np.ones(4096, np.float32), 0.5, seed=3, offset=offset)])
        count += 1


def test_captured_batch_norm_and_dropout(gpu):
    x, w = gpu.array(values(32, 64, 14, 14)), gpu.array(values(64, seed=1))

    def both():
        y, saved = ops.batch_norm(x, w, w, None, None, training=True, activation="relu")
        return y, ops.batch_norm_backward(y, saved)[0], ops.dropout(y, 0.3, seed=7)

    eager = on_host(gpu, both())
    replay = gpu.capture(both)
    replay()
    x *= 2
    x /= 2
    assert_all_same(on_host(gpu, replay()), eager)


# ------------------------------------------------------------------------------ devices, mistakes


def test_the_device_of_the_arrays_is_used(gpu):
    if gpu.devices() < 2:
        pytest.skip("one device")
    before = gpu.current_device()
    x = values(1000)
    assert_all_same([gpu.host(ops.tanh(gpu.array(x, 1)))], [ops.tanh(x)])
    assert gpu.current_device() == before
    with pytest.raises((TypeError, ValueError), match="device"):
        ops.relu_backward(gpu.array(x, 0), gpu.array(x, 1))


def test_labels_out_of_range_leave_the_device_usable(gpu):
    logits = gpu.array(values(6, 10))
    loss, gradient = ops.cross_entropy(logits, gpu.array(np.array([1, 2, 10, -5, 0, 9])))
    assert np.isnan(float(gpu.host(loss)))
    gpu.synchronize()
    host = gpu.host(gradient)
    assert np.isfinite(host).all()
    assert not host[[2, 3]].any()
    with pytest.raises(IndexError, match="label"):
        ops.relu(logits)
    assert_all_same([gpu.host(ops.relu(logits))], [ops.relu(gpu.host(logits))])


def test_out_of_memory_is_one_error(real):
    with pytest.raises((MemoryError, RuntimeError), match=r"(?i)memory"):
        ops.relu(real.huge())
    x = values(100)
    assert_all_same([real.host(ops.relu(real.array(x)))], [ops.relu(x)])
