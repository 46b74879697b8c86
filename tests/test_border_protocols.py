"""The border between Python and the kernels: which objects are arrays, and what they say of
their memory.

test_errors.py holds the wrong calls of the public functions; here are the things only `_C` sees.
"""

import ctypes
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from helpers import Exported, values
from onepass import _C

relu = _C.activation["relu"]


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack(versioned):
    x = Exported(values((3, 4)), versioned=versioned)
    out = np.zeros((3, 4), np.float32)
    assert np.array_equal(relu(x, out), np.maximum(x.array, 0))
    assert x.asked == [{"max_version": (1, 0)}] + [{}] * (not versioned)
    target = Exported(np.zeros((3, 4), np.float32), versioned=versioned)
    assert np.array_equal(relu(x, target).array, out)


def test_dlpack_strides_are_counted_in_elements():
    x = values((4, 6))
    out = np.zeros((6, 4), np.float32)
    relu(Exported(x[::-1].T), Exported(out))
    assert np.array_equal(out, np.maximum(x[::-1].T, 0))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy exports no flag")
def test_dlpack_read_only_flag_is_honoured():
    frozen = values(4)
    frozen.setflags(write=False)
    relu(Exported(frozen), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="relu: 'out' is read-only"):
        relu(values(4), Exported(frozen))


def test_errors_of_a_producer_are_told():
    class Broken(Exported):
        def __dlpack__(self, **options):
            raise BufferError("no memory today\nand a backtrace")

    with pytest.raises(
        TypeError, match=r"^relu: 'x' of type Broken cannot be read: no memory today$"
    ):
        relu(Broken(values(3)), np.zeros(3, np.float32))


class Lie(ctypes.Structure):
    """A DLManagedTensor before DLPack 1.0."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


@pytest.mark.parametrize(
    ("shape", "ndim", "null"),
    [((3,), 1, True), ((-1,), 1, False), ((2**32, 2**32), 2, False), ((2**61, 2), 2, False),
     ((3,), 65, False), ((3,), -1, False)],
)  # fmt: skip
@pytest.mark.parametrize("strided", [True, False])
def test_producers_that_describe_impossible_memory(shape, ndim, null, strided):
    memory, dims = np.zeros(4, np.float32), (ctypes.c_int64 * 128)(*shape)
    ones = (ctypes.c_int64 * 128)(1, 1)
    strides = ctypes.addressof(ones) if strided else None
    lie = Lie(None if null else memory.ctypes.data, (1, 0), ndim, 2, 32, 1,
              ctypes.addressof(dims), strides)  # fmt: skip
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    class Liar:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, max_version=None):
            return make(ctypes.addressof(lie), b"dltensor", None)

    with pytest.raises(TypeError, match=r"'x' of type .*Liar describes memory that cannot be"):
        relu(Liar(), memory)


def test_devices_must_agree_and_be_usable():
    cpu, cuda, other = values(4), Exported(values(4), (2, 0)), Exported(values(4), (8, 0))
    with pytest.raises(TypeError, match=r"'\w+' lies on .* but '\w+' on .*; move them"):
        relu(cpu, cuda)
    with pytest.raises(TypeError, match="neither CPU nor CUDA"):
        relu(other, cpu)
    from onepass import config

    if not config.cuda_available():
        with pytest.raises(RuntimeError, match=r"CUDA device, but CUDA is not usable: .+"):
            relu(cuda, cuda)
        assert cuda.asked == []  # nothing was exported for it


def test_cuda_array_interface_without_cuda():
    from onepass import config

    class OnCuda:
        __cuda_array_interface__: ClassVar = {"shape": (3,), "typestr": "<f4", "data": (8, False)}

    if config.cuda_available():
        pytest.skip("a made-up device pointer must not reach CUDA")
    with pytest.raises(RuntimeError, match="CUDA"):
        relu(OnCuda(), OnCuda())


@pytest.mark.parametrize("said", ["x", 3, (1,), ("a", 0), (2**40, 0), None])
def test_producers_that_do_not_know_their_device(said):
    class Lost:
        def __dlpack_device__(self):
            return said

        def __dlpack__(self, **options):
            raise AssertionError("where would that be?")

    with pytest.raises(TypeError, match=r"'x' of type .*Lost describes memory that cannot be"):
        relu(Lost(), None)


def test_cuda_array_interface_is_the_objects():
    """A type may serve both devices, and an object may have the interface alone."""

    class Both(Exported):
        @property
        def __cuda_array_interface__(self):
            raise AttributeError("not on CUDA")

    x = values(5)
    out = np.zeros_like(x)
    relu(Both(x, (1, 0)), out)
    assert np.array_equal(out, np.maximum(x, 0))

    class Bare:
        pass

    bare = Bare()
    with pytest.raises(TypeError, match="expected an array"):
        relu(bare, out)
    bare.__cuda_array_interface__ = {"shape": (5,), "typestr": "<f4", "data": (0, False)}
    from onepass import config

    if not config.cuda_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            relu(bare, out)


def test_numpy_subclasses(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 5))
    x[:] = values((3, 5))
    assert np.array_equal(relu(x, np.zeros_like(x)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="MaskedArray"):
        relu(np.ma.masked_array(values(3), [0, 1, 0]), np.zeros(3, np.float32))


def test_bfloat16_by_the_name_of_its_dtype():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = values(40, ml_dtypes.bfloat16)
    assert np.array_equal(relu(x, np.zeros_like(x)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="float8"):
        relu(x.astype(ml_dtypes.float8_e4m3fn), x)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int32", "int64", "complex64", "longdouble", ">f4", "O"],
)
def test_dtypes_that_are_refused(dtype):
    x = np.zeros(3, dtype)
    with pytest.raises(TypeError, match=r"^relu: 'x' has dtype .*expected float32, float64"):
        relu(x, x)


# ---- PyTorch


def test_torch_views_and_parameters():
    torch = pytest.importorskip("torch")
    x = torch.linspace(-2, 2, 24).reshape(4, 6)
    for view in (x, x.T, x[::2, 1:], x.expand(3, 4, 6), x.to(torch.bfloat16), x.double(), x.half()):
        out = torch.empty_like(view, memory_format=torch.contiguous_format)
        assert torch.equal(relu(view, out), view.relu())
    parameter = torch.nn.Parameter(x.clone())
    with torch.no_grad():
        assert torch.equal(relu(parameter, torch.empty(4, 6)), x.relu())
    mixed = np.empty((4, 6), np.float32)
    assert np.array_equal(relu(x, mixed), x.relu().numpy())


def test_torch_without_the_exchange_table():
    torch = pytest.importorskip("torch")

    class Older(torch.Tensor):
        __dlpack_c_exchange_api__ = None

    x = torch.linspace(-1, 1, 6).as_subclass(Older).requires_grad_()
    with torch.no_grad():
        assert torch.equal(relu(x, torch.empty(6)), torch.linspace(-1, 1, 6).relu())
    with pytest.raises(TypeError, match="requires a gradient"):
        relu(x, torch.empty(6))
    with pytest.raises(TypeError, match="resolve_neg"):
        relu(torch._neg_view(x.detach()), torch.empty(6))


@pytest.mark.parametrize("kind", ["meta", "sparse", "complex", "bool"])
def test_torch_tensors_that_are_refused(kind):
    torch = pytest.importorskip("torch")
    x = {
        "meta": lambda: torch.empty(3, device="meta"),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "complex": lambda: torch.ones(3, dtype=torch.complex64),
        "bool": lambda: torch.ones(3, dtype=torch.bool),
    }[kind]()
    with pytest.raises(
        TypeError, match=r"^relu: 'x' (of type Tensor cannot be read: .|has dtype torch\.)"
    ) as error:
        relu(x, torch.empty(3))
    assert "\n" not in str(error.value)


def test_numpy_alone_never_imports_torch():
    code = (
        "import sys, numpy as np, onepass; x = np.ones(3, np.float32);"
        "onepass._C.activation['relu'](x, x);"
        "late = {'torch', 'jax', 'cupy', 'onepass.nn', 'onepass.train'};"
        "sys.exit(bool(late & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- JAX


def test_jax_arrays_are_inputs_only():
    jnp = pytest.importorskip("jax.numpy")
    x = jnp.linspace(-1, 1, 8)
    assert np.array_equal(relu(x, np.empty(8, np.float32)), np.maximum(x, 0))
    with pytest.raises(TypeError, match="'out' is a JAX array, which is immutable"):
        relu(x, x)
