"""CPU arrays of any library that has DLPack: inputs of every call. Results come back in it where it
follows the array API, as JAX and array-api-strict do, and as NumPy arrays where not."""

import copy
import threading
import time
import types

import numpy as np
import pytest
from cases.optimizers import BY_NAME
from fuzz.arrays import Producer
from fuzz.choices import Choices
from helpers import Exported, assert_same, bits
from onepass import ops, optim
from test_contracts import CONTRACTS, call, given, is_array, is_plan, right_call, values_of


class Followed(Exported):
    """The same of a library that follows the array API; its dtype is NumPy's."""

    def __array_namespace__(self, api_version=None):
        return SPACE

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def shape(self):
        return self.array.shape


def adopted(array, **_):
    assert type(array) is np.ndarray
    return Followed(array)


SPACE = types.SimpleNamespace(from_dlpack=adopted, asarray=adopted)


def strict(array):
    return pytest.importorskip("array_api_strict").asarray(array)


def of_jax(array):
    return pytest.importorskip("jax.numpy").asarray(array)


LIBRARIES = {"home-made": Followed, "array-api-strict": strict, "JAX": of_jax}


@pytest.fixture(params=LIBRARIES)
def made(request):
    """A function that makes an array of a library of a NumPy array."""
    return LIBRARIES[request.param]


def as_numpy(result):
    return result.array if isinstance(result, Exported) else np.from_dlpack(result)


@pytest.mark.parametrize("kind", [Exported, Followed])
@pytest.mark.parametrize("op", [op for op in CONTRACTS if not is_plan(op)])
def test_every_input_from_another_library(op, kind):
    plain, exported = right_call(op), right_call(op)
    for i, argument in enumerate(given(op)):
        if argument["write"]:
            plain[i] = exported[i] = None
        elif is_array(argument) and not argument["update"]:
            exported[i] = kind(exported[i])
    want, got = values_of(call(op, plain)), values_of(call(op, exported))
    for one, other in zip(got, want, strict=True):
        if isinstance(one, Exported):  # a result, or what forward saves for backward: x itself
            assert type(one) is kind
            one = one.array
        if isinstance(other, (np.ndarray, np.generic, float)):
            assert kind is Followed or type(one) is type(other)
            assert np.array_equal(bits(np.asarray(one)), bits(np.asarray(other)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_functions_on_another_library(dtype):
    x = np.linspace(-2, 2, 24).reshape(4, 6).astype(dtype)
    for array in (x, x.T, x[::2, 1:], x[::-1, ::-2], x[:0]):
        got = ops.relu(Exported(array))
        assert type(got) is np.ndarray
        assert got.dtype == dtype
        assert np.array_equal(got, ops.relu(array))
    loss, gradient = ops.cross_entropy(Exported(x), Exported(np.array([0, 1, 2, 3])))
    want = ops.cross_entropy(x, np.array([0, 1, 2, 3]))
    assert type(loss) is type(want[0])
    assert loss == want[0]
    assert np.array_equal(gradient, want[1])


def test_results_are_of_the_library(made):
    """Values, gradients, a loss without axes; bit for bit those of NumPy."""
    plain = np.linspace(-2, 2, 24, dtype=np.float32).reshape(4, 6)
    x, labels = made(plain), np.array([0, 1, 2, 3])
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    for got, want in [
        (ops.gelu(x), ops.gelu(plain)),
        (ops.softmax(x), ops.softmax(plain)),
        (ops.dropout(x, seed=3), ops.dropout(plain, seed=3)),
        (ops.gelu_backward(x, x), ops.gelu_backward(plain, plain)),
        (ops.layer_norm(x, 6)[0], ops.layer_norm(plain, 6)[0]),
        *zip(ops.mse_loss(x, x), ops.mse_loss(plain, plain), strict=True),
        *zip(ops.mse_loss(x, made(plain[::-1].copy()), reduction="none"),
             ops.mse_loss(plain, plain[::-1], reduction="none"), strict=True),
        *zip(ops.cross_entropy(x, labels), ops.cross_entropy(plain, labels), strict=True),
        *zip(ops.bias_act_backward(x, x, ones, activation="relu"),
             ops.bias_act_backward(plain, plain, ones, activation="relu"), strict=True),
    ]:  # fmt: skip
        assert type(got) is type(x)
        assert as_numpy(got).shape == np.shape(want)
        assert_same(as_numpy(got), np.asarray(want))
    out, saved = ops.batch_norm(x, ones, zeros, None, None, training=True)
    mine, kept = ops.batch_norm(plain, ones, zeros, None, None, training=True)
    backward = zip(ops.batch_norm_backward(x, saved), ops.batch_norm_backward(plain, kept),
                   strict=True)  # fmt: skip
    for got, want in [(out, mine), *backward]:
        assert type(got) is type(x)
        assert_same(as_numpy(got), want)


def test_a_result_that_is_given_stays_what_it_is(made):
    plain = np.linspace(-1, 1, 8, dtype=np.float32)
    out = np.empty_like(plain)
    assert ops.relu(made(plain), out=out) is out
    assert_same(out, np.maximum(plain, 0))


def test_16_bits_of_jax():
    """NumPy tells DLPack nothing of bfloat16, so it is copied."""
    jnp = pytest.importorskip("jax.numpy")
    for dtype in (jnp.bfloat16, jnp.float16):
        x = jnp.linspace(-1, 1, 8, dtype=dtype)
        got = ops.silu(x)
        assert (type(got), got.dtype) == (type(x), dtype)
        assert_same(np.asarray(got), ops.silu(np.asarray(x)))


def test_memory_is_shared_where_the_library_can():
    found = []
    space = types.SimpleNamespace(from_dlpack=lambda a: found.append(a) or Followed(a))

    class Other(Followed):
        def __array_namespace__(self):
            return space

    got = ops.relu(Other(np.ones(1000, np.float32)))
    assert got.array is found[0]


def test_a_namespace_that_lacks_the_dtype_leaves_numpys():
    space = types.SimpleNamespace(from_dlpack=None, asarray=None)

    class Poor(Followed):
        def __array_namespace__(self):
            return space

    assert type(ops.relu(Poor(np.ones(3, np.float32)))) is np.ndarray
    narrow = types.SimpleNamespace(from_dlpack=lambda a: Followed(a.astype(np.float32)))

    class Narrow(Followed):
        def __array_namespace__(self):
            return narrow

    got = ops.relu(Narrow(np.ones(3)))  # as JAX without x64
    assert type(got) is np.ndarray
    assert got.dtype == np.float64
    ml_dtypes = pytest.importorskip("ml_dtypes")  # bfloat16 ends in float16
    other = types.SimpleNamespace(from_dlpack=lambda a: Followed(a.astype(ml_dtypes.bfloat16)))

    class Other(Followed):
        def __array_namespace__(self):
            return other

    got = ops.relu(Other(np.ones(3, np.float16)))
    assert type(got) is np.ndarray
    assert got.dtype == np.float16


def refuses(*_, **__):
    raise RuntimeError("no")


@pytest.mark.parametrize(
    "namespace",
    [None, refuses, lambda self: None, lambda self: types.SimpleNamespace(from_dlpack=refuses),
     lambda self: types.SimpleNamespace(from_dlpack=lambda a: object())],
    ids=["none", "it fails", "nothing", "it takes no array", "it makes something else"],
)  # fmt: skip
def test_a_namespace_that_does_not_work_leaves_numpys(namespace):
    """The result has been computed: it is not lost."""
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    other = type("Other", (Exported,), {"__array_namespace__": namespace})
    got = ops.relu(other(x))
    assert type(got) is np.ndarray
    assert_same(got, ops.relu(x))


# ---- writing


def test_what_cannot_be_written_says_what_to_do():
    x = np.ones(3, np.float32)
    jax_array = of_jax(x)
    before = np.array(jax_array)
    with pytest.raises(TypeError, match=r"^relu: 'out' is a JAX array, which is immutable; take"):
        ops.relu(x, out=jax_array)
    with pytest.raises(TypeError, match=r"^SGD: 'params\[0\]' is a JAX array, which is immutable"):
        optim.SGD([jax_array], lr=0.1)
    assert np.array_equal(np.array(jax_array), before)
    with pytest.raises(TypeError, match=r"^SGD: 'params\[0\]' .*with a shape, a dtype and __cuda"):
        optim.SGD([Exported(x)], lr=0.1)
    locked = np.ones(3, np.float32)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match=r"^relu: 'out' is read-only, .*pass a writable copy"):
        ops.relu(x, out=Exported(locked))


@pytest.mark.parametrize("flags", [1, 2, 3], ids=["read-only", "a copy", "both"])
def test_the_flags_of_a_capsule(flags):
    producer = described(flags=flags, shape=[3], strides=[1])
    with pytest.raises(ValueError, match=r"^relu: 'out' is read-only"):
        ops.relu(np.ones(3), out=producer)
    assert_same(ops.relu(producer), np.maximum(producer.array(producer.room), 0))


def described(**said):
    """A producer of memory of ours, with these entries of its description."""
    producer = Producer(Choices(b""))
    usual = {
        "name": b"dltensor_versioned", "ndim": 1, "shape": [3], "strides": [1], "code": 2,
        "bits": 64, "lanes": 1, "dense": False, "null": False, "no_shape": False, "offset": 0,
        "device": (1, 0), "said": (1, 0), "version": (1, 0), "flags": 0, "answer": "capsule",
        "fickle": False,
    }  # fmt: skip
    producer.__dict__.update(usual | said)
    return producer


@pytest.mark.parametrize("name", [b"dltensor", b"dltensor_versioned"])
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4, 3), (3, 1), 0), ((4, 3), (1, 4), 8), ((4, 3), (-3, -1), 8 * 11), ((3,), (-2,), 8 * 5),
     ((0, 3), (3, 1), 0), ((), (), 16), ((5,), (0,), 0)],
)  # fmt: skip
def test_capsules_of_every_layout(name, shape, strides, offset):
    producer = described(
        name=name, ndim=len(shape), shape=list(shape), strides=list(strides), offset=offset
    )
    assert_same(ops.relu(producer), np.maximum(producer.array(producer.room), 0))
    producer.check_untouched()
    if 0 not in strides:
        x = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
        assert ops.tanh(x, out=producer) is producer
        assert_same(producer.array(producer.room), ops.tanh(x))


def test_memory_of_the_cpu_that_a_gpu_reads_too():
    """kDLCUDAHost: pinned. It is read, and written, where it lies."""
    producer = described(device=(3, 0), said=(3, 0))
    got = ops.tanh(producer)
    assert type(got) is np.ndarray
    assert_same(got, np.asarray(ops.tanh(producer.array(producer.room).copy())))
    producer.check_untouched()
    assert ops.relu(np.linspace(-1, 1, 3), out=producer) is producer
    assert producer.array(producer.room).tolist() == [0, 0, 1]


@pytest.mark.parametrize("device", [(4, 0), (7, 0), (8, 0), (10, 1), (12, 0), (14, 0)])
def test_what_lies_on_no_device_of_ours_is_still_refused(device):
    """OpenCL, Vulkan, Metal, ROCm, an extension, oneAPI."""
    with pytest.raises(
        TypeError, match=r"^relu: 'x' lies on a device that is neither CPU nor CUDA; move it to one"
    ):
        ops.relu(Exported(np.zeros(3, np.float32), device))


def test_messages_name_the_dtype_of_what_has_none():
    for code, size, name in [
        (2, 64, "float64"), (4, 16, "bfloat16"), (0, 8, "int8"), (6, 8, "bool")
    ]:  # fmt: skip
        producer = described(code=code, bits=size)
        with pytest.raises(TypeError, match=f"^relu: 'out' has dtype {name}, expected float32"):
            ops.relu(np.ones(3, np.float32), out=producer)
    with pytest.raises(TypeError, match=r"^relu: 'x' has dtype unknown, expected"):
        ops.relu(described(lanes=2))


def test_a_producer_that_says_two_things():
    """Results are made by what it tells NumPy, and computed by what it told us."""
    fickle = described(shape=[6], strides=[1], fickle=True)
    with pytest.raises(
        ValueError, match=r"^relu: 'x' of type Producer describes itself in two ways"
    ):
        ops.relu(fickle)
    fickle.check_untouched()


def test_bfloat16_of_a_library_that_numpy_cannot_read():
    """Found by scripts/fuzz: the result was an array of the producer itself."""
    producer = described(code=4, bits=16)
    with pytest.raises(TypeError, match=r"^relu: NumPy cannot read the bfloat16 of Producer: pass"):
        ops.relu(producer)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    out = np.empty(3, ml_dtypes.bfloat16)
    assert ops.relu(producer, out=out) is out
    want = np.maximum(producer.room[:6].view(ml_dtypes.bfloat16), 0)
    assert np.array_equal(out.view(np.uint16), want.view(np.uint16))


def test_an_offset_from_null():
    """Found by scripts/fuzz: it was an address."""
    for name in (b"dltensor", b"dltensor_versioned"):
        with pytest.raises(TypeError, match="describes memory that cannot be"):
            ops.relu(described(name=name, null=True, offset=8))


@pytest.mark.parametrize("strides", [(2**62, 1), (-(2**63), 1), (1, 2**61), (2**59, 2**59)])
def test_strides_that_leave_all_memory(strides):
    """Their bytes wrapped around, and the address was any."""
    with pytest.raises(TypeError, match="describes memory that cannot be"):
        ops.relu(described(ndim=2, shape=[9, 9], strides=list(strides)))
    one = described(ndim=2, shape=[1, 3], strides=[2**62, 1])  # of one element no stride counts
    assert_same(ops.relu(one), np.maximum(one.room[:24].view(np.float64), 0)[None])


def test_an_empty_array_of_more_elements_than_there_are():
    """Found by scripts/fuzz: NumPy refuses such shapes too."""
    with pytest.raises(TypeError, match="describes memory that cannot be"):
        ops.relu(described(ndim=3, shape=[0, 2**40, 2**40], strides=[1, 1, 1]))


# ---- memory that is held


class Copying(Exported):
    """Exports a copy that lives as long as its capsule, and says when it is gone."""

    def __init__(self, array):
        super().__init__(array)
        self.alive = []

    def __dlpack__(self, **options):
        made = self.array.copy()
        self.alive.append(made.__array_interface__["data"][0])
        return made.__dlpack__(**options)


@pytest.mark.parametrize("clips", [{}, {"max_norm": 1.0}, {"nonfinite": "skip"}])
def test_a_gradient_that_is_a_copy_lives_through_the_step(clips):
    """Memory that is given back is taken by the next array: the step must read it before."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(3000).astype(np.float32) for _ in range(8)]
    mine, theirs = ([np.ones(3000, np.float32) for _ in values] for _ in range(2))
    ours, plain = optim.AdamW(mine, lr=0.1), optim.AdamW(theirs, lr=0.1)
    for _ in range(3):
        ours.step([Copying(v) for v in values], **clips)
        plain.step(values, **clips)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)


def test_jax_may_free_an_array_that_a_call_reads():
    """Another thread deletes, or donates, what this one has given to a call."""
    jnp = pytest.importorskip("jax.numpy")
    plain = np.linspace(-1, 1, 1 << 20, dtype=np.float32)
    want, computed, deleted_before_its_end = ops.gelu(plain), 0, 0
    for turn in range(200):
        x, returned, late = jnp.array(plain), threading.Event(), []

        def delete(x=x, turn=turn, returned=returned, late=late):
            time.sleep(turn % 20 * 5e-5)  # before the call, in it, and after it
            late.append(returned.is_set())
            x.delete()

        thread = threading.Thread(target=delete)
        thread.start()
        try:
            got = ops.gelu(x)
        except (TypeError, RuntimeError, ValueError):
            continue  # deleted before the call took hold of it
        finally:
            returned.set()
            thread.join()
        computed += 1
        deleted_before_its_end += not late[0]
        assert_same(np.asarray(got), want)
        if deleted_before_its_end > 9:
            break
    assert computed > 0
    assert deleted_before_its_end > 0


# ---- optimizers


@pytest.mark.parametrize("name", [n for n in BY_NAME if BY_NAME[n].record.cls._plans])
def test_parameters_of_a_strict_library(name):
    """Written in place, with states beside them, and saved and loaded."""
    variant = BY_NAME[name]
    cls = variant.record.cls
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (5,), (2, 2, 3))]
    theirs = [copy.deepcopy(a) for a in arrays]
    mine = [strict(a) for a in arrays]
    ours, plain = cls(mine, **variant.options), cls(theirs, **variant.options)
    for step in range(3):
        grads = [rng.standard_normal(a.shape).astype(np.float32) for a in arrays]
        ours.step([strict(g) for g in grads], max_norm=1.0)
        plain.step(grads, max_norm=1.0)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(np.from_dlpack(one), other)
        if step == 1:
            saved = ours.state_dict()
            ours = cls(mine, **variant.options)
            ours.load_state_dict(saved)
