"""The optimizers of onepass.jax: one call, the steps of onepass.optim, in place where donated."""

import dataclasses
import pickle
import re
import warnings

import numpy as np
import pytest
from cases._case import normal
from cases.optimizers import OPTIMIZERS
from helpers import assert_same
from onepass import optim
from onepass.ops._declare_update import RULES
from onepass.ops._rule import UPDATES

jax = pytest.importorskip("jax")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jax.numpy as jnp
    import onepass.jax as oj
    from onepass.jax import _flat
    from small_jax import x64  # noqa: F401  (a fixture)

ONE_CALL = {*UPDATES} - {"muon"}  # tests/test_jax_muon.py
SWEEPS = [
    (record.cls, options)
    for record in OPTIMIZERS
    for options in record.sweep
    if record.name in ONE_CALL
]
LIBRARIES = [
    (record.cls, {"compat": library})
    for record in OPTIMIZERS
    if record.name in ONE_CALL
    for library in RULES[record.name].compat
    if library != "torch"
]
SHAPES = [(3, 4), (9001,), (), (7, 0), (33, 300), (5,)]
DTYPES = ["float32", "float64", "float16", "bfloat16", "float32", "float64"]


def drawn(rng):
    pytest.importorskip("ml_dtypes")
    return [normal(rng, shape, np.dtype(d)) for shape, d in zip(SHAPES, DTYPES, strict=True)]


def factory(cls):
    (name,) = (n for n in oj.__all__ if n == cls.__name__.lower())
    return getattr(oj, name)


def assert_moved(update, before, want):
    """What an update adds, up to the kernel's own rounding of the parameter and the difference's"""
    change = np.asarray(update)
    moved = want.astype(np.float64) - np.asarray(before).astype(np.float64)
    assert change.dtype == want.dtype
    ulp = np.maximum(np.spacing(np.abs(want)), np.spacing(np.abs(change)))
    assert (np.abs(change.astype(np.float64) - moved) <= ulp.astype(np.float64)).all()


def test_every_optimizer_of_one_call_is_there():
    assert {cls for cls, _ in SWEEPS} == {record.cls for record in OPTIMIZERS
                                          if record.name in ONE_CALL}  # fmt: skip
    for cls, _ in SWEEPS:  # docstrings are those of the classes, which know of groups
        assert "    maximize: ascend instead.\n" in factory(cls).__doc__, cls
    lacking = ONE_CALL - set(oj.__all__)
    assert not lacking, f"python/onepass/jax/_optimizers.py and __init__.py lack {lacking}"


@pytest.mark.parametrize(
    ("cls", "options"), SWEEPS + LIBRARIES, ids=[f"{c.__name__}-{o}" for c, o in SWEEPS + LIBRARIES]
)
def test_the_steps_are_those_of_optim(cls, options):
    """Flat parameters bit for bit; updates up to the two roundings of a difference and a sum."""
    rng = np.random.default_rng(0)
    start = drawn(rng)
    mine = [p.copy() for p in start]
    theirs, ours = cls(mine, **options), factory(cls)(**options)
    params, tree = oj.flat(start), {str(i): jnp.asarray(p) for i, p in enumerate(start)}
    state, leaves_state = ours.init(params), ours.init(tree)
    step, update = jax.jit(oj.apply, donate_argnums=(1, 2)), jax.jit(ours.update)
    for count in range(1, 5):
        before = [p.astype(np.float64) for p in mine]
        tree = {str(i): jnp.array(p) for i, p in enumerate(mine)}  # asarray may share memory
        grads = drawn(rng)
        theirs.step(grads)
        params, state = step(grads, params, state)
        updates, leaves_state = update({str(i): g for i, g in enumerate(grads)}, leaves_state, tree)
        for i, (want, got) in enumerate(zip(mine, params.unflatten(), strict=True)):
            assert_same(got, want, f"step {count}, parameter {i}")
            assert_moved(updates[str(i)], before[i], want)
        assert int(state.count) == count
    for one, other in zip(*map(jax.tree_util.tree_leaves, (state, leaves_state)), strict=True):
        assert_same(one, np.asarray(other), "state")
    for dtype, states in state.buffers.items():
        for key, held in states.items():
            own = [theirs.state[p].get(key) for p in mine if str(p.dtype) == dtype]
            parts = [np.asarray(s).ravel() for s in own if s is not None]
            want = np.concatenate([np.zeros(0, held.dtype), *parts])
            assert_same(np.asarray(held), want, f"{key} of {dtype}")


@pytest.mark.parametrize("cls", [optim.AdamW, optim.LAMB, optim.Adafactor])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_a_gradient_may_be_flat_too(cls, max_norm):
    rng = np.random.default_rng(0)
    start, grads = drawn(rng), drawn(rng)
    ours = factory(cls)(lr=0.1)
    one, _ = oj.apply(oj.flat(grads), oj.flat(start), ours.init(start), max_norm=max_norm)
    other, _ = oj.apply(grads, oj.flat(start), ours.init(start), max_norm=max_norm)
    for a, b in zip(one.unflatten(), other.unflatten(), strict=True):
        assert_same(a, np.asarray(b))


@pytest.mark.parametrize("cls", [optim.SGD, optim.LARS, optim.LAMB, optim.Adafactor, optim.Muon])
def test_an_update_of_flat_parameters(cls):
    """The norms, rows and columns are those of each leaf; one call for each dtype."""
    rng = np.random.default_rng(4)
    start = drawn(rng)
    mine = [p.copy() for p in start]
    theirs, ours, params = cls(mine, lr=0.1), factory(cls)(lr=0.1), oj.flat(start)
    state, update = ours.init(params), jax.jit(ours.update)
    for turn in range(3):
        before, grads = [p.copy() for p in mine], drawn(rng)
        theirs.step(grads)
        given = grads if turn == 1 else oj.flat(grads)
        params = oj.flat(before)
        updates, state = update(given, state, params)
        assert isinstance(updates, oj.FlatParams)
        for change, p, want in zip(updates.unflatten(), before, mine, strict=True):
            assert_moved(change, p, want)
        jax.tree_util.tree_map(jnp.add, params, updates)  # as optax.apply_updates does
    text = update.lower(oj.flat(grads), state, params).as_text()
    assert text.count("@onepass_") == len({*DTYPES})


# ---- clipping


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW, optim.LAMB, optim.Adafactor])
@pytest.mark.parametrize("dtypes", [("float32",), DTYPES], ids=["one dtype", "several"])
def test_clipping_is_that_of_optim(cls, dtypes):
    pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(1)

    def draw(scale):
        pairs = zip(SHAPES, dtypes * len(SHAPES), strict=False)
        drawn = [(scale * normal(rng, shape, np.float64), d) for shape, d in pairs]
        return [np.asarray(values, np.dtype(d)) for values, d in drawn]

    start = draw(1)
    mine = [p.copy() for p in start]
    theirs, ours, params = cls(mine, lr=0.1), factory(cls)(lr=0.1), oj.flat(start)
    state, step = ours.init(params), jax.jit(oj.apply)
    for scale, max_norm in [(1, 1.0), (1e-4, 1.0), (1, 1e-3), (1e3, 2.5)]:
        grads = draw(scale)
        info = theirs.step(grads, max_norm=max_norm)
        params, state = step(grads, params, state, max_norm=max_norm)
        for i, (got, want) in enumerate(zip(params.unflatten(), mine, strict=True)):
            assert_same(got, want, f"parameter {i}")
        norm = oj.global_norm(grads)
        assert float(norm) == info.grad_norm if norm.dtype == np.float64 else True
        assert np.float32(info.grad_norm) == np.float32(norm)


MIXED = ["bfloat16", "float32", "bfloat16", "float32", "float32", "bfloat16"]


@pytest.mark.parametrize("flat_grads", [False, True], ids=["a tree", "flat"])
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW, optim.LAMB, optim.Adafactor, optim.Muon])
def test_gradients_of_another_dtype_are_clipped_by_the_norm_of_all(cls, flat_grads):
    """float32 beside bfloat16 parameters: one dtype of gradients, and a call for each of params."""
    pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(1)
    start = [normal(rng, s, np.dtype(d)) for s, d in zip(SHAPES, MIXED, strict=True)]
    mine = [p.copy() for p in start]
    theirs, ours = cls(mine, lr=0.1), factory(cls)(lr=0.1)
    params, state = oj.flat(start), ours.init(start)
    leaves_state, flat_state = ours.init(start), ours.init(params)
    for scale, max_norm in [(1, 1.0), (1e-4, 1.0), (1e3, 2.5)]:
        grads = [np.asarray(scale * normal(rng, s, np.float64), np.float32) for s in SHAPES]
        given = oj.flat(grads) if flat_grads else grads
        before = [jnp.array(p) for p in mine]
        theirs.step(grads, max_norm=max_norm)
        updates, leaves_state = jax.jit(ours.update)(given, leaves_state, before, max_norm=max_norm)
        added, flat_state = jax.jit(ours.update)(given, flat_state, params, max_norm=max_norm)
        params, state = jax.jit(oj.apply)(given, params, state, max_norm=max_norm)
        for i, (got, want) in enumerate(zip(params.unflatten(), mine, strict=True)):
            assert_same(got, want, f"parameter {i}")
        for update, flat, p, want in zip(updates, added.unflatten(), before, mine, strict=True):
            assert_same(flat, np.asarray(update), "flat parameters")
            assert_moved(update, p, want)
    for other in (leaves_state, flat_state):
        for one, two in zip(*map(jax.tree_util.tree_leaves, (state, other)), strict=True):
            assert_same(one, np.asarray(two), "state")


def test_the_norm_of_all_is_a_call_only_where_no_call_has_them_all():
    start = {"w": jnp.ones((3, 2)), "none": jnp.ones((0, 4), jnp.bfloat16)}
    ours, params = oj.adam(), oj.flat(start)
    step = jax.jit(oj.apply)
    text = step.lower(start, params, ours.init(params), max_norm=1.0).as_text()
    assert text.count("@onepass_update") == 2
    assert "@onepass_global_norm" not in text
    start["none"] = jnp.ones(1, jnp.bfloat16)
    params = oj.flat(start)
    text = step.lower(start, params, ours.init(params), max_norm=1.0).as_text()
    assert text.count("@onepass_global_norm") == 1


def test_clipping_by_a_norm_that_is_given():
    start, grad = [np.ones(50, np.float32)], [np.full(50, 0.25, np.float32)]
    ours, params = oj.sgd(lr=1.0), oj.flat(start)
    state, update = ours.init(params), jax.jit(ours.update)
    for norm, max_norm, factor in [
        (4.0, 1.0, 1 / (4 + 1e-6)),
        (0.5, 1.0, 1.0),
        (jnp.float32(2), 1.0, 0.5),
    ]:
        updates, _ = update(grad, state, start, max_norm=max_norm, grad_norm=norm)
        np.testing.assert_allclose(updates[0], -0.25 * factor, rtol=1e-6)
        flat, _ = oj.apply(grad, params, state, max_norm=max_norm, grad_norm=norm)
        np.testing.assert_allclose(flat.unflatten()[0], 1 - 0.25 * factor, rtol=1e-6)
    text = jax.jit(oj.apply).lower(grad, params, state, max_norm=1.0).as_text()
    assert text.count("@onepass_") == 1, "clipping is in the call of the step"
    traced = jax.jit(lambda most: oj.apply(grad, params, state, max_norm=most))
    np.testing.assert_allclose(traced(0.5)[0].unflatten()[0], 1 - 0.5 / 50**0.5, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^apply: 'grad_norm' is given, expected None without"):
        oj.apply(grad, params, state, grad_norm=1.0)
    with pytest.raises(ValueError, match=r"^apply: 'max_norm' is 0, expected a number > 0"):
        oj.apply(grad, params, state, max_norm=0)
    with pytest.raises(ValueError, match=r"^sgd: 'grad_norm' is -1, expected"):
        ours.update(grad, state, start, max_norm=1, grad_norm=-1)
    with pytest.raises(Exception, match="'max_norm' is -1, expected > 0"):
        jax.block_until_ready(traced(-1.0))


@pytest.mark.parametrize("name", ["sgd", "muon"])
@pytest.mark.parametrize("norm", [-4.0, -np.inf])
def test_a_negative_norm_is_refused_where_only_the_call_knows_it(name, norm):
    start, grad = [np.ones((3, 2), np.float32)], [np.full((3, 2), 0.25, np.float32)]
    optimizer = getattr(oj, name)(lr=0.1)
    state = optimizer.init(start)
    step = jax.jit(lambda n: optimizer.update(grad, state, start, max_norm=1.0, grad_norm=n))
    jax.block_until_ready(step(4.0))
    with pytest.raises(Exception, match=rf"{name}: 'grad_norm' is {norm:g}, expected >= 0"):
        jax.block_until_ready(step(norm))


def test_steps_that_ascend():
    start, grad = [np.ones(3, np.float32)], [np.float32([1, -2, 0])]
    up = oj.sgd(lr=0.5, maximize=True)
    assert up.init(start).maximize
    updates, _ = jax.jit(up.update)(grad, up.init(start), start)
    assert updates[0].tolist() == [0.5, -1.0, 0.0]


def test_optimizers_of_whole_parameters_are_one_call():
    """Their sums are over leaves, whose extents the call knows; nothing is compiled twice."""
    start = {"w": np.ones((8, 4), np.float32), "b": np.ones(4, np.float32)}
    for name in ("lamb", "lars", "adafactor"):
        ours, params = getattr(oj, name)(lr=0.1), oj.flat(start)
        state, step = ours.init(params), jax.jit(oj.apply, donate_argnums=(1, 2))
        assert step.lower(start, params, state).as_text().count("@onepass_update") == 1
        params, state = step(start, params, state)
        compiled = step._cache_size()
        for _ in range(2):
            params, state = step(start, params, state)
        assert step._cache_size() == compiled
    state = oj.adafactor().init(start)
    sizes = {key: held.size for key, held in state.buffers["float32"].items()}
    assert sizes == {"row_var": 8, "col_var": 4, "variance": 4}
    other = {"w": np.ones((4, 8), np.float32), "b": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match=r"^adafactor: 'params' have .* expected those"):
        oj.adafactor().update(other, state, other)


def test_one_call_in_place():
    start = {"w": np.ones((64, 64), np.float32), "b": np.zeros(64, np.float32)}
    ours, params = oj.adamw(lr=0.1), oj.flat(start)
    state = ours.init(params)
    step = jax.jit(oj.apply, donate_argnums=(1, 2))
    text = step.lower(start, params, state).as_text()
    assert text.count("@onepass_update") == 1
    compiled = step.lower(start, params, state).compile().as_text()
    assert compiled.count("onepass_update") >= 1
    assert not re.findall(r"f32\[\d+\]\S* copy\(", compiled)
    held = [params.buffers["float32"], *state.buffers["float32"].values()]
    memory = {a.unsafe_buffer_pointer() for a in held}
    for _ in range(3):
        params, state = step(start, params, state)
        held = [params.buffers["float32"], *state.buffers["float32"].values()]
        assert {a.unsafe_buffer_pointer() for a in held} == memory
    update = jax.jit(ours.update).lower(start, state, start).as_text()
    assert update.count("@onepass_update") == 1


def lowered(form, leaves):
    """A step of AdamW over so many leaves of two dtypes, as XLA is given it."""
    start = [np.ones((3, 2), dtype) for _ in range(leaves // 2) for dtype in ("f4", "f2")]
    ours = oj.adamw(lr=0.1)
    if form == "update":
        return jax.jit(ours.update).lower(start, ours.init(start), start).as_text()
    params = oj.flat(start)
    grads, max_norm = params if "flat" in form else start, 1.0 if "max_norm" in form else None
    step = jax.jit(oj.apply)
    return step.lower(grads, params, ours.init(params), max_norm=max_norm).as_text()


@pytest.mark.parametrize("form", ["apply", "apply, flat", "apply, max_norm", "update"])
def test_a_thousand_leaves_are_no_more_operations_than_ten(form):
    """Operations are what XLA takes its time for."""
    counts = []
    for leaves in (10, 1000):
        text = lowered(form, leaves)
        assert text.count("@onepass_update") == 2  # one for each dtype
        counts.append(len(re.findall(r"^ *%\S+ = ", text, re.MULTILINE)))
    few, many = counts
    assert 2 <= few == many < 50


def test_what_is_not_donated_stays():
    start = {"w": np.ones(1000, np.float32)}
    ours, params = oj.sgd(lr=0.1, momentum=0.9), oj.flat(start)
    state = ours.init(params)
    after, moved = jax.jit(oj.apply)(start, params, state)
    assert_same(params.unflatten()["w"], start["w"])
    assert_same(state.buffers["float32"]["momentum_buffer"], np.zeros(1000, np.float32))
    assert float(after.unflatten()["w"][0]) < 1
    assert (int(state.count), int(moved.count)) == (0, 1)


def test_flat_parameters_have_memory_of_their_own():
    for start in (np.ones(1 << 12, np.float32), jnp.ones(1 << 12, jnp.float32)):
        params, ours = oj.flat([start]), oj.sgd(lr=0.5)
        step = jax.jit(oj.apply, donate_argnums=(1, 2))
        params, _ = step([np.ones(1 << 12, np.float32)], params, ours.init(params))
        assert_same(np.asarray(start), np.ones(1 << 12, np.float32))
        assert_same(params.unflatten()[0], np.full(1 << 12, 0.5, np.float32))


# ---- the learning rate


def test_a_learning_rate_is_a_double_without_x64():
    jax.config.update("jax_enable_x64", False)
    start, grad = [np.linspace(-1, 1, 999, dtype=np.float32)], [np.full(999, 0.3, np.float32)]
    rounded, ends = float(np.float32(0.3)), []
    for given, same in [(0.3, 0.3), (rounded, rounded), (jnp.float32(0.3), rounded)]:
        mine = [start[0].copy()]
        theirs = optim.AdamW(mine, lr=same)
        params, ours = oj.flat(start), oj.adamw(lr=given)
        state, lr = ours.init(params), given if isinstance(given, jax.Array) else None
        for _ in range(2):
            theirs.step(grad)
            params, state = jax.jit(oj.apply)(grad, params, state, lr=lr)
        assert_same(params.unflatten()[0], mine[0])
        ends.append(mine[0])
    assert (ends[0] != ends[1]).any()  # 0.3 is not the nearest float32


def test_a_state_may_be_of_numpy():
    """As `jax.device_get` gives it, and most files."""
    start = {"w": np.float32([1, 2, 3])}
    ours, params = oj.adamw(lr=0.1), oj.flat(start)
    state = ours.init(params)
    held, own = jax.device_get(state), jax.device_get(params)
    assert {type(leaf) for leaf in jax.tree_util.tree_leaves((held, own))} == {np.ndarray}
    for got, want in [
        (oj.apply(start, own, held.with_lr(0.3)), oj.apply(start, params, state.with_lr(0.3))),
        (ours.update(start, held.with_lr(0.3), start),
         ours.update(start, state.with_lr(0.3), start)),
    ]:  # fmt: skip
        for one, other in zip(*map(jax.tree_util.tree_leaves, (got, want)), strict=True):
            assert_same(one, np.asarray(other))


def test_another_learning_rate_compiles_nothing():
    start, grad = [np.ones(8, np.float32)], [np.full(8, 0.5, np.float32)]
    ours, step = oj.adam(lr=0.1), jax.jit(oj.apply)
    mine = [start[0].copy()]
    theirs = optim.Adam(mine, lr=0.1)
    params, compiled = oj.flat(start), 0
    state = ours.init(params)
    for lr in (0.1, 0.03, 0.7):
        theirs.param_groups[0]["lr"] = lr
        theirs.step(grad)
        params, state = step(grad, params, state.with_lr(lr))
        assert_same(params.unflatten()[0], mine[0])
        assert step._cache_size() == (compiled := compiled or step._cache_size())
    given = jax.jit(lambda lr, *a: oj.apply(*a, lr=lr))
    for lr in (0.5, 0.25):  # as float32 what they are as doubles
        theirs.param_groups[0]["lr"] = lr
        theirs.step(grad)
        params, state = given(lr, grad, params, state)
        assert_same(params.unflatten()[0], mine[0])
    assert given._cache_size() == 1


def test_schedules():
    start, grad = [np.ones(8, np.float32)], [np.full(8, 0.5, np.float32)]
    mine = [start[0].copy()]
    theirs = optim.SGD(mine, lr=1.0)
    ours = oj.sgd(lr=lambda count: 1.0 / (1 << (count + 1)))
    tree, state, update = start, ours.init(start), jax.jit(ours.update)
    for count in range(3):
        theirs.param_groups[0]["lr"] = 0.5 ** (count + 1)
        theirs.step(grad)
        updates, state = update(grad, state, tree)
        tree = jax.tree_util.tree_map(jnp.add, tree, updates)
    assert_same(tree[0], mine[0])
    with pytest.raises(Exception, match=r"sgd: 'lr' is nan, expected .* needs lr=schedule\(state"):
        jax.block_until_ready(oj.apply(grad, oj.flat(start), ours.init(start)))
    held = oj.sgd(lr=jnp.float32(0.5)).update(grad, ours.init(start), start)[0]
    assert_same(held[0], np.full(8, -0.25, np.float32))
    updates, _ = ours.update(grad, state, tree, lr=0.5)
    assert_same(updates[0], np.full(8, -0.25, np.float32))
    for given in (lambda count: 0.5, jnp.float32(0.5)):  # comes before that of a state
        ours = oj.sgd(lr=given)
        state = ours.init(start).with_lr(0.125)
        assert_same(ours.update(grad, state, start)[0][0], np.full(8, -0.25, np.float32))
        params, _ = oj.apply(grad, oj.flat(start), state)
        assert_same(params.unflatten()[0], np.full(8, 1 - 0.0625, np.float32))


# ---- structure and errors


@pytest.mark.parametrize("tree", [{}, {"none": None}, {"empty": np.zeros((0, 3), np.float32)}])
def test_steps_of_no_elements_are_counted(tree):
    """As optax does: a schedule goes on."""
    ours = oj.adamw(lr=lambda count: 1.0 / (1 + count))
    flat, state = oj.flat(tree), ours.init(tree)
    updates, state = jax.jit(ours.update)(tree, state, tree)
    assert jax.tree_util.tree_structure(updates) == jax.tree_util.tree_structure(tree)
    flat, state = jax.jit(oj.apply)(tree, flat, state, lr=0.5)
    assert (int(state.count), state.count.dtype) == (2, np.int32)
    most = dataclasses.replace(state, count=jnp.int32(2**31 - 1))
    assert int(oj.apply(tree, flat, most, lr=0.5)[1].count) == 2**31 - 1


def test_flat_parameters_are_a_pytree():
    tree = {"a": np.float32([1, 2]), "b": [np.float64(3), np.float32([[4]])], "none": None}
    params = oj.flat(tree)
    assert {d: b.tolist() for d, b in params.buffers.items()} == {
        "float32": [1, 2, 4], "float64": [3]
    }  # fmt: skip
    back = jax.jit(lambda p: p.unflatten())(params)
    for got, want in zip(*map(jax.tree_util.tree_leaves, (back, tree)), strict=True):
        assert_same(got, want)
    assert jax.tree_util.tree_structure(back) == jax.tree_util.tree_structure(tree)
    grads = jax.grad(lambda p: (p.unflatten()["a"] ** 2).sum())(params)
    assert isinstance(grads, oj.FlatParams)
    assert grads.buffers["float32"].tolist() == [2, 4, 0]
    for thing in (params, oj.adamw().init(params)):
        again = pickle.loads(pickle.dumps(thing))
        assert jax.tree_util.tree_structure(again) == jax.tree_util.tree_structure(thing)


def test_flat_parameters_of_several_models():
    """The elements of the first of them were taken for those of all."""
    start = [np.arange(12, dtype=np.float32).reshape(3, 2, 2), np.ones((3, 5), np.float32)]
    several = jax.vmap(oj.flat)(start)
    assert several.buffers["float32"].shape == (3, 9)
    for function in (oj.FlatParams.unflatten, oj.global_norm):
        with pytest.raises(ValueError, match=r"^unflatten: the buffers have .*under jax\.vmap$"):
            function(several)
    for got, want in zip(jax.vmap(oj.FlatParams.unflatten)(several), start, strict=True):
        assert_same(got, want)
    ours = oj.sgd(lr=1.0)
    state = jax.vmap(ours.init)(several)
    stepped, _ = jax.vmap(oj.apply)(several, several, state)
    assert not np.asarray(stepped.buffers["float32"]).any()


def test_flat_parameters_are_taken_apart_in_one_call():
    """A slice for each would be a loop to compile for each, and a gradient as long as all."""
    params = oj.flat([np.full(i, i, np.float32) for i in range(20)])

    def loss(p):
        return sum((leaf**2).sum() for leaf in p.unflatten())

    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    assert text.count("@onepass_unflatten") == 1
    assert "stablehlo.slice" not in text
    assert "stablehlo.pad" not in text
    assert_same(jax.grad(loss)(params).buffers["float32"], 2 * params.buffers["float32"])
    mapped = jax.vmap(lambda p: p.unflatten())(jax.tree_util.tree_map(lambda b: b[None], params))
    for got, want in zip(mapped, params.unflatten(), strict=True):
        assert_same(got[0], np.asarray(want))


def test_a_gradient_of_buffers_that_were_cast():
    """A model that computes in bfloat16 beside parameters of float32 and float64."""
    start = {"w": np.float32([[1, 2], [3, 5]]), "b": np.float64([0.5, 4])}
    params, ours = oj.flat(start), oj.adamw(lr=0.1)
    half = jax.tree_util.tree_map(lambda buffer: buffer.astype(jnp.bfloat16), params)

    def loss(p):
        tree = p.unflatten()
        assert {leaf.dtype for leaf in tree.values()} == {jnp.dtype(jnp.bfloat16)}
        return (tree["w"] ** 2).sum() + (3 * tree["b"]).sum()

    grads = jax.jit(jax.grad(loss))(half)
    assert grads.buffers["float32"].tolist() == [2, 4, 6, 10]
    assert grads.buffers["float64"].tolist() == [3, 3]
    assert {b.dtype for b in grads.buffers.values()} == {jnp.dtype(jnp.bfloat16)}
    tree = {"w": 2 * half.unflatten()["w"], "b": jnp.full(2, 3, jnp.bfloat16)}
    for max_norm in (None, 0.5):
        got, want = (oj.apply(g, params, ours.init(params), max_norm=max_norm)[0].unflatten()
                     for g in (grads, tree))  # fmt: skip
        for name in start:
            assert_same(got[name], np.asarray(want[name]))


def test_a_mapped_step():
    start = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    ours = oj.adam(lr=0.1)
    states = jax.vmap(ours.init)(start)
    updates, _ = jax.vmap(ours.update)(start, states, start)
    for i in range(3):
        assert_same(updates[i], np.asarray(ours.update(start[i], ours.init(start[i]), start[i])[0]))


def test_refusals():
    start = {"w": np.ones((2, 3), np.float32)}
    ours = oj.adamw()
    state, params = ours.init(start), oj.flat(start)
    with pytest.raises(ValueError, match=r"^adamw: update\(grads, state\) lacks 'params'"):
        ours.update(start, state)
    with pytest.raises(
        ValueError, match=r"^adamw: 'grads' is the tree .*expected that of 'params'"
    ):
        ours.update([start["w"]], state, start)
    with pytest.raises(ValueError, match=r"^adamw: leaf 0 of 'grads' has shape \(3, 2\), expected"):
        ours.update({"w": start["w"].T}, state, start)
    with pytest.raises(ValueError, match=r"^adamw: 'params' have .*, expected those that the"):
        ours.update([start["w"][0]], state, [start["w"][0]])
    with pytest.raises(ValueError, match=r"^apply: leaf 0 of 'grads' has shape \(3, 2\)"):
        oj.apply({"w": start["w"].T}, params, state)
    with pytest.raises(ValueError, match=r"^apply: 'grads' is the tree"):
        oj.apply([start["w"]], params, state)
    with pytest.raises(ValueError, match=r"^apply: leaf 0 of 'grads' has shape \(3, 2\)"):
        oj.apply(oj.flat({"w": start["w"].T}), params, state)
    cut = dataclasses.replace(params, buffers={"float32": params.buffers["float32"][:4]})
    with pytest.raises(ValueError, match=r"^apply: 'params' have buffers of .*, expected those"):
        oj.apply(start, cut, state)
    with pytest.raises(ValueError, match=r"^apply: 'grads' have other buffers than their leaves"):
        oj.apply(cut, params, state)
    with pytest.raises(ValueError, match=r"^unflatten: the buffers have shapes .*\(4,\).*\(6,\)"):
        cut.unflatten()
    with pytest.raises(Exception, match=r"unflatten: the buffer has 4 elements, expected those"):
        jax.block_until_ready(_flat._taken_apart(cut.leaves, cut.buffers))
    with pytest.raises(TypeError, match=r"^apply: leaf 0 of 'grads' has dtype int32, expected"):
        oj.apply({"w": np.ones((2, 3), np.int32)}, params, state)
    with pytest.raises(TypeError, match=r"^apply: 'params' is a dict, expected FlatParams"):
        oj.apply(start, start, state)
    with pytest.raises(TypeError, match=r"^adamw: leaf 0 of 'params' has dtype int32, expected"):
        ours.init({"w": np.ones(3, np.int32)})
    with pytest.raises(TypeError, match=r"^flat: leaf 0 of 'params' has dtype int32, expected"):
        oj.flat({"w": np.ones(3, np.int32)})
    with pytest.raises(TypeError, match=r"^flat: leaf 1 of 'params' is a str, expected an array$"):
        oj.flat({"w": np.ones(3, np.float32), "x": "b"})
    with pytest.raises(TypeError, match=r"^adamw: leaf 0 of 'params' is a object, expected an arr"):
        ours.init({"w": object()})
    with pytest.raises(TypeError, match=r"^adamw: .*'beta'; the options are lr, betas, eps"):
        oj.adamw(beta=3)
    with pytest.raises(ValueError, match=r"'lr' is -1, expected .*>= 0"):
        oj.adamw(lr=-1)
    with pytest.raises(ValueError, match=r"^adamw: 'lr' is -1, expected"):
        state.with_lr(-1)
    with pytest.raises(Exception, match=r"adamw: 'lr' is -1, expected a finite number >= 0"):
        jax.block_until_ready(oj.apply(start, params, state, lr=jnp.float32(-1)))
    with pytest.raises(TypeError, match=r"^rprop: 'lr' is a schedule, expected a number"):
        oj.rprop(lr=lambda count: 0.1)
    with pytest.raises(ValueError, match=r"^apply: 'lr' is given, and the update of rprop has no"):
        oj.apply(start, params, oj.rprop().init(params), lr=0.1)
