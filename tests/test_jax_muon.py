"""Muon of onepass.jax: one call, the bits of onepass.optim.Muon on NumPy, the published formula."""

import threading
import warnings

import numpy as np
import pytest
from cases._case import normal
from helpers import assert_same
from onepass import optim
from onepass.ops._muon import _ADJUSTMENTS
from test_muon import SWEEP, Reference

jax = pytest.importorskip("jax")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jax.numpy as jnp
    import onepass.jax as oj
    from onepass.jax import _muon
    from small_jax import x64  # noqa: F401  (a fixture)

SHAPES = [(3, 4), (9001,), (), (7, 0), (33, 300), (5,), (4, 2, 3, 3), (40, 7), (0, 3), (40, 7)]
DTYPES = ["float32", "float64", "float16", "bfloat16", "float32"] * 2


def drawn(rng, shapes=SHAPES, dtypes=DTYPES):
    pytest.importorskip("ml_dtypes")
    return [normal(rng, shape, np.dtype(d)) for shape, d in zip(shapes, dtypes, strict=True)]


def states_of(theirs, params, dtype):
    """The states of optim.Muon for parameters of a dtype, as onepass.jax has them."""
    averages, squares = [], []
    for p in params:
        if str(p.dtype) != dtype:
            continue
        own = theirs.state[p]
        averages.append(own["momentum_buffer" if p.ndim >= 2 else "exp_avg"])
        squares += [] if p.ndim >= 2 else [own["exp_avg_sq"]]
    kind = np.float64 if dtype == "float64" else np.float32
    return {
        key: np.concatenate([np.zeros(0, kind), *(np.ravel(s) for s in states)])
        for key, states in (("exp_avg", averages), ("exp_avg_sq", squares))
    }


@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize("options", SWEEP, ids=str)
def test_the_steps_are_those_of_optim(options, max_norm):
    """Flat parameters bit for bit; updates up to the two roundings of a difference and a sum."""
    rng = np.random.default_rng(0)
    start = drawn(rng)
    mine = [p.copy() for p in start]
    theirs, ours = optim.Muon(mine, **options), oj.muon(**options)
    params, tree = oj.flat(start), {str(i): jnp.asarray(p) for i, p in enumerate(start)}
    state, leaves_state = ours.init(params), ours.init(tree)
    step, update = jax.jit(oj.apply, donate_argnums=(1, 2)), jax.jit(ours.update)
    for count in range(1, 5):
        before = [p.astype(np.float64) for p in mine]
        tree = {str(i): jnp.array(p) for i, p in enumerate(mine)}
        grads = drawn(rng)
        theirs.step(grads, max_norm=max_norm)
        params, state = step(grads, params, state, max_norm=max_norm)
        given = {str(i): g for i, g in enumerate(grads)}
        updates, leaves_state = update(given, leaves_state, tree, max_norm=max_norm)
        for i, (want, got) in enumerate(zip(mine, params.unflatten(), strict=True)):
            assert_same(got, want, f"step {count}, parameter {i}")
            change, moved = np.asarray(updates[str(i)]), want.astype(np.float64) - before[i]
            assert change.dtype == want.dtype
            ulp = np.maximum(np.spacing(np.abs(want)), np.spacing(np.abs(change)))
            assert (np.abs(change.astype(np.float64) - moved) <= ulp.astype(np.float64)).all()
        assert int(state.count) == count
    for one, other in zip(*map(jax.tree_util.tree_leaves, (state, leaves_state)), strict=True):
        assert_same(one, np.asarray(other), "state")
    for dtype, held in state.buffers.items():
        for key, want in states_of(theirs, mine, dtype).items():
            assert_same(np.asarray(held[key]), want, f"{key} of {dtype}")


@pytest.mark.parametrize("shapes", [[(8, 5), (5, 8)], [(17,), ()]], ids=["matrices", "vectors"])
def test_parameters_of_one_kind(shapes):
    rng = np.random.default_rng(0)
    start, grads = (drawn(rng, shapes, ["float32"] * 2) for _ in range(2))
    mine = [p.copy() for p in start]
    optim.Muon(mine, lr=0.1).step(grads)
    ours, params = oj.muon(lr=0.1), oj.flat(start)
    for gradient in (grads, oj.flat(grads)):
        after, _ = jax.jit(oj.apply)(gradient, params, ours.init(params))
        for got, want in zip(after.unflatten(), mine, strict=True):
            assert_same(got, want)


@pytest.mark.parametrize("options", SWEEP, ids=str)
def test_the_formula(options):
    """The bound is that of tests/test_muon.py for float64, of a step's length."""
    rng = np.random.default_rng(1)
    shapes = [(8, 5), (5, 8), (1, 7), (4, 2, 3, 3), (33, 17)]
    start = [rng.standard_normal(shape) for shape in shapes]
    want = [Reference(p, **options) for p in start]
    ours, params = oj.muon(**options), oj.flat(start)
    state, step = ours.init(params), jax.jit(oj.apply, donate_argnums=(1, 2))
    for _ in range(10):
        grads = [rng.standard_normal(shape) for shape in shapes]
        before = [w.p.copy() for w in want]
        for reference, g in zip(want, grads, strict=True):
            reference.step(g)
        params, state = step(grads, params, state)
        for got, reference, old in zip(params.unflatten(), want, before, strict=True):
            length = np.linalg.norm(reference.p - old)
            assert np.abs(np.asarray(got) - reference.p).max() <= 1e-9 * max(length, 1e-3)


def test_one_call_in_place():
    start = {"w": np.ones((64, 64), np.float32), "b": np.zeros(64, np.float32)}
    ours, params = oj.muon(lr=0.1), oj.flat(start)
    state = ours.init(params)
    sizes = {key: held.size for key, held in state.buffers["float32"].items()}
    assert sizes == {"exp_avg": 64 * 65, "exp_avg_sq": 64}
    step = jax.jit(oj.apply, donate_argnums=(1, 2))
    text = step.lower(start, params, state, max_norm=1.0).as_text()
    assert text.count("@onepass_") == text.count("@onepass_muon") == 1
    compiled = step.lower(start, params, state).compile().as_text()
    assert "dot(" not in compiled
    held = [params.buffers["float32"], *state.buffers["float32"].values()]
    memory = {a.unsafe_buffer_pointer() for a in held}
    for _ in range(3):
        params, state = step(start, params, state)
        held = [params.buffers["float32"], *state.buffers["float32"].values()]
        assert {a.unsafe_buffer_pointer() for a in held} == memory
    update = jax.jit(ours.update).lower(start, state, start).as_text()
    assert update.count("@onepass_muon") == 1


def test_options_are_data():
    """Every option comes back as it went: another value of any compiles nothing."""
    start = [np.float32([[3, 1], [0, 2]]), np.ones(2, np.float32)]
    step, params, compiled = jax.jit(oj.apply), oj.flat(start), 0
    for options in [*SWEEP, *({"adjust_lr_fn": name} for name in _ADJUSTMENTS)]:
        oj_options = {k: v for k, v in options.items() if k != "maximize"}
        state = oj.muon(**oj_options).init(params)
        mine = [p.copy() for p in start]
        optim.Muon(mine, **oj_options).step(start)
        after, _ = step(start, params, state)
        for got, want in zip(after.unflatten(), mine, strict=True):
            assert_same(got, want, str(options))
        assert step._cache_size() == (compiled := compiled or step._cache_size())
    assert [*_ADJUSTMENTS] == [*_muon._ADJUSTMENTS]


def test_learning_rates():
    start, grads = [np.float32([[3, 1], [0, 2]])], [np.float32([[1, 2], [-1, 0]])]
    mine = [start[0].copy()]
    theirs, ours = optim.Muon(mine, lr=1.0), oj.muon(lr=lambda count: 1.0 / (1 << (count + 1)))
    tree, state, update = start, ours.init(start), jax.jit(ours.update)
    for count in range(3):
        theirs.param_groups[0]["lr"] = 0.5 ** (count + 1)
        theirs.step(grads)
        updates, state = update(grads, state, tree)
        tree = jax.tree_util.tree_map(jnp.add, tree, updates)
    np.testing.assert_allclose(tree[0], mine[0], rtol=1e-6)
    with pytest.raises(Exception, match=r"muon: 'lr' is nan, expected .* needs lr=schedule\(state"):
        jax.block_until_ready(oj.apply(grads, oj.flat(start), ours.init(start)))
    mine = [start[0].copy()]
    optim.Muon(mine, lr=0.3).step(grads)
    params = oj.flat(start)
    after, _ = jax.jit(oj.apply)(grads, params, oj.muon().init(params).with_lr(0.3))
    assert_same(after.unflatten()[0], mine[0])


def test_a_norm_that_is_given():
    """That of this call's gradients gives the clipped step, a greater one a smaller gradient."""
    start = [np.float32([[3, 1], [0, 2]]), np.ones(2, np.float32)]
    ours, params = oj.muon(lr=0.1), oj.flat(start)
    state, step = ours.init(params), jax.jit(oj.apply)
    _, own = step(start, params, state, max_norm=0.5)
    _, given = step(start, params, state, max_norm=0.5, grad_norm=oj.global_norm(start))
    _, halved = step(start, params, state, max_norm=0.5, grad_norm=2 * oj.global_norm(start))
    first, second, third = (s.buffers["float32"]["exp_avg"] for s in (own, given, halved))
    np.testing.assert_allclose(second, first, rtol=1e-6)
    np.testing.assert_allclose(2 * third, first, rtol=1e-5)
    with pytest.raises(Exception, match="muon: 'max_norm' is -1, expected > 0"):
        jax.block_until_ready(jax.jit(lambda n: ours.update(start, state, start, max_norm=n))(-1.0))


def test_mapped_and_in_threads():
    """XLA's own threads run the call at once with others, and take turns at Python."""
    rng = np.random.default_rng(2)
    start = rng.standard_normal((3, 6, 4)).astype(np.float32)
    ours = oj.muon(lr=0.1)
    states = jax.vmap(ours.init)(start)
    updates, _ = jax.vmap(ours.update)(start, states, start)
    want = [np.asarray(ours.update(p, ours.init(p), p)[0]) for p in start]
    for got, single in zip(updates, want, strict=True):
        assert_same(got, single)
    several = jax.jit(lambda a: [ours.update(p, ours.init(p), p)[0] for p in a])
    failed = []

    def repeat():
        for _ in range(20):
            for got, single in zip(several(list(start)), want, strict=True):
                if not np.array_equal(got, single):
                    failed.append(got)

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_beside_adamw_by_multi_transform():
    """As Muon's authors have it: matrices inside by Muon, the first and last layers by AdamW."""
    optax = pytest.importorskip("optax")
    start = {"embed": jnp.ones((4, 3)), "w": jnp.linspace(-1, 1, 9).reshape(3, 3)}
    labels = {"embed": "adamw", "w": "muon"}
    parted = optax.multi_transform({"muon": oj.muon(lr=0.1), "adamw": oj.adamw(lr=0.01)}, labels)
    state = parted.init(start)
    updates, _ = jax.jit(parted.update)(start, state, start)
    mine = [np.array(start["w"])]
    optim.Muon(mine, lr=0.1).step([mine[0].copy()])
    np.testing.assert_allclose(start["w"] + updates["w"], mine[0], rtol=1e-12, atol=1e-15)
    other = [np.array(start["embed"])]
    optim.AdamW(other, lr=0.01).step([other[0].copy()])
    np.testing.assert_allclose(start["embed"] + updates["embed"], other[0], rtol=1e-12)


def test_refusals():
    with pytest.raises(TypeError, match=r"^muon: .*'use_muon'.*; the options are lr, weight_decay"):
        oj.muon(use_muon=False)
    with pytest.raises(ValueError, match="'momentum' is 1, expected"):
        oj.muon(momentum=1).init([np.ones((2, 2), np.float32)])
    with pytest.raises(ValueError, match="'adjust_lr_fn' is 'other', expected"):
        oj.muon(adjust_lr_fn="other")
    ours, start = oj.muon(), {"w": np.ones((8, 4), np.float32)}
    other = {"w": np.ones(32, np.float32)}
    with pytest.raises(ValueError, match=r"^muon: 'params' have .* expected those that the state"):
        ours.update(other, ours.init(start), other)
