"""onepass.jax: functions inside `jax.jit`, with the bits of `onepass.ops`, and their gradients."""

import ctypes
import functools
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES
from cases._case import normal
from helpers import assert_same, each_dtype, each_form
from onepass import _C, config, ops
from onepass.ops._declare import ACTIVATIONS

jax = pytest.importorskip("jax")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jax.numpy as jnp
    import onepass.jax as oj
    from onepass.jax import _targets
    from onepass.jax._targets import NOTHING, call, like, result
    from small_jax import x64  # noqa: F401  (a fixture)

EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-41, -1e-45, 3e38, -70000.0]  # 1e-41 is subnormal


@pytest.fixture
def _no_x64():
    jax.config.update("jax_enable_x64", False)


def drawn(shape, dtype, seed=0):
    return normal(np.random.default_rng(seed), shape, dtype)


def edged(shape, dtype, seed=0):
    x = drawn(shape, dtype, seed)
    with np.errstate(over="ignore"):
        x.ravel()[: len(EDGES)] = np.asarray(EDGES).astype(dtype)
    return x


def pulled(function, x, dy):
    """(y, the gradient) of a compiled function."""
    y, back = jax.jit(lambda x: jax.vjp(function, x))(x)
    return y, jax.jit(back)(dy)[0]


# ---- activations


def test_every_activation_is_there():
    lacking = set(ACTIVATIONS) - set(oj.__all__)
    assert not lacking, f"python/onepass/jax/_elementwise.py and __init__.py lack {lacking}"
    for name in ACTIVATIONS:
        assert getattr(oj, name).__name__ == name


@each_dtype
@each_form
def test_an_activation_has_the_bits_of_numpy(record, form, dtype):
    x, dy = edged((67, 301), dtype), edged((301, 67), dtype, 1)[::-1].reshape(67, 301)
    options = form.options
    y, dx = pulled(lambda x: getattr(oj, record.name)(x, **options), x, dy)
    assert_same(y, getattr(ops, record.name)(x, **options), record.name)
    assert_same(dx, getattr(ops, f"{record.name}_backward")(dy, x, **options), record.name)


def test_a_batch_of_vmap_is_one_call():
    x = drawn((5, 7), "float32")
    mapped = jax.jit(jax.vmap(jax.grad(lambda x: oj.gelu(x).sum())))
    assert_same(mapped(x), ops.gelu_backward(np.ones_like(x), x))
    text = mapped.lower(x).as_text()
    assert text.count("@onepass_activation_backward") == 1
    assert "while" not in text


def test_an_activation_refuses():
    with pytest.raises(TypeError, match=r"^relu: 'x' has dtype int32, expected float32, float64"):
        oj.relu(np.arange(3, dtype=np.int32))
    with pytest.raises(TypeError, match=r"^relu: 'x' is a str, expected an array"):
        oj.relu("a")
    with pytest.raises(ValueError, match=r"celu.*'alpha' is 0\.0, expected a number > 0"):
        oj.celu(np.ones(3, np.float32), alpha=0)
    with pytest.raises(TypeError, match=r"relu.*no option 'slope'"):
        oj.relu(np.ones(3, np.float32), slope=1)
    with pytest.raises(TypeError, match=r"2 arguments without names"):
        oj.elu(np.ones(3, np.float32), 0.5)
    with pytest.raises(ValueError, match=r"onepass_activation_backward.*cannot be differentiated"):
        jax.grad(jax.grad(oj.tanh))(1.0)


# ---- dropout


@each_dtype
def test_dropout_has_the_masks_of_numpy(dtype):
    x, dy = edged((33, 129), dtype), drawn((33, 129), dtype, 1)
    for p, numbers in [
        (0.3, {"seed": 5}),
        (0.1, {"seed": 2**64 - 1, "offset": 2**63 + 7, "first": 2**62 - 2**20}),
        (1.0, {"seed": 0, "first": 31}),
        (0.0, {"seed": 1}),
    ]:
        y, dx = pulled(lambda x, p=p, kw=numbers: oj.dropout(x, p, **kw), x, dy)
        assert_same(y, ops.dropout(x, p, **numbers))
        assert_same(dx, ops.dropout_backward(dy, p, **numbers))


@pytest.mark.parametrize("x64", [False, True])
def test_numbers_are_operands(x64):
    jax.config.update("jax_enable_x64", x64)
    x = drawn((1000,), "float32")
    step = jax.jit(lambda p, seed, offset: oj.dropout(x, p, seed=seed, offset=offset))
    for p, seed, offset in [(0.25, 3, 4), (0.5, 4, 5), (0.75, 5, 6)]:
        assert_same(step(p, seed, offset), ops.dropout(x, p, seed=seed, offset=offset))
    assert step._cache_size() == 1
    want = ops.dropout(x, 0.25, seed=2**40 + 3)
    words = np.uint32([2**8, 3])  # the high one first, as in a key
    assert_same(oj.dropout(x, 0.25, seed=jnp.asarray(words)), want)
    assert_same(oj.dropout(x, 0.25, seed=2**40 + 3), want)
    assert_same(oj.dropout(x, 0.25, seed=words), want)
    assert_same(oj.dropout(x, 0.25, seed=np.array(2**40 + 3)), want)
    assert_same(oj.dropout(x, 0.25, seed=jax.random.key(9)), ops.dropout(x, 0.25, seed=9), "a key")
    for p in (0, 1):  # a whole number of Python is an integer of JAX
        assert_same(step(p, 3, 4), ops.dropout(x, p, seed=3, offset=4))
    small = jnp.asarray(9, jnp.int8)
    assert_same(jax.jit(lambda s: oj.dropout(x, 0.25, seed=s))(small), ops.dropout(x, 0.25, seed=9))


@pytest.mark.usefixtures("_no_x64")
def test_a_number_of_python_is_a_double_without_x64():
    # Of the first 2**26 elements of this mask one tells 1/3 from the nearest float32.
    x, numbers = np.ones(32, np.float32), {"seed": 1, "first": 55254016}
    double = ops.dropout(x, 1 / 3, **numbers)
    single = ops.dropout(x, float(np.float32(1 / 3)), **numbers)
    assert np.flatnonzero(double != single).tolist() == [9]
    assert_same(jax.jit(lambda x: oj.dropout(x, 1 / 3, **numbers))(x), double)
    assert_same(jax.jit(lambda x, p: oj.dropout(x, p, **numbers))(x, 1 / 3), single)


def test_a_mapped_dropout():
    x = drawn((4, 100), "float32")
    same = jax.vmap(lambda x: oj.dropout(x, seed=1))(x)
    own = jax.vmap(lambda x, i: oj.dropout(x, seed=1, offset=i))(x, jnp.arange(4))
    for i in range(4):
        assert_same(same[i], ops.dropout(x[i], seed=1))
        assert_same(own[i], ops.dropout(x[i], seed=1, offset=i))


def test_dropout_refuses():
    x = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"^dropout: 'p' is 1\.5, expected .*<= 1"):
        oj.dropout(x, 1.5, seed=0)
    with pytest.raises(ValueError, match=r"^dropout: 'seed' is -1, expected"):
        oj.dropout(x, seed=-1)
    with pytest.raises(ValueError, match=r"^dropout: 'seed' is .*-1.*, expected"):
        oj.dropout(x, seed=np.array(-1))
    with pytest.raises(TypeError, match=r"^dropout: 'seed' has shape \(3,\) and dtype float64"):
        oj.dropout(x, seed=jnp.ones(3))
    with pytest.raises(TypeError, match=r"^dropout: 'seed' has shape \(3,\) and dtype uint32"):
        oj.dropout(x, seed=np.zeros(3, np.uint32))
    with pytest.raises(TypeError, match=r"^dropout: 'p' has shape \(\) and dtype bool, expected a"):
        oj.dropout(x, jnp.bool_(True), seed=1)
    with pytest.raises(TypeError, match=r"^dropout: 'p' has shape \(1,\) and dtype float32"):
        oj.dropout(x, jnp.ones(1, jnp.float32), seed=1)
    traced = jax.jit(lambda p, seed: oj.dropout(x, p, seed=seed))
    with pytest.raises(Exception, match=r"dropout: the probability of dropout is 1.5, expected 0"):
        jax.block_until_ready(traced(1.5, 0))
    with pytest.raises(Exception, match=r"is -1, expected a number >= 0"):
        jax.block_until_ready(traced(0.5, -1))


# ---- norms and the bias

RIDERS = [
    {},
    {"activation": "relu"},
    {"activation": ("leaky_relu", {"negative_slope": 0.2}), "dropout_p": 0.3, "seed": 7},
    {"activation": "gelu", "dropout_p": 0.5, "seed": 2**40, "offset": 3, "first": 64},
]


def gradients(function, arrays, dy):
    """(y, the gradients of arrays) of a compiled function; None where there is no array."""
    y, back = jax.jit(lambda arrays: jax.vjp(lambda a: function(*a), arrays))(arrays)
    return y, jax.jit(back)(dy)[0]


@each_dtype
@pytest.mark.parametrize("riders", RIDERS)
def test_bias_act(riders, dtype):
    for shape, axis in [((6, 5, 7), 1), ((6, 5), -1), ((2, 3, 4, 5), 2)]:
        x, dy = drawn(shape, dtype), drawn(shape, dtype, 1)
        bias = drawn((shape[axis],), dtype, 2)
        y, (dx, dbias) = gradients(
            lambda x, b, axis=axis: oj.bias_act(x, b, axis=axis, **riders), (x, bias), dy
        )
        assert_same(y, ops.bias_act(x, bias, axis=axis, **riders))
        want = ops.bias_act_backward(dy, x, bias, axis=axis, **riders)
        assert_same(dx, want[0])
        assert_same(dbias, want[1].astype(dtype))


@each_dtype
@pytest.mark.parametrize("riders", RIDERS)
@pytest.mark.parametrize("given", ["", "weight", "weight bias", "weight bias residual"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_norm_of_rows(name, given, riders, dtype):
    if name == "rms_norm" and "bias" in given:
        given = given.replace("bias ", "").replace(" bias", "")
    shape, rows = (9, 4, 8), (4, 8)
    x, dy = drawn(shape, dtype), drawn(shape, dtype, 1)
    arrays = {n: drawn(shape if n == "residual" else rows, dtype, 2) for n in given.split()}
    names = list(arrays)

    def function(x, *others):
        return getattr(oj, name)(x, rows, **dict(zip(names, others, strict=True)), **riders)

    y, (dx, *found) = gradients(function, (x, *arrays.values()), dy)
    want, saved = getattr(ops, name)(x, rows, **arrays, **riders)
    assert_same(y, want)
    back = getattr(ops, f"{name}_backward")(dy, saved)
    assert_same(dx, back[0])
    for gradient, other in zip(found, [b for b in back[1:] if b is not None], strict=True):
        assert_same(gradient, np.asarray(other).astype(dtype))


@each_dtype
@pytest.mark.parametrize("riders", RIDERS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("given", ["", "weight bias", "weight bias residual"])
def test_batch_norm(given, training, riders, dtype):
    wide = np.float64 if dtype == np.float64 else np.float32
    for shape, last in [((6, 5, 7), False), ((6, 5), False), ((2, 3, 4, 5), True)]:
        channels = shape[-1 if last else 1]
        x, dy = drawn(shape, dtype), drawn(shape, dtype, 1)
        arrays = dict.fromkeys(["weight", "bias", "residual"])
        arrays |= {
            n: drawn(shape if n == "residual" else (channels,), dtype, 2) for n in given.split()
        }
        mean = drawn((channels,), wide, 4)
        var = np.abs(drawn((channels,), wide, 5)) + 1
        more = {"training": training, "channels_last": last, **riders}

        def function(x, weight, bias, residual, mean=mean, var=var, more=more):
            y, *statistics = oj.batch_norm(x, weight, bias, mean, var, residual=residual, **more)
            return y, statistics

        y, back, statistics = jax.jit(
            lambda a, function=function: jax.vjp(lambda a: function(*a), a, has_aux=True)
        )((x, *arrays.values()))
        (dx, *found) = back(dy)[0]
        running = [mean.copy(), var.copy()]
        want, saved = ops.batch_norm(
            x, arrays["weight"], arrays["bias"], *running, momentum=1.0,
            residual=arrays["residual"], **more,
        )  # fmt: skip
        assert_same(y, want)
        for got, moved in zip(statistics, running, strict=True):
            assert_same(got, moved)
        want_back = [*ops.batch_norm_backward(dy, saved), None][:4]
        assert_same(dx, want_back[0])
        for gradient, other in zip(found, want_back[1:], strict=True):
            assert_same(gradient, None if other is None else np.asarray(other).astype(dtype))


def test_parameters_of_16_bits_beside_float32():
    x, w = drawn((4, 8), "float16"), drawn((8,), "float32", 1)
    y, (dx, dw) = gradients(lambda x, w: oj.layer_norm(x, 8, w), (x, w), np.ones_like(x))
    want, saved = ops.layer_norm(x, 8, w)
    assert_same(y, want)
    for got, other in zip((dx, dw), ops.layer_norm_backward(np.ones_like(x), saved), strict=False):
        assert_same(got, other)


def test_mapped_norms():
    x = drawn((3, 6, 5), "float32")
    y = jax.vmap(lambda x: oj.layer_norm(x, 5))(x)
    z, mean, _ = jax.vmap(lambda x: oj.batch_norm(x, *[None] * 4, training=True))(x)
    g = jax.vmap(jax.grad(lambda x: (oj.rms_norm(x, 5) ** 2).sum()))(x)
    for i in range(3):
        assert_same(y[i], ops.layer_norm(x[i], 5)[0])
        assert_same(z[i], ops.batch_norm(x[i], *[None] * 4, training=True)[0])
        assert_same(g[i], jax.grad(lambda x: (oj.rms_norm(x, 5) ** 2).sum())(x[i]))
    assert mean.shape == (3, 5)


def test_arrays_that_lie_otherwise():
    x = drawn((4, 6), "float32")
    y = jax.jit(lambda x: oj.layer_norm(x.T, 4))(x)
    assert_same(y, ops.layer_norm(x.T.copy(), 4)[0])
    y = jax.jit(lambda x: oj.dropout(x.T, seed=1).T)(x)
    assert_same(y, ops.dropout(x.T.copy(), seed=1).T)


def test_norms_refuse():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"^layer_norm: 'normalized_shape' is 4, expected the"):
        oj.layer_norm(x, 4)
    for shape in (3.0, True, "3", None, [[3]]):
        with pytest.raises(TypeError, match=r"^layer_norm: 'normalized_shape' is .* whole number"):
            oj.layer_norm(x, shape)
    with pytest.raises(ValueError, match=r"^layer_norm: 'weight' has shape \(4,\), expected \(3"):
        oj.layer_norm(x, 3, np.ones(4, np.float32))
    with pytest.raises(TypeError, match=r"^rms_norm: 'weight' has dtype float16, expected float32"):
        oj.rms_norm(x, 3, np.ones(3, np.float16))
    with pytest.raises(ValueError, match=r"^layer_norm: 'residual' has shape \(3,\) and dtype"):
        oj.layer_norm(x, 3, residual=x[0])
    with pytest.raises(ValueError, match=r"^batch_norm: .*needed with training=False"):
        oj.batch_norm(x, None, None, None, None, training=False)
    with pytest.raises(ValueError, match=r"one value per channel has no variance"):
        oj.batch_norm(x[:1], None, None, None, None, training=True)
    with pytest.raises(ValueError, match=r"^batch_norm: 'eps' is 0, expected .*> 0"):
        oj.batch_norm(x, None, None, None, None, training=True, eps=0)
    with pytest.raises(ValueError, match=r"^batch_norm: 'x' has shape \(3,\), expected two to"):
        oj.batch_norm(x[0], None, None, None, None, training=True)
    with pytest.raises(ValueError, match=r"^bias_act: 'axis' is 2, expected an axis of 'x'"):
        oj.bias_act(x, np.ones(3, np.float32), axis=2)
    with pytest.raises(ValueError, match=r"^bias_act: 'activation' is 'rely', expected one of"):
        oj.bias_act(x, np.ones(3, np.float32), activation="rely")
    with pytest.raises(TypeError, match=r"^bias_act: 'bias' is None"):
        oj.bias_act(x, None)


# ---- cross_entropy


@each_dtype
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(9, 5), (3, 70, 4)])
def test_cross_entropy(shape, reduction, dtype):
    logits, rows = drawn(shape, dtype), (shape[0], *shape[2:])
    labels = np.random.default_rng(1).integers(0, shape[1], rows)
    labels.ravel()[2] = -100
    weight = np.abs(drawn((shape[1],), dtype, 2)) + np.asarray(0.5, dtype)
    soft = np.asarray(ops.softmax(drawn(shape, dtype, 3), axis=1))
    for target, more in [
        (labels, {}),
        (labels.astype(np.int8), {"label_smoothing": 0.1, "weight": weight}),
        (labels.astype(np.int32), {"ignore_index": 0}),
        (soft, {"weight": weight}),
    ]:
        if "ignore_index" in more:
            target = np.where(target < 0, 0, target)
        more = {"reduction": reduction, **more}
        want, gradient = ops.cross_entropy(logits, target, **more)
        function = jax.jit(lambda x, t, more=more: oj.cross_entropy(x, t, **more))
        assert_same(function(logits, target), want, "without gradient")
        loss, back = jax.vjp(lambda x, t=target, f=function: f(x, t), logits)
        assert_same(loss, want)
        assert_same(back(jnp.ones_like(loss))[0], gradient)
        doubled = back(jnp.full_like(loss, 2))[0]
        assert_same(doubled, (gradient.astype(np.float64) * 2).astype(dtype), "a factor")
        with jax.numpy_dtype_promotion("strict"):
            assert_same(back(jnp.ones_like(loss))[0], gradient)


def test_cross_entropy_refuses():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^cross_entropy: 'target' has shape \(3,\), expected"):
        oj.cross_entropy(x, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"^cross_entropy: 'reduction' is 'avg', expected 'none'"):
        oj.cross_entropy(x, np.zeros(2, int), reduction="avg")
    with pytest.raises(ValueError, match=r"^cross_entropy: 'ignore_index' is 1, expected a neg"):
        oj.cross_entropy(x, x, ignore_index=1)
    with pytest.raises(ValueError, match=r"^cross_entropy: 'logits' has shape \(3,\), expected"):
        oj.cross_entropy(x[0], np.zeros(2, int))
    message = "cross_entropy: 'target' holds 3 at element 1, expected 0 <= label < 3"
    with pytest.raises(Exception, match=message):
        jax.block_until_ready(oj.cross_entropy(x, np.array([0, 3])))
    with pytest.raises(Exception, match=r"'target' holds -1"):
        jax.block_until_ready(oj.cross_entropy(x, np.array([0, -1])))
    ignored = np.array([0, 2**64 - 100], np.uint64)  # -100 as int64
    with pytest.raises(Exception, match=rf"'target' holds {2**64 - 100} at element 1, expected 0"):
        jax.block_until_ready(oj.cross_entropy(x, ignored))


@pytest.mark.parametrize("dtype", ["int2", "uint2", "int4", "uint4"])
def test_labels_smaller_than_a_byte(dtype):
    """XLA has several of them in a byte, or one: as eight bytes each they would lie elsewhere."""
    if not hasattr(jnp, dtype):
        pytest.skip("this JAX lacks it")
    x, labels = drawn((4, 3), np.float32), np.array([1, 0, 1, 0])
    target = jnp.asarray(labels).astype(dtype)
    want, gradient = ops.cross_entropy(x, labels)
    for function in (oj.cross_entropy, jax.jit(oj.cross_entropy)):
        assert_same(function(x, target), want)
        assert_same(jax.grad(function)(x, target), gradient)


@pytest.mark.parametrize("dtype", ["int4", "bool", "float32"])
def test_the_handlers_read_whole_numbers_of_their_size_alone(dtype):
    """Whoever calls them: a number of another size would be read beyond its memory."""
    x, number = np.zeros((2, 3), np.float32), jnp.zeros((), dtype)
    half, rest = np.array(0.5, np.float32), [np.zeros(2, np.uint32)] * 2
    for seed in (number, jnp.zeros(0, np.int32), jnp.zeros(3, np.uint32)):
        with pytest.raises(Exception, match=r"dropout: the call has .*of onepass\.jax passes"):
            jax.block_until_ready(call("dropout", "dropout", [like(x)], x, half, seed, *rest))
    with pytest.raises(Exception, match=r"cross_entropy: 'target' has another dtype than integ"):
        jax.block_until_ready(
            call("cross_entropy", "cross_entropy", [result((), np.float32)], x,
                 jnp.zeros(2, dtype), NOTHING, given=0, reduction=1, label_smoothing=0.0,
                 ignore_index=-100, probabilities=0)
        )  # fmt: skip


@pytest.mark.usefixtures("_no_x64")
def test_labels_that_jax_would_cut_are_refused():
    """Without x64 JAX keeps 32 bits: 2**32 would be the label 0."""
    x = np.zeros((2, 3), np.float32)
    for label, dtype in [(2**32, np.int64), (-(2**32), np.int64), (2**32 + 1, np.uint64)]:
        target = np.array([1, label], dtype)
        with pytest.raises(ValueError, match=rf"^cross_entropy: 'target' holds {label} at elem"):
            jax.jit(lambda x, t=target: oj.cross_entropy(x, t))(x)
        with pytest.raises(ValueError, match=r"of u?int32, which JAX keeps without jax_enable_x64"):
            oj.cross_entropy(x, target.tolist() if dtype is np.int64 and label > 0 else target)
    assert float(oj.cross_entropy(x, np.array([1, 2]))) == pytest.approx(np.log(3), rel=1e-6)


# ---- where calls run


def test_calls_at_once_share_the_pool():
    """Handlers run on threads of XLA and of the caller; the pool serves one of them at a time."""
    x = drawn((1 << 18,), "float32")
    want = ops.gelu(x)
    function = jax.jit(lambda x: [oj.gelu(x + i) for i in range(4)])
    jax.block_until_ready(function(x))
    found, threads, before = [], [], config.get_num_threads()
    config.set_num_threads(4)
    try:
        for _ in range(6):

            def work():
                found.extend(np.asarray(function(x)[0]) for _ in range(5))

            threads.append(threading.Thread(target=work))
            threads[-1].start()
        plain = [ops.gelu(x) for _ in range(10)]
        for thread in threads:
            thread.join()
    finally:
        config.set_num_threads(before)
    assert len(found) == 30
    for y in [*found, *plain]:
        assert_same(y, want)


def capsule_of(memory, name):
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(ctypes.addressof(memory), name, None)


def test_the_level_is_that_of_the_call():
    """Levels have the same bits: what takes their place here is a table that counts its calls."""
    x, calls = drawn((1000,), "float32"), []
    function = jax.jit(oj.mish)
    want = np.asarray(function(x))
    count = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(calls.append)
    activations = (ctypes.c_void_p * len(ACTIVATIONS))(
        *[ctypes.cast(count, ctypes.c_void_p).value] * len(ACTIVATIONS)
    )
    name = ctypes.c_char_p(b"counts")  # the first two members of Backend (csrc/core/backend.h)
    table = (ctypes.c_void_p * 200)(
        ctypes.cast(name, ctypes.c_void_p).value, ctypes.addressof(activations)
    )
    capsule = capsule_of(table, b"onepass.Backend")
    level = _C.cpu_level()
    _C.set_test_backend(capsule)
    try:
        jax.block_until_ready(function(x))
    finally:
        _C.set_cpu_level(level)
    assert len(calls) == 1
    assert_same(function(x), want)
    assert len(calls) == 1


def test_an_array_on_a_gpu_is_refused_in_words():
    from onepass import _jax

    jax.ffi.register_ffi_target("onepass_nowhere", _jax.no_device(), platform="cpu")
    call = jax.ffi.ffi_call("onepass_nowhere", jax.ShapeDtypeStruct((), np.float32))
    with pytest.raises(Exception, match=r"gelu: the arrays lie on a GPU, and onepass.jax runs on"):
        jax.block_until_ready(call(np.float32(1), op="gelu"))


def test_an_old_jaxlib_is_refused_before_anything_is_registered(monkeypatch):
    import jaxlib.version

    monkeypatch.setattr(jaxlib.version, "__version__", "0.6.0")
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: pytest.fail("registered"))
    with pytest.raises(ImportError, match=r"^onepass.jax: jaxlib is 0.6.0, expected 0.6.1 or new"):
        _targets._register.__wrapped__()
    # By a call too, which comes to nothing that an older JAX lacks before it is refused.
    monkeypatch.setattr(_targets, "_register", functools.cache(_targets._register.__wrapped__))
    monkeypatch.delattr(jax, "typeof")
    monkeypatch.delattr(jax.sharding, "reshard", raising=False)
    x = np.ones((2, 3), np.float32)
    for function in (
        oj.relu, lambda x: oj.dropout(x, seed=1), lambda x: oj.layer_norm(x, 3), oj.global_norm,
        lambda x: oj.flat(x).unflatten(), lambda x: oj.sgd().update(x, oj.sgd().init(x), x),
    ):  # fmt: skip
        with pytest.raises(ImportError, match=r"^onepass.jax: jaxlib is 0.6.0, expected 0.6.1"):
            function(x)
    packaged = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"jax>={".".join(map(str, _targets.LEAST))}"' in packaged


def test_kernels_are_handed_over_once(monkeypatch):
    """Of several first callers one does it, and the others wait until it is done."""
    done, began = [], threading.Event()

    def slow():
        began.set()
        time.sleep(0.1)
        done.append(threading.get_ident())

    monkeypatch.setattr(_targets, "_register", functools.cache(slow))
    threads = [threading.Thread(target=_targets.register) for _ in range(4)]
    for thread in threads:
        thread.start()
    began.wait()
    _targets.register()
    assert len(done) == 1
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_an_extension_of_another_build_is_refused():
    """Its structs may be others: the name of the capsule says how large they are."""
    from onepass import _jax

    with pytest.raises(ImportError, match=r"^onepass.jax: _jax and _C of onepass were built from"):
        _jax.targets(capsule_of(ctypes.c_int64(), b"onepass.Lent"), 0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("muon: it is"), "INVALID_ARGUMENT: muon: it is"),
        (MemoryError("it is"), "RESOURCE_EXHAUSTED: muon: there is no memory left"),
        (RuntimeError("it is"), "INTERNAL: muon: it is"),
    ],
    ids=["ValueError", "MemoryError", "RuntimeError"],
)
def test_errors_have_their_codes(error, message, monkeypatch):
    from onepass.jax import _muon

    def fails(*_):
        raise error

    monkeypatch.setattr(_muon, "step", fails)
    start = [np.ones((2, 2), np.float32)]
    with pytest.raises(Exception, match=message):
        jax.block_until_ready(oj.muon().update(start, oj.muon().init(start), start))


def test_the_arithmetic_of_the_thread_is_left_as_it_was():
    """XLA has its threads flush subnormal numbers, and goes on so after a call."""
    x = np.full(1000, 1e-40, np.float32)
    flushed = jax.jit(lambda x: x * 0.5)
    both = jax.jit(lambda x: (oj.relu(x), oj.relu(x) * 0.5, x * 0.5))
    y, after, beside = both(x)
    assert_same(y, x)
    assert_same(after, np.asarray(flushed(x)))
    assert_same(beside, np.asarray(flushed(x)))


# ---- arrays of JAX in onepass.ops


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_plain_functions_read_arrays_of_jax(dtype):
    x = drawn((64, 33), dtype)
    given = jnp.asarray(x)
    assert_same(ops.relu(given), ops.relu(x))
    y, saved = ops.layer_norm(given, 33)
    want, kept = ops.layer_norm(x, 33)
    assert_same(y, want)
    for got, other in zip(
        ops.layer_norm_backward(given, saved), ops.layer_norm_backward(x, kept), strict=True
    ):
        assert_same(got, other)
    assert_same(given, x)
    for out in (given, jnp.zeros_like(given)):
        with pytest.raises(TypeError, match=r"'out' is a JAX array, .* or use onepass.jax$"):
            ops.relu(x, out=out)
    with pytest.raises(TypeError, match=r"'params\[0\]' is a JAX array, .* or use onepass.jax$"):
        ops.sgd_([given], [x])
    assert_same(given, x)
    parameter = x.copy()
    ops.sgd_([parameter], [given], lr=1.0)
    assert_same(given, x)


def test_plain_functions_wait_for_arrays_of_jax():
    x = drawn((600, 600), "float32")

    @jax.jit
    def slow(x):
        return jax.lax.fori_loop(0, 40, lambda _, y: jnp.tanh(y @ x), x)

    want = np.asarray(slow(x))
    assert_same(ops.abs(slow(x)), np.abs(want))


def test_plain_functions_point_to_these_inside_jit():
    with pytest.raises(TypeError, match=r"^relu: 'x' is a .*Tracer.*; inside jax.jit use onepass"):
        jax.jit(ops.relu)(np.ones(3, np.float32))
    deleted = jnp.ones(3)
    deleted.delete()
    with pytest.raises(TypeError, match=r"'x' of type .* cannot be read: "):
        ops.relu(deleted)
