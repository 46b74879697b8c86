"""CUDA arrays at the border: what they are, what comes back, and that nothing is waited for.

Arrays of the CuPy of fake_cupy.py, whose device memory is host memory, and the simulator of
tests/cuda_sim as the CUDA backend. What a kernel computes is checked in test_cuda_backend.py too;
here it is what reaches it and what comes back. Streams have test_cuda_streams.py, memory and what
fails test_cuda_memory.py.
"""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import cases
import fake_cupy
import numpy as np
import pytest
from cases import computing
from cases._optimizer import Scalar
from cuda_simulator import ELEMENTWISE, RUNNABLE, simulable
from helpers import (
    assert_all_close,
    assert_all_same,
    each_dtype,
    each_sweep,
    each_variant,
    flat,
)
from onepass import _C, ops, optim
from small_cuda import Foreign, on_device, to_device, to_host, values

each_case = pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])

relu = _C.activation["relu"]
ADAMW = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


def smallest(case, count=3):
    """The few shapes of a row that say most for their time."""
    shapes = [s for s in case.shapes if simulable(s) and np.prod(s) <= 600]
    return shapes[-count:]


# ----------------------------------------------------------------------------------- the numbers


def numbers_read(case):
    """Scalars of the three parameters, which the host reads: they belong on the host."""
    variant = cases.optimizers.BY_NAME.get(case.name)
    return 3 * sum(isinstance(s, Scalar) for s in variant.states) if variant else 0


@each_dtype
@each_case
def test_against_reference(cupy, case, dtype):
    for shape in smallest(case):
        for options in case.options:
            host = case.inputs(shape, dtype, options)
            want = case.expect(host, options)
            before = fake_cupy.state.synchronised + numbers_read(case)
            got = case.run(to_device(host), options)
            assert fake_cupy.state.synchronised == before, "the host waited for the device"
            for result in flat(got):
                assert result is None or isinstance(result, fake_cupy.ndarray), type(result)
            label = f"{case.name}{shape} {options}"
            assert_all_close(to_host(got), want, case.tolerance, dtype, label)
            if case in ELEMENTWISE:
                want = case.run(case.inputs(shape, dtype, options), options)
                assert_all_same(to_host(got), want, label)


def test_a_mask_is_drawn_where_its_array_lies(cupy, simulator):
    simulator.device_calls()
    for packed in (False, True):
        want = ops.dropout_mask((7, 300), 0.3, seed=5, offset=2, packed=packed)
        out = cupy.zeros(want.shape, want.dtype)
        before = fake_cupy.state.synchronised
        with cupy.cuda.Stream() as stream:
            made = ops.dropout_mask((7, 300), 0.3, seed=5, offset=2, packed=packed, out=out)
        assert made is out
        assert fake_cupy.state.synchronised == before, "the host waited for the device"
        assert [call[1] for call in simulator.device_calls()] == [stream.ptr]
        assert_all_same([out.get()], [want])


# ------------------------------------------------------------------------------- optimizer steps


def steps_of(cls, arrays, gradients, wrap, **options):
    """Parameters, states, counts and infos after a step for each list of gradients."""
    params = [wrap(a.copy()) for a in arrays]
    optimizer = cls(params)
    infos = [
        optimizer.step([None if g is None else wrap(g) for g in grads], **options)
        for grads in gradients
    ]
    state = optimizer.state_dict()["state"]
    values = [[to_host(v) for k, v in state[i].items() if k != "step"] for i in sorted(state)]
    counts = {i: entry["step"] for i, entry in state.items()}
    return [to_host(p) for p in params], values, counts, [tuple(info) for info in infos]


@each_sweep
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_norm": 0.5},
        {"nonfinite": "skip"},
        {"max_norm": 0.5, "max_value": 0.4, "grad_scale": 4.0, "nonfinite": "skip"},
        {"nonfinite": "skip", "zero_grad": True},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
def test_steps_are_those_of_the_cpu(cupy, variant, sweep, options):
    """Also a skipped step, a missing gradient, an empty parameter, and counts that differ by it."""
    arrays = [values((5, 7)), values(0), values(3), values(70, np.float64)]
    rng = np.random.default_rng(5)
    gradients = [[rng.standard_normal(a.shape).astype(a.dtype) for a in arrays] for _ in range(5)]
    gradients[1][2] = None
    if "nonfinite" in options:
        gradients[2][3] = gradients[2][3].copy()
        gradients[2][3][7] = np.inf
    on_cpu = [[None if g is None else g.copy() for g in grads] for grads in gradients]
    make = functools.partial(variant.record.cls, **sweep)
    want = steps_of(make, arrays, on_cpu, lambda a: a, **options)
    zeroed = []
    got = steps_of(
        make, arrays, gradients, lambda a: zeroed.append(to_device(a)) or zeroed[-1],
        **options,
    )  # fmt: skip
    if "max_norm" in options:  # sums in another order: the last bits
        for results, wanted in zip(got[:2], want[:2], strict=True):
            for g, w in zip(flat(results), flat(wanted), strict=True):
                np.testing.assert_allclose(g, w, rtol=2e-6, atol=1e-7)
        for info, wanted in zip(got[3], want[3], strict=True):
            assert (info[0], info[2]) == (wanted[0], wanted[2])
            assert info[1] == pytest.approx(wanted[1], rel=1e-6)
    else:
        assert_all_same(got[0], want[0], variant.name)
        assert_all_same(flat(got[1]), flat(want[1]), variant.name)
        assert got[3] == want[3]
    assert got[2] == want[2]
    if "zero_grad" in options:
        assert all(not a.get().any() for a in zeroed[len(arrays) :])


def test_a_step_of_many_blocks_is_one_step(cupy):
    arrays = [values(400_000)]
    optimizer = optim.AdamW(to_device(arrays), **ADAMW)
    for _ in range(3):
        optimizer.step(to_device([np.ones(400_000, np.float32)]))
    assert {int(state["step"]) for state in optimizer.state_dict()["state"].values()} == {3}


@each_variant
def test_parameters_of_one_warp_have_counts_of_their_own(cupy, variant):
    """Many small parameters share a warp, and half of them, drawn at random, are a step behind."""
    arrays = [values(1 + i % 3) for i in range(400)]
    rng = np.random.default_rng(6)
    gradients = [[rng.standard_normal(a.shape).astype(a.dtype) for a in arrays] for _ in range(3)]
    gradients[0] = [g if rng.random() < 0.5 else None for g in gradients[0]]
    want = steps_of(variant.make, arrays, gradients, lambda a: a)
    got = steps_of(variant.make, arrays, gradients, to_device)
    assert_all_same(got[0], want[0])
    assert got[2] == want[2]
    assert {int(count) for count in got[2].values()} == {2, 3}


def test_a_step_that_raises_leaves_the_gradients(cupy):
    params, gradients = (
        to_device([values(40), values((3, 3))]),
        to_device([values(40), values((3, 3))]),
    )
    optimizer = optim.AdamW(params)
    gradients[1][0, 0] = np.inf
    before = [g.get() for g in gradients]
    with pytest.raises(FloatingPointError, match="parameter 1 "):
        optimizer.step(gradients, nonfinite="raise", zero_grad=True)
    assert_all_same([g.get() for g in gradients], before)
    gradients[1][0, 0] = 0
    optimizer.step(gradients, nonfinite="raise", zero_grad=True)
    assert all(not g.get().any() for g in gradients)


@pytest.mark.parametrize("as_arrays", [False, True], ids=["numbers", "0-d arrays"])
@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
def test_nadam_keeps_its_products_where_a_step_is_skipped(cupy, nonfinite, as_arrays):
    """`ops.nadam_` reads on the host what only the device knows: whether the step was taken."""
    options = {"nonfinite": nonfinite, "max_norm": 0.5, "lr": 0.1}
    results = []
    for place in (lambda a: a, to_device):
        lists = [[place(values(n) * 0 + k) for n in (5, 70)] for k in (1, 0, 0)]
        products = [place(np.array(v)) if as_arrays else v for v in (1.0, 0.45)]
        held, seen = list(products), []
        for bad in (False, True, False):
            if bad and nonfinite == "propagate":
                continue
            grads = [values(5), values(70)]
            grads[1][3] = np.inf if bad else 1
            call = functools.partial(
                ops.nadam_, lists[0], place(grads), lists[1], lists[2], products, **options
            )
            if bad and nonfinite == "raise":
                with pytest.raises(FloatingPointError, match="parameter 1 is not finite"):
                    call(step=[1, 2])
            else:
                info = call(step=[1, 2])
                assert info.skipped == bad
                assert info.nonfinite_param == (1 if bad else None)
            if as_arrays:
                assert all(own is one for own, one in zip(products, held, strict=True))
            seen.append([float(p) for p in products])
        assert len({tuple(p) for p in seen}) == 2, "a skipped step leaves them, others do not"
        results.append((to_host(lists), seen))
    (got, got_products), (want, want_products) = results
    assert got_products == want_products
    for g, w in zip(flat(got), flat(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("max_norm", [5e-324, 2.5e-308, 1e-250, 1e-45, 1e-20, 1e300])
def test_any_max_norm_clips_on_the_device_too(cupy, max_norm):
    for grads in (
        [np.zeros(4), np.zeros(5, np.float32)],
        [np.full(4, 1e-300)],
        [np.full(100, 3e38, np.float32)],
        [np.array([1.5e308, -1.5e308, 1.5e308, 1.0])],
        [np.full(7, 1e38, np.float32), np.full(4, -1e170)],
    ):
        results = []
        for place in (lambda a: a, to_device):
            params = place([np.zeros_like(g) for g in grads])
            ops.sgd_(params, place(grads), lr=1.0, max_norm=max_norm)
            results.append(to_host(params))
        for want, got, grad in zip(*results, grads, strict=True):
            # The CPU takes subnormal numbers for zero, a GPU those of float32.
            atol = 2.0**-1020 if grad.itemsize == 8 else 2.0**-124
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=atol)
            assert np.isfinite(got).all()


def test_a_step_waits_for_nothing_until_its_info_is_read(cupy):
    params = to_device([values(40), values((3, 3))])
    optimizer = optim.AdamW(params)
    gradients = to_device([values(40), values((3, 3))])
    before = fake_cupy.state.synchronised
    first = optimizer.step(gradients, max_norm=1.0, nonfinite="skip")
    gradients[1][0, 0] = cupy.nan
    second = optimizer.step(gradients, nonfinite="skip")
    assert fake_cupy.state.synchronised == before
    assert (first.skipped, second.skipped) == (False, True)
    assert fake_cupy.state.synchronised > before
    assert (first.nonfinite_param, second.nonfinite_param) == (None, 1)
    assert first.grad_norm == pytest.approx(
        np.sqrt(sum((values(s).astype(float) ** 2).sum() for s in (40, (3, 3)))), rel=1e-6
    )
    skipped, norm, index = second
    assert (skipped, norm, index) == (True, None, 1) == second == tuple(second)
    assert second == ops.StepInfo(True, None, 1)
    assert second != first
    assert (second[2], len(second)) == (1, 3)
    assert repr(second) == "StepInfo(skipped=True, grad_norm=None, nonfinite_param=1)"
    assert pickle.loads(pickle.dumps(second)) == second
    assert isinstance(second, ops.StepInfo)


def test_norms_of_each_parameter_stay_on_the_device_until_they_are_read(cupy):
    params, grads = [values((7, 5)), values(33)], [values((7, 5)), values(33)]
    there = to_device(params)
    opt = optim.AdamW(there, lr=0.1, diagnostics=True)
    here = optim.AdamW(params, lr=0.1, diagnostics=True)
    for step in range(2):
        given = [grads[0], grads[1] if step else None]
        before = fake_cupy.state.synchronised
        opt.step(to_device(given), grad_scale=4.0)
        assert fake_cupy.state.synchronised == before
        here.step(given, grad_scale=4.0)
        assert opt.per_parameter == here.per_parameter
        assert fake_cupy.state.synchronised > before


def test_a_step_that_raises_changes_nothing(cupy):
    params = to_device([values(9)])
    optimizer = optim.Adam(params)
    with pytest.raises(FloatingPointError, match=r"gradient of parameter 0 is not finite"):
        optimizer.step([cupy.full(9, cupy.inf, np.float32)], nonfinite="raise")
    assert np.array_equal(params[0].get(), values(9))
    assert optimizer.state_dict()["state"] == {}
    optimizer.step([cupy.ones(9, np.float32)], nonfinite="raise")
    assert optimizer.state_dict()["state"][0]["step"] == 1


def test_states_are_saved_and_loaded(cupy):
    arrays, grads = [values(9), values((2, 4))], [values(9), values((2, 4))]
    one = optim.Adam(to_device([a.copy() for a in arrays]))
    two = optim.Adam([a.copy() for a in arrays])
    for optimizer, wrap in ((one, to_device), (two, lambda a: a)):
        optimizer.step(wrap(grads))
        optimizer.step(wrap(grads))
    saved = one.state_dict()
    assert [saved["state"][i]["step"] for i in (0, 1)] == [2, 2]
    assert isinstance(saved["state"][0]["exp_avg"], fake_cupy.ndarray)
    for saved_by in (two.state_dict(), saved):  # from the host, and from a device
        third = optim.Adam(to_device([a.copy() for a in two._arrays]))
        third.load_state_dict(saved_by)
        for twin in (third, copy.deepcopy(third), pickle.loads(pickle.dumps(third))):
            twin.step(to_device(grads))
            assert twin.state_dict()["state"][1]["step"] == 3
    two.step(grads)
    assert_all_same([to_host(a) for a in third._arrays], two._arrays)
    third.add_param_group({"params": [cupy.ones(3, np.float32)]})
    third.step([None, to_device(grads[1]), cupy.ones(3, np.float32)])
    assert [third.state_dict()["state"][i]["step"] for i in range(3)] == [3, 4, 1]


def test_functions_take_the_step_from_their_argument(cupy):
    def run(wrap):
        arrays = [wrap(np.abs(values(33)) + np.float32(i)) for i in range(4)]
        p, g, m, v = ([a] for a in arrays)
        ops.adamw_(p, g, m, v, step=7, **ADAMW)
        info = ops.adamw_(p, g, m, v, step=[8], nonfinite="skip", **ADAMW)
        return tuple(map(to_host, arrays)), tuple(info)

    got, want = run(to_device), run(lambda a: a)
    assert_all_same(got[0], want[0])
    assert got[1] == want[1] == (False, None, None)


# ------------------------------------------------------------------------- where a call runs


def test_arrays_on_two_devices(cupy):
    near, far, host = (
        cupy.ones(4, np.float32),
        on_device(1, np.ones(4, np.float32)),
        np.ones(4, "f4"),
    )
    two = [("CUDA device 0", near), ("CUDA device 1", far), ("the CPU", host)]
    for (place, x), (other_place, other) in itertools.permutations(two, 2):
        message = rf"'dy' lies on {place} but 'x' on {other_place}|"
        message += rf"'x' lies on {other_place} but 'dy' on {place}"
        with pytest.raises(TypeError, match=message):
            ops.relu_backward(x, other)
        with pytest.raises(TypeError, match=rf"'out' .*{place}|'x' .*{other_place} but 'out'"):
            ops.relu(other, out=x)
        with pytest.raises(TypeError, match=r"on another device than 'params\[0\]'|move them"):
            optim.SGD([x, other])
        with pytest.raises(TypeError, match=rf"'grads?\[0\]' lies on {other_place} but"):
            optim.SGD([x]).step([other])
        with pytest.raises(TypeError, match=r"'arrays\[1\]' lies on"):
            ops.global_norm([x, other])
        with pytest.raises(TypeError, match=r"'weight' lies on|'bias' lies on"):
            ops.batch_norm(x.reshape(1, 4), other, x, x, x, training=False)
        with pytest.raises(TypeError, match=r"'target' lies on"):
            ops.cross_entropy(x.reshape(1, 4), other.reshape(1, 4))
    for _, array in two:
        assert array.tolist() == [1] * 4


def test_what_is_written_must_be_writable_apart_and_dense(cupy):
    x = cupy.ones((4, 6), np.float32)
    with pytest.raises(ValueError, match=r"'out' .*read-only"):
        relu(x, Foreign(cupy.zeros((4, 6), np.float32), read_only=True))
    with pytest.raises(ValueError, match=r"'out' overlaps 'x' in memory"):
        ops.relu(x[1:], out=x[:-1])
    with pytest.raises(ValueError, match=r"'params\[1\]' .*same array"):
        optim.SGD([x, x])
    optimizer = optim.SGD([x])
    with pytest.raises(ValueError, match=r"'grads?\[0\]' overlaps 'params\[0\]'|same array"):
        optimizer.step([x])
    statistics = cupy.ones((6, 2), np.float32)
    with pytest.raises(ValueError, match=r"'running_mean' is not .*contiguous copy"):
        ops.batch_norm(x, None, None, statistics[:, 0], statistics[:, 1], training=True)
    raw = cupy.zeros(4 * 6 + 1, np.uint8)
    crooked = fake_cupy._view(raw, raw._host[1:].view(np.float32))
    with pytest.raises(ValueError, match="not aligned to its elements"):
        ops.relu(crooked)
    with pytest.raises(ValueError, match=r"'out' is not contiguous in C order"):
        ops.dropout_mask((4, 6), seed=1, out=cupy.zeros((6, 4), np.bool_).T)
    with pytest.raises(TypeError, match=r"'out' has dtype bool, expected uint8 for a packed mask"):
        ops.dropout_mask(8, seed=1, packed=True, out=cupy.zeros(1, np.bool_))
    with pytest.raises(TypeError, match=r"'x' has dtype int32"):
        ops.relu(cupy.ones(3, np.int32))
    assert bool((x == 1).all())


def test_strided_inputs_are_copied_by_their_library(cupy):
    """Vectors of one value a channel, labels, and arrays of kernels that want them dense."""
    host = values((6, 10)), values((2, 10)).T[::2], np.arange(12).reshape(6, 2) % 5
    x, vectors, labels = map(cupy.asarray, host)
    vectors = cupy.asarray(values((2, 10))).T[::2]
    got = ops.bias_act(x[:, ::2], vectors[:, 1], activation="gelu")
    assert_all_same([got.get()], [ops.bias_act(host[0][:, ::2], host[1][:, 1], activation="gelu")])
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        pair = ops.cross_entropy(x, labels.astype(dtype)[:, 1], reduction="none")
        want = ops.cross_entropy(host[0], host[2].astype(dtype)[:, 1], reduction="none")
        for g, w in zip(pair, want, strict=True):
            np.testing.assert_allclose(g.get(), w, rtol=1e-5, atol=1e-6)
    assert fake_cupy.state.waits == []


def test_an_adaptive_pool_of_a_long_axis(cupy):
    """Its windows begin at products of two sizes, which take more than 32 bits here."""
    x = values((1, 1, 50_001, 1))
    got = ops.adaptive_avg_pool2d(cupy.asarray(x), (50_000, 1))
    assert_all_same([got.get()], [ops.adaptive_avg_pool2d(x, (50_000, 1))])
    dy = x[:, :, 1:].copy()
    got = ops.adaptive_avg_pool2d_backward(cupy.asarray(dy), (50_001, 1))
    assert_all_same([got.get()], [ops.adaptive_avg_pool2d_backward(dy, (50_001, 1))])


@each_dtype
def test_results_stay_on_the_device(cupy, dtype):
    x, labels = cupy.asarray(values((6, 5), dtype)), cupy.zeros(6, np.int64)
    before = fake_cupy.state.synchronised
    for reduction in ("mean", "sum"):
        loss, dlogits = ops.cross_entropy(x, labels, reduction=reduction)
        assert (type(loss), loss.shape, loss.dtype) == (fake_cupy.ndarray, (), computing(dtype))
        assert (dlogits.shape, dlogits.dtype) == (x.shape, x.dtype)
    norm = ops.global_norm([x, labels.astype(np.float32)])
    assert (type(norm), norm.shape, norm.dtype) == (fake_cupy.ndarray, (), np.float64)
    assert fake_cupy.state.synchronised == before
    assert float(norm) == pytest.approx(ops.global_norm([x.get()]), rel=1e-6)
    assert float(ops.global_norm([cupy.empty((0, 3), dtype)])) == 0 == ops.global_norm([])


# ----------------------------------------------------------------------------------------- labels


def test_labels_out_of_range_are_told_by_the_next_call(cupy):
    x, labels = cupy.asarray(values((4, 3))), cupy.asarray(np.array([0, 3, -1, 2]))
    far = on_device(1, values((4, 3)))
    loss, dlogits = ops.cross_entropy(x, labels)
    assert np.isnan(loss.get())
    assert not dlogits.get()[1:3].any()
    assert dlogits.get()[[0, 3]].any()
    ops.relu(far)  # the other device knows nothing of it
    ops.relu(x.get())
    out = cupy.zeros((4, 3), np.float32)
    with pytest.raises(IndexError, match=r"relu: an earlier cross_entropy on CUDA device 0 met "
                       r"labels outside \[0, C\).*NaN.*ONEPASS_CUDA_CHECK=1"):  # fmt: skip
        ops.relu(x, out=out)
    assert not out.get().any()
    ops.relu(x, out=out)
    ops.cross_entropy(x, cupy.asarray(np.array([0, 1, -100, 2])))
    ops.relu(x, out=out)
    optimizer = optim.SGD([out])  # a step is a call as well
    ops.cross_entropy(x, labels)
    with pytest.raises(IndexError, match=r"SGD: an earlier cross_entropy"):
        optimizer.step([x])


def test_labels_are_checked_at_once_on_request(cupy, monkeypatch):
    monkeypatch.setenv("ONEPASS_CUDA_CHECK", "1")
    x, labels = cupy.asarray(values((4, 3))), cupy.asarray(np.array([0, 3, -1, 2]))
    with pytest.raises(IndexError, match=r"'target' holds .* 0 <= label < 3, or ignore_index -100"):
        ops.cross_entropy(x, labels)
    before = fake_cupy.state.synchronised
    loss, _ = ops.cross_entropy(x, cupy.abs(labels) % 3)
    assert fake_cupy.state.synchronised == before + 1
    assert float(loss) > 0


# ---------------------------------------------------------------------------------------- loading


def test_the_backend_is_loaded_by_the_first_cuda_array(simulator):
    """In a process of its own, with the simulator in the place of onepass._cuda."""
    script = f"""
import importlib.util, sys, types
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fake_cupy, numpy as np
spec = importlib.util.spec_from_file_location("onepass_cuda_sim", {simulator.__file__!r})
simulator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulator)
from onepass import _C, config, ops
sys.modules["cupy"] = fake_cupy.cupy
x = fake_cupy.cupy.asarray(np.float32([-1, 2]))
_C.cuda_built = lambda: True
class Cuda(types.ModuleType):
    asked = []
    def why_not(self):
        self.asked.append("why_not")
        return why
    def backend(self):
        self.asked.append("backend")
        return simulator.device_backend()
why, sys.modules["onepass._cuda"] = "it is Friday.", Cuda("onepass._cuda")
ops.relu(np.ones(3, np.float32))
assert Cuda.asked == []
try:
    ops.relu(x)
except RuntimeError as error:
    assert str(error).endswith("'x' lies on a CUDA device, but CUDA is not usable: it is Friday.")
else:
    raise AssertionError
config._cuda_state.cache_clear()
why = ""
for _ in range(2):
    print(ops.relu(x), Cuda.asked)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = "[0. 2.] ['why_not', 'why_not', 'backend']\n"
    assert done.stdout.replace("array(", "").replace(", dtype=float32)", "") in (
        line * 2, line.replace(". ", "., ") * 2,
    )  # fmt: skip
