"""The optimizers of onepass.jax among those of optax, and options that are arrays."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from cases.optimizers import OPTIMIZERS
from helpers import assert_same
from onepass import optim

jax = pytest.importorskip("jax")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jax.numpy as jnp
    import onepass.jax as oj
    from onepass.jax._optimizers import GradientTransformation
    from small_jax import x64  # noqa: F401  (a fixture)


def test_among_transformations_of_optax():
    optax = pytest.importorskip("optax")
    start = {"w": jnp.linspace(-1, 1, 50), "b": jnp.ones(3)}
    grads = jax.tree_util.tree_map(lambda p: 3 * p + 1, start)
    ours = optax.chain(optax.clip_by_global_norm(1.0), oj.adamw(lr=1e-2, weight_decay=1e-4))
    assert isinstance(oj.adamw(), optax.GradientTransformationExtraArgs)
    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    ends = []
    for chain in (ours, theirs):
        params, state = start, chain.init(start)

        @jax.jit
        def step(params, state, chain=chain):
            updates, state = chain.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        for _ in range(5):
            params, state = step(params, state)
        ends.append(params)
    for name in start:
        np.testing.assert_allclose(ends[0][name], ends[1][name], rtol=1e-5)
    labels = {"w": "ours", "b": "none"}
    parted = optax.multi_transform({"ours": oj.sgd(lr=1.0), "none": optax.set_to_zero()}, labels)
    updates, _ = parted.update(grads, parted.init(start), start)
    np.testing.assert_allclose(updates["w"], -grads["w"], rtol=1e-14)
    np.testing.assert_array_equal(updates["b"], 0)


@pytest.mark.parametrize("how", ["sys.modules['optax'] = None", "sys.path.insert(0, {!r})"])
def test_without_optax(how, tmp_path):
    """It is not there; or it is, of a release that cannot be imported beside this JAX."""
    (tmp_path / "optax.py").write_text("import jax\njax.of_the_next_release\n")
    how = how.format(str(tmp_path))
    script = (
        f"import sys; {how}\n"
        "import numpy as np, onepass.jax as oj\n"
        "p = [np.ones(3, np.float32)]\n"
        "ours = oj.sgd(lr=1.0)\n"
        "updates, state = ours.update(p, ours.init(p), p)\n"
        "print(type(ours).__name__, updates[0].tolist())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout == "GradientTransformation [-1.0, -1.0, -1.0]\n", ran.stderr
    assert GradientTransformation._fields == ("init", "update")


# ---- options as arrays

SHAPES = [(4, 3), (5,)]


def drawn(rng, dtype=np.float32):
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


@pytest.mark.parametrize(
    ("cls", "scheduled", "options"),
    [
        (optim.SGD, "momentum", {"lr": 0.125, "weight_decay": 0.25, "dampening": 0.5}),
        (optim.SGD, "weight_decay", {"lr": 0.125, "momentum": 0.5, "nesterov": True}),
        (optim.AdamW, "weight_decay", {"lr": 0.125}),
        (optim.Adam, "eps", {"lr": 0.125, "amsgrad": True}),
        (optim.RMSprop, "momentum", {"lr": 0.125, "eps": 0.25, "alpha": 0.5}),
        (optim.LAMB, "weight_decay", {"lr": 0.125}),
        (optim.Muon, "weight_decay", {"lr": 0.125}),
        (optim.Muon, "momentum", {"lr": 0.125, "nesterov": False}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_injected_options_take_effect_under_jit(cls, scheduled, options):
    """All numbers are traced, one changes with the steps: powers of two, so that no bit is lost."""
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    start = drawn(rng, np.float64)
    mine = [p.copy() for p in start]
    values = [0.5, 0.25, 0.125, 0.75]
    theirs = cls(mine, **{**options, scheduled: values[0]})
    name = cls.__name__.lower()
    schedule = optax.join_schedules([lambda _, v=v: v for v in values], [1, 2, 3])
    ours = optax.inject_hyperparams(getattr(oj, name))(**{**options, scheduled: schedule})
    tree, state, update = start, ours.init(start), jax.jit(ours.update)
    lr, compiled = 0.125, []
    for value in values:
        grads = drawn(rng, np.float64)
        theirs.param_groups[0].update({scheduled: value, "lr": lr})
        theirs.step(grads)
        updates, state = update(grads, state, tree)
        tree = jax.tree_util.tree_map(jnp.add, tree, updates)
        for got, want in zip(tree, mine, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
        compiled.append(update._cache_size())
        lr /= 2
        state.hyperparams["lr"] = jnp.asarray(lr)  # by hand, as optax's documentation has it
    assert compiled[-1] == compiled[1]  # the first call has arrays of NumPy
    assert (np.abs(np.asarray(tree[0]) - start[0]) > 1e-3).all()


FACTORIES = sorted(record.cls.__name__.lower() for record in OPTIMIZERS)


@pytest.mark.parametrize("name", [name for name in FACTORIES if hasattr(oj, name)])
def test_every_optimizer_may_be_injected(name):
    """With all its numbers as they are, 0 among them, which ask for states as any others do."""
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    tree = theirs_tree = drawn(rng, np.float64)
    plain = getattr(oj, name)(lr=0.125)
    static = ("momentum",) if name == "schedulefreesgd" else ()
    ours = optax.inject_hyperparams(getattr(oj, name), static_args=static)(lr=0.125)
    state, theirs, update = ours.init(tree), plain.init(tree), jax.jit(ours.update)
    for _ in range(3):
        grads = drawn(rng, np.float64)
        updates, state = update(grads, state, tree)
        wanted, theirs = plain.update(grads, theirs, theirs_tree)
        tree = jax.tree_util.tree_map(jnp.add, tree, updates)
        theirs_tree = jax.tree_util.tree_map(jnp.add, theirs_tree, wanted)
        for got, want in zip(tree, theirs_tree, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_options_that_are_traced_without_optax():
    """float32 numbers, as JAX has them without x64; a new one compiles nothing."""
    jax.config.update("jax_enable_x64", False)
    rng = np.random.default_rng(0)
    start, grads = drawn(rng), drawn(rng)

    @jax.jit
    def step(params, state, lr, momentum, decay):
        ours = oj.sgd(lr=lr, momentum=momentum, weight_decay=decay)
        return ours.update(grads, state, params)

    mine = [p.copy() for p in start]
    theirs = optim.SGD(mine, lr=0.1, momentum=0.5)
    state, tree = oj.sgd(momentum=0.5).init(start), start
    for numbers in [(0.1, 0.5, 0), (0.3, 0.7, 0.2), (1, 0, 0.3)]:
        given = [float(np.float32(n)) for n in numbers]
        theirs.param_groups[0].update(zip(("lr", "momentum", "weight_decay"), given, strict=True))
        tree = [jnp.array(p) for p in mine]
        theirs.step(grads)
        updates, state = step(tree, state, *map(jnp.float32, numbers))
        for p, change, want in zip(tree, updates, mine, strict=True):
            np.testing.assert_allclose(p + change, want, rtol=3e-7, atol=1e-7)
    assert step._cache_size() == 1
    for key, held in state.buffers["float32"].items():
        want = np.concatenate([np.ravel(theirs.state[p][key]) for p in mine])
        assert_same(np.asarray(held), want)


@pytest.mark.parametrize("dampening", ["traced", "constant"])
def test_dampening_counts_beside_momentum_alone(dampening):
    """As with PyTorch and optim; whether there is momentum is known when the call runs."""
    start, grads = [np.ones(3, np.float32)], [np.float32([1, 2, 4])]

    @jax.jit
    def step(tree, state, momentum, traced):
        given = traced if dampening == "traced" else 0.5
        ours = oj.sgd(lr=0.25, momentum=momentum, dampening=given)
        updates, state = ours.update(grads, state, tree)
        return [p + change for p, change in zip(tree, updates, strict=True)], state

    for momentum in (0.0, 0.5):
        mine = [p.copy() for p in start]
        theirs = optim.SGD(mine, lr=0.25, momentum=momentum, dampening=0.5)
        tree, state = start, oj.sgd(lr=0.25, momentum=0.5).init(start)
        for _ in range(3):
            theirs.step(grads)
            tree, state = step(tree, state, momentum, 0.5)
            assert_same(tree[0], mine[0])


def test_states_that_start_at_an_option_that_is_traced():
    start = [np.ones(3, np.float32)]
    init = jax.jit(lambda value: oj.adagrad(initial_accumulator_value=value).init(start))
    (held,) = init(0.5).buffers["float32"].values()
    assert held.tolist() == [0.5] * 3


def test_an_update_has_the_options_of_its_own_optimizer():
    """As those of optax have; only the learning rate is the state's, where `with_lr` changes it."""
    start, grads = [np.ones(3, np.float32)], [np.float32([1, 2, 4])]
    state = oj.sgd(lr=0.5, weight_decay=0.5).init(start)
    updates, after = oj.sgd(lr=0.5).update(grads, state, start)
    assert_same(updates[0], np.float32([-0.5, -1, -2]))
    updates, after = oj.sgd(lr=0.5).update(grads, after.with_lr(0.25), start)
    assert_same(updates[0], np.float32([-0.25, -0.5, -1]))
    flat, _ = oj.apply(grads, oj.flat(start), after)
    assert_same(flat.unflatten()[0], np.float32([0.75, 0.5, 0]))  # without the decay
    scheduled = oj.sgd(lr=lambda count: 0.25).init(start)
    updates, _ = oj.sgd(lr=0.5).update(grads, scheduled, start)
    assert_same(updates[0], np.float32([-0.5, -1, -2]))


def test_a_state_of_another_optimizer_is_refused():
    start = [np.ones((2, 2), np.float32)]
    for ours, other, match in [
        (oj.adam(), oj.sgd(), r"^adam: 'state' is of sgd, expected of adam with exp_avg, exp_avg_"),
        (oj.sgd(maximize=True), oj.sgd(), r"^sgd: 'state' is of sgd, expected of sgd, to maximize"),
        (oj.sgd(momentum=0.9), oj.sgd(), r"^sgd: 'state' is of sgd, expected of sgd with momentum"),
        (oj.adam(), oj.adam(amsgrad=True), r"^adam: 'state' is of adam with .*max_exp_avg_sq"),
        (oj.muon(), oj.adamw(), r"^muon: 'state' is of adamw with .*, expected of muon"),
    ]:
        with pytest.raises(ValueError, match=match):
            jax.jit(ours.update)(start, other.init(start), start)
    with pytest.raises(TypeError, match=r"^adam: 'state' is a tuple, expected OptimizerState"):
        oj.adam().update(start, (), start)


def test_options_as_arrays_that_are_refused():
    one, start = jnp.float32(0.5), [np.ones(3, np.float32)]
    with pytest.raises(TypeError, match=r"^sgd: 'nesterov' is an array, expected what Python has"):
        oj.sgd(nesterov=jnp.int32(1), momentum=0.5)
    with pytest.raises(TypeError, match=r"^sgd: 'maximize' is an array, expected what Python has"):
        oj.sgd(maximize=jnp.bool_(True))
    with pytest.raises(TypeError, match=r"^schedulefreesgd: 'momentum' is an array, .*static_args"):
        oj.schedulefreesgd(momentum=one)
    with pytest.raises(TypeError, match=r"^adam: 'betas' has shape \(2,\) and dtype float32, exp"):
        oj.adam(betas=jnp.float32([0.9, 0.99]))
    with pytest.raises(ValueError, match=r"^SGD: 'momentum' is -1\.0, expected a number >= 0"):
        oj.sgd(momentum=jnp.float32(-1))
    state, params = oj.adamw(weight_decay=one).init(start), oj.flat(start)
    with pytest.raises(Exception, match=r"adamw: an option is nan, expected a number; one that an"):
        jax.block_until_ready(oj.apply(start, params, state))
    with pytest.raises(Exception, match=r"adamw: 'lr' is nan, expected a finite number >= 0"):
        jax.block_until_ready(oj.apply(start, params, oj.adamw(lr=one).init(start)))
