"""Memory: any strides give the bits of the contiguous call, and no byte outside an array that is
written changes; checked with canaries around every view and with unmapped pages beside it."""

import ctypes
import itertools
import math
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from cases import BFLOAT16, CASES, DTYPES
from helpers import (
    CASE_IDS,
    LAYOUTS,
    Layout,
    assert_all_same,
    assert_same,
    each_variant,
    flat,
    from_torch,
    mapped,
    sweep,
    to_torch,
)
from onepass import ops

each_case = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
TWO_DTYPES = [DTYPES[0], DTYPES[-1]]  # one that is read as it is, one that is converted
WITH_OUT = [case for case in CASES if case.out]
UPDATES = [case for case in CASES if case.family == "update"]


def lay(a, layout, collected):
    collected.append(Layout(a, layout))
    return collected[-1].view


def assert_equal_results(case, got, want, label):
    if case.family == "reduction":  # sums in the order of memory
        assert got[0] == pytest.approx(want[0], rel=1e-7), label
    else:
        assert_all_same(got, want, label)


def small(case):
    return [s for s in case.shapes if math.prod(s) < 3000]


@pytest.mark.parametrize("dtype", TWO_DTYPES, ids=str)
@each_layout
@each_case
def test_strides_do_not_matter(case, layout, dtype):
    for label, shape, options in sweep(case, shapes=small(case)):
        want = case.run(case.inputs(shape, dtype, options), options)
        laid = []
        inputs = mapped(lambda a, s=laid: lay(a, layout, s), case.inputs(shape, dtype, options))
        assert_equal_results(case, case.run(inputs, options), want, f"{label} {layout}")
        for one in laid:
            one.check(f"{label} {layout}")


@each_case
def test_layouts_may_be_mixed(case):
    """Each input lies differently, e.g. a channels-last gradient of a contiguous parameter."""
    shapes = [s for s in small(case) if len(s) >= 2] or [(4, 3, 5, 2), (33, 17)]
    for label, shape, options in sweep(case, shapes=shapes):
        want = case.run(case.inputs(shape, "float32", options), options)
        for start in range(len(LAYOUTS)):
            kinds = itertools.cycle(["plain", *LAYOUTS][start:] + ["plain", *LAYOUTS][:start])
            inputs = case.inputs(shape, "float32", options)
            inputs = mapped(lambda a, kinds=kinds: Layout(a, next(kinds)).view, inputs)
            assert_equal_results(case, case.run(inputs, options), want, f"{label} {start}")


@each_case
def test_broadcast_inputs(case):
    """Stride 0 is welcome where an input is only read, and so is a read-only flag."""
    for label, shape, options in sweep(case, shapes=[s for s in small(case) if s and 0 not in s]):
        inputs = case.inputs(shape, "float32", options)
        read = [i for i in range(len(inputs)) if i not in case.written]

        def spread(a, copy):
            b = np.broadcast_to(a[:1], a.shape)
            return b.copy() if copy else b

        for axis_copy in (True, False):
            varied = list(case.inputs(shape, "float32", options))
            for i in read:
                varied[i] = mapped(lambda a, c=axis_copy: spread(a, c), (varied[i],))[0]
            got = case.run(tuple(varied), options)
            if axis_copy:
                want = got
        assert_equal_results(case, got, want, label)


@pytest.mark.parametrize("case", WITH_OUT, ids=[c.name for c in WITH_OUT])
def test_out_of_any_layout(case):
    for dtype, (label, shape, options) in itertools.product(
        TWO_DTYPES, sweep(case, shapes=small(case))
    ):
        inputs = case.inputs(shape, dtype, options)
        want = case.run(inputs, options)[0]
        for layout in ("plain", *LAYOUTS):
            laid = Layout(np.full_like(want, 7), layout)
            inputs = case.inputs(shape, dtype, options)
            got = case.run(inputs, options, out=laid.view)[0]
            assert got is laid.view, f"{label}: out itself comes back"
            assert_same(laid.view, want, f"{label} {layout}")
            laid.check(f"{label} {layout}")


LOSSES = [case for case in CASES if case.family == "loss"]


@pytest.mark.parametrize("layout", ["plain", *LAYOUTS])
@pytest.mark.parametrize("case", LOSSES, ids=[c.name for c in LOSSES])
def test_gradients_of_losses_in_any_layout(case, layout):
    """Into `out`, which may be the input itself."""
    for dtype, (label, shape, options) in itertools.product(
        TWO_DTYPES, sweep(case, shapes=small(case)[:6])
    ):
        loss, want = case.run(case.inputs(shape, dtype, options), options)
        laid = Layout(np.full_like(want, 7), layout)
        again, got = case.run(case.inputs(shape, dtype, options), options, out=laid.view)
        assert got is laid.view, f"{label}: out itself comes back"
        assert_same(np.asarray(again), np.asarray(loss), label)
        assert_same(laid.view, want, f"{label} {layout}")
        laid.check(f"{label} {layout}")
        x, *others = case.inputs(shape, dtype, options)
        inside = Layout(x, layout)
        again, _ = case.run((inside.view, *others), options, out=inside.view)
        assert_same(np.asarray(again), np.asarray(loss), f"{label}: out = input")
        assert_same(inside.view, want, f"{label} {layout}: out = input")
        inside.check(f"{label} {layout}")


def test_a_wrong_label_leaves_the_gradient_as_it_was():
    logits = np.random.default_rng(0).standard_normal((7, 5, 3)).astype(np.float32)
    out = np.full_like(logits, 7)
    with pytest.raises(IndexError):
        ops.cross_entropy(logits, np.full((7, 3), 5), out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("case", WITH_OUT, ids=[c.name for c in WITH_OUT])
def test_out_may_be_an_input(case):
    for dtype, alias, layout in itertools.product(TWO_DTYPES, case.alias, ("plain", *LAYOUTS)):
        for label, shape, options in sweep(case, shapes=small(case)):
            want = case.run(case.inputs(shape, dtype, options), options)
            inputs = list(case.inputs(shape, dtype, options))
            laid = Layout(inputs[alias], layout)
            inputs[alias] = laid.view
            got = case.run(tuple(inputs), options, out=laid.view)
            assert_all_same(got, want, f"{label} out = input {alias} {layout}")
            laid.check(label)


@pytest.mark.parametrize("case", UPDATES, ids=[c.name for c in UPDATES])
def test_every_pair_of_layouts_in_an_update(case):
    """Parameter and gradient in every pair of layouts, each state in another."""
    shape, options = (5, 3, 7), case.options[-1]
    want = case.run(case.inputs(shape, "float32", options), options)
    for pair in itertools.product(["plain", *LAYOUTS], repeat=2):
        kinds = itertools.chain(pair, itertools.cycle(["channels_last", "fortran", "step"]))
        inputs = case.inputs(shape, "float32", options)
        laid = [
            [None if a is None else Layout(a, kind) for a in v]
            for v, kind in zip(inputs, kinds, strict=False)
        ]
        views = tuple([one and one.view for one in some] for some in laid)
        assert_all_same(case.run(views, options), want, str(pair))
        for one in filter(None, flat(laid)):
            one.check(str(pair))


@each_variant
@each_layout
def test_an_optimizer_stays_inside_its_parameters(layout, variant):
    """The plan of a class, over several steps, with gradients that move and change layout."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(s).astype(np.float32) for s in ((7, 5), (3, 4, 2, 2), (33,), ())]
    plain = [p.copy() for p in start]
    laid = [Layout(p, layout) for p in start]
    one, other = (variant.make(p, lr=0.1) for p in (plain, [p.view for p in laid]))
    for step in range(6):
        grads = [rng.standard_normal(p.shape).astype(np.float32) for p in start]
        moved = [Layout(g, LAYOUTS[(i + step) % len(LAYOUTS)]) for i, g in enumerate(grads)]
        one.step(grads, max_norm=1.0)
        other.step([g.view for g in moved], max_norm=1.0, zero_grad=True)
        assert_all_same([p.view for p in laid], plain, f"{layout} step {step}")
        for g in moved:
            assert not g.view.any(), "zero_grad"
            g.check(f"{layout} gradient")
    for p in laid:
        p.check(layout)


def test_torch_layouts():
    """Channels-last, transposed and expanded tensors, and one that is flagged as negated."""
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 4, 5)
    for y in (x.to(memory_format=torch.channels_last), x.transpose(1, 3), x[:, ::2], x.mT):
        assert_same(from_torch(ops.tanh(y)), from_torch(ops.tanh(y.contiguous())))
    wide = torch.randn(1, 3).expand(4, 3)
    assert_same(from_torch(ops.tanh(wide)), from_torch(ops.tanh(wide.contiguous())))
    negated = torch.randn(5, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    want = from_torch(ops.tanh(negated.resolve_neg().clone()))
    try:
        got = from_torch(ops.tanh(negated))
    except (TypeError, ValueError):
        return  # a refusal is fine, the wrong sign is not
    assert_same(got, want)


@pytest.mark.skipif(BFLOAT16 is None, reason="needs ml_dtypes")
def test_both_bfloat16_are_one():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(BFLOAT16)
    assert_same(from_torch(ops.gelu(to_torch(x).T)).T, ops.gelu(x))
    assert ops.gelu(to_torch(x)).dtype == torch.bfloat16


# ------------------------------------------------------------------------------------ guard pages


def _guarded(a, at_end):
    """A copy of `a` that touches a page without access, behind it or before it."""
    if not isinstance(a, np.ndarray) or not a.ndim:
        return a
    page = mmap.PAGESIZE
    room = -(-max(a.nbytes, 1) // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for wall in (start, start + page + room):
        assert libc.mprotect(ctypes.c_void_p(wall), page, 0) == 0, os.strerror(ctypes.get_errno())
    first = page + (room - a.nbytes if at_end else 0)
    copy = np.frombuffer(memory, np.uint8, a.nbytes, first).view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def run_beside_guard_pages():
    """Every row with every array against a wall; a stray access kills this process."""
    from onepass import config

    threads = config.get_num_threads()
    for case, dtype in itertools.product(CASES, TWO_DTYPES):
        shapes = [s for s in case.shapes if 0 < math.prod(s) <= 2100]
        for label, shape, options in sweep(case, shapes, case.options[:4]):
            print(label, dtype, file=sys.stderr)
            want = case.run(case.inputs(shape, dtype, options), options)
            for at_end in (True, False):
                inputs = mapped(
                    lambda a, e=at_end: _guarded(a, e), case.inputs(shape, dtype, options)
                )
                more = {}
                if case.out and np.ndim(want[0]):
                    more["out"] = _guarded(np.zeros_like(want[0]), at_end)
                assert_all_same(case.run(inputs, options, **more), want, label)
    assert config.get_num_threads() == threads


def test_nothing_is_touched_beside_an_array():
    code = "import test_layouts; test_layouts.run_beside_guard_pages()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}; the last calls:\n{done.stderr[-800:]}"


def test_the_guard_pages_guard():
    """The same harness must kill a process that reads one element too far."""
    code = (
        "import numpy as np, test_layouts as t\n"
        "a = t._guarded(np.ones(5, np.float32), {end})\n"
        "np.lib.stride_tricks.as_strided(a{skip}, (6,), (4 * {sign},)).sum()"
    )
    for end, sign in ((True, 1), (False, -1)):
        script = code.format(end=end, skip="" if end else "[4:]", sign=sign)
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=os.path.dirname(os.path.abspath(__file__)),
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == -11


@each_layout
def test_the_canaries_sing(layout):
    """Every byte beside and between the elements of a view is watched."""
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    own = Layout(a, layout)
    assert_same(own.view, a)
    own.view[...] = 7
    own.check("its own elements may change")
    marks = np.zeros(own.buffer.size, bool)
    own.buffer[:] = 0
    own.view.view(np.uint32)[...] = 0xFFFFFFFF
    marks = own.buffer == 0
    own.buffer[:] = own.before
    for at in np.flatnonzero(marks):
        own.buffer[at] ^= 1
        with pytest.raises(AssertionError):
            own.check("a byte outside")
        own.buffer[at] ^= 1


def test_rows_cover_what_is_written():
    """Every updated input of every row is inside `written`: the others come back unchanged."""
    for case in CASES:
        options = case.options[0]
        shape = next(s for s in case.shapes if math.prod(s) > 1)
        before = case.inputs(shape, "float32", options)
        after = case.inputs(shape, "float32", options)
        case.run(after, options)
        for i, (b, a) in enumerate(zip(before, after, strict=True)):
            if i not in case.written:
                assert_all_same([a], [b], f"{case.name} input {i}")


@pytest.mark.parametrize("shape", [(33, 17), (3, 5, 7, 7), (1031, 67)])
def test_bias_act_backward_may_overwrite_its_input(shape):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    bias = rng.standard_normal(shape[1]).astype(np.float32)
    options = {"activation": "gelu", "dropout_p": 0.3, "seed": 3}
    want, want_bias = ops.bias_act_backward(dy, x, bias, **options)
    for target in ("x", "dy"):
        a = {"x": x.copy(), "dy": dy.copy()}
        got, got_bias = ops.bias_act_backward(a["dy"], a["x"], bias, out=a[target], **options)
        assert got is a[target]
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got_bias, want_bias)
