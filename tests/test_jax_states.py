"""States of onepass.jax: those of other releases, and the average of schedule-free optimizers."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest
from cases._case import normal
from helpers import assert_same
from onepass import optim

jax = pytest.importorskip("jax")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jax.numpy as jnp
    import onepass.jax as oj
    from onepass.jax import _step, _targets
    from small_jax import x64  # noqa: F401  (a fixture)

SHAPES = [(3, 4), (901,), (), (7, 0), (33, 30), (5,)]


# ---- schedule-free optimizers


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtypes", [["float32"] * 6, ["float32", "float64"] * 3, ["bfloat16"] * 6])
@pytest.mark.parametrize(
    ("cls", "options"),
    [(optim.ScheduleFreeSGD, {"momentum": 0.7}), (optim.ScheduleFreeAdamW, {"betas": (0.95, 0.9)})],
)
def test_the_average_is_that_of_optim(cls, options, dtypes, x64):
    """float32 and float64 bit for bit; of 16 bits optim rounds z to them, and this does not."""
    pytest.importorskip("ml_dtypes")
    if "float64" in dtypes and not x64:
        dtypes = ["float32"] * 6
    jax.config.update("jax_enable_x64", x64)
    rng = np.random.default_rng(3)
    start = [normal(rng, s, np.dtype(d)) for s, d in zip(SHAPES, dtypes, strict=True)]
    mine = [p.copy() for p in start]
    theirs = cls(mine, lr=0.25, warmup_steps=2, **options)
    ours = getattr(oj, cls.__name__.lower())(lr=0.25, warmup_steps=2, **options)
    params, state = oj.flat(start), ours.init(start)
    average = jax.jit(oj.schedule_free_eval_params)
    for got, want in zip(average(state, start), start, strict=True):
        assert_same(got, want, "before the first step")
    for _ in range(5):
        grads = [normal(rng, s, np.dtype(d)) for s, d in zip(SHAPES, dtypes, strict=True)]
        theirs.step(grads)
        params, state = oj.apply(grads, params, state)
    stepped = [np.asarray(p) for p in params.unflatten()]
    for got, want in zip(stepped, mine, strict=True):
        assert_same(got, want)
    zs = [theirs.state[p]["z"] for p in mine]
    theirs.eval()
    flat, tree = average(state, params), average(state, stepped)
    assert isinstance(flat, oj.FlatParams)
    for got, other, want, y, z in zip(flat.unflatten(), tree, mine, stepped, zs, strict=True):
        assert_same(got, np.asarray(other), "a tree")
        if dtypes[0] == "bfloat16":
            way = 1 - 1 / (options.get("momentum") or options["betas"][0])
            exact = y.astype(np.float64)
            exact += way * (np.asarray(z, np.float64) - exact)
            np.testing.assert_allclose(np.asarray(got).astype(np.float64), exact, rtol=2**-8)
        else:
            assert_same(got, want)
    assert any((np.asarray(x) != y).any() for x, y in zip(flat.unflatten(), stepped, strict=True))
    for got, want in zip(params.unflatten(), stepped, strict=True):
        assert_same(got, want, "y stays as it is")
    text = average.lower(state, params).as_text()
    assert text.count("@onepass_average") == len({*dtypes})


def test_what_has_no_average():
    start = [np.ones(3, np.float32)]
    with pytest.raises(ValueError, match=r"^schedule_free_eval_params: 'state' is of adam, exp"):
        oj.schedule_free_eval_params(oj.adam().init(start), start)
    with pytest.raises(TypeError, match=r"'state' is a tuple, expected OptimizerState"):
        oj.schedule_free_eval_params((), start)
    state = oj.schedulefreesgd().init(start)
    with pytest.raises(ValueError, match=r"^schedule_free_eval_params: 'params' have .* expected"):
        oj.schedule_free_eval_params(state, [np.ones(4, np.float32)])


# ---- states of other releases


def changed(**of):
    return lambda state: dataclasses.replace(
        state, **{name: change(getattr(state, name)) for name, change in of.items()}
    )


def buffers(change):
    return changed(buffers=lambda all_: {d: change(dict(own)) for d, own in all_.items()})


NUMBERS = {
    "fewer numbers": changed(hyper=lambda h: h[2:]),
    "numbers of another type": changed(hyper=lambda h: h.astype(jnp.int32)),
    "scalars": changed(scalars=lambda _: jnp.zeros(2, jnp.uint32)),
    "a count of 64 bits": changed(count=lambda n: n.astype(jnp.int64)),
    "other names": changed(names=lambda names: (names[-1], *names[1:-1], names[0])),
    "no names": changed(names=lambda _: ()),
    "an unknown optimizer": changed(kernel=lambda _: "adamw2"),
    "a state is lacking": buffers(lambda own: {"exp_avg": own["exp_avg"]}),
    "a state more": buffers(lambda own: {**own, "more": own["exp_avg"]}),
}
BUFFERS = {
    "states of 16 bits": buffers(lambda own: {k: v.astype(np.float16) for k, v in own.items()}),
    "shorter states": buffers(lambda own: {k: v[:2] for k, v in own.items()}),
}


@pytest.mark.parametrize("wrong", [*NUMBERS, *BUFFERS])
def test_a_state_of_another_release_is_refused(wrong):
    start = [np.ones(3, np.float32)]
    state = (NUMBERS | BUFFERS)[wrong](oj.adamw().init(start))
    state = pickle.loads(pickle.dumps(state))
    expected = "of another release of onepass" if wrong in NUMBERS else "'params' have"
    for step in (
        lambda: oj.adamw().update(start, state, start),
        lambda: jax.jit(oj.adamw().update)(start, state, start),
        lambda: oj.apply(start, oj.flat(start), state),
    ):
        with pytest.raises(ValueError, match=expected):
            step()
    if wrong in NUMBERS:
        with pytest.raises(ValueError, match=expected):
            state.with_lr(0.1)


@pytest.mark.parametrize("name", ["adamw", "nadam", "adafactor", "lamb", "muon"])
def test_a_call_stays_within_its_arrays(name, monkeypatch):
    """Whoever makes it: the handler itself counts what it reads."""
    start = [np.ones((3, 2), np.float32), np.ones(3, np.float32)]
    params, state = oj.flat(start), getattr(oj, name)().init(start)
    wrong = [NUMBERS["fewer numbers"], BUFFERS["shorter states"]]
    wrong += [NUMBERS["scalars"]] if name == "adamw" else []
    monkeypatch.setattr(_step, "check_state", lambda op, state: _step.kernel_of(state.kernel))
    monkeypatch.setattr(_step, "_kept_as_wanted", lambda *_: True)
    for change in wrong:
        with pytest.raises(Exception, match=rf"{name}: "):
            jax.block_until_ready(oj.apply(start, params, change(state)))


# ---- states of other parameters


def arrays(*shapes, dtype=np.float32):
    return [np.ones(shape, dtype) for shape in shapes]


@pytest.mark.parametrize("name", ["adam", "lamb", "adafactor", "muon", "schedulefreesgd"])
@pytest.mark.parametrize(
    "others",
    [
        arrays((4, 3), 5), arrays(12, 5), arrays(5, (3, 4)), arrays((3, 4), 4, 1), arrays(17),
        arrays((3, 4), 5, (0, 2)),
    ],
    ids=lambda leaves: str([a.shape for a in leaves]),
)  # fmt: skip
def test_a_state_of_as_many_elements_in_other_parameters_is_refused(name, others):
    own, optimizer = arrays((3, 4), 5), getattr(oj, name)()
    state, flat = optimizer.init(own), oj.flat(others)
    for step in (
        lambda: optimizer.update(others, state, others),
        lambda: jax.jit(optimizer.update)(others, state, others),
        lambda: oj.apply(flat, flat, state),
        lambda: oj.apply(others, flat, state),
    ):
        with pytest.raises(ValueError, match=r"'params' have .*expected"):
            step()
    for params in (own, tuple(own), {"a": own[0], "b": own[1]}, oj.flat(own)):
        optimizer.update(params, pickle.loads(pickle.dumps(state)), params)


def test_a_state_is_of_one_order_of_dtypes():
    """Float32 and float64 have buffers of their own, and each of them the same elements."""
    one = [np.ones(3, np.float32), np.ones(3, np.float16)]
    state = oj.adam().init(one)
    with pytest.raises(ValueError, match=r"'params' have float16\[3\], float32\[3\], expected"):
        oj.adam().update(one[::-1], state, one[::-1])


# ---- programs of other releases


def test_a_program_of_another_release_is_refused(monkeypatch):
    from jax import export

    x = np.float32([-1, 2])
    assert_same(jax.jit(lambda x: oj.relu(x))(x), np.float32([0, 2]))
    checks = [export.DisabledSafetyCheck.custom_call("onepass_activation")]
    program = export.export(jax.jit(lambda x: oj.relu(x)), disabled_checks=checks)(x)
    again = export.deserialize(program.serialize())
    assert_same(again.call(x), np.float32([0, 2]))
    other = _targets._release() ^ 1
    monkeypatch.setattr(_targets, "_release", lambda: other)
    theirs = export.export(jax.jit(lambda x: oj.relu(x)), disabled_checks=checks)(x)
    with pytest.raises(Exception, match=r"relu: the program was exported by another release"):
        jax.block_until_ready(export.deserialize(theirs.serialize()).call(x))


def test_a_buffer_with_more_than_its_leaves_is_refused():
    shape = jax.ShapeDtypeStruct((3,), np.float32)
    two = jax.jit(lambda x: _targets.call("unflatten", "unflatten", [shape, shape], x))
    for size in (5, 7):
        with pytest.raises(Exception, match=f"unflatten: the buffer has {size} elements"):
            jax.block_until_ready(two(np.ones(size, np.float32)))
    assert_same(two(np.arange(6, dtype=np.float32))[1], np.float32([3, 4, 5]))
