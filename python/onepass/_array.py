"""One set of functions over arrays of NumPy, CuPy and PyTorch; no other file tells them apart.

The module of an array's type says which library made it. Only libraries that the program has
imported are used, except that moving an array to CUDA imports CuPy. csrc/bind calls some of these
functions to allocate results; ``onepass._cuda_memory`` has those for CUDA memory and streams.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
DType: TypeAlias = Any


def library(x: Array) -> Any:
    """The module that makes arrays like ``x``: numpy, cupy or torch; numpy also for a CPU array of
    any other library with DLPack (JAX), to which `returned` hands results over."""
    if isinstance(x, np.ndarray):
        return np
    root = type(x).__module__.partition(".")[0]
    if root == "torch" or (root != "cupy" and is_tensor_of_torch(x)):
        return sys.modules["torch"]
    if root == "cupy":
        return sys.modules["cupy"]
    if _on_cpu(x):
        return np
    raise TypeError(
        f"outputs cannot be allocated for {type(x).__name__}: pass 'out', or a NumPy array, a CuPy "
        "array or a PyTorch tensor"
    )


def _on_cpu(x: Array) -> bool:
    device = getattr(x, "__dlpack_device__", None)
    cpu, pinned = 1, 3  # memory of the CPU that a GPU reads too
    return device is not None and hasattr(x, "__dlpack__") and int(device()[0]) in (cpu, pinned)


def returned(made: Array, like: Array) -> Array:
    """``made``, a NumPy array that nobody else holds, in the library of ``like``: an array of the
    same memory where that library follows the array API and takes it, and NumPy's own where not."""
    if isinstance(like, np.ndarray) or getattr(like, "__array_namespace__", None) is None:
        return made
    handed = _handed(made, like)
    # Without x64 JAX takes 64 bits for 32.
    name = str(getattr(handed, "dtype", "")).rpartition(".")[2]  # some have the library before it
    return handed if name == made.dtype.name else made


def _handed(made: Array, like: Array) -> Any:
    """``made`` as the library of ``like`` takes it; None if it does not."""
    refused = (AttributeError, BufferError, RuntimeError, TypeError, ValueError)
    try:
        space = like.__array_namespace__()
    except refused:
        return None
    for take in ("from_dlpack", "asarray"):  # the second for bfloat16, of which NumPy exports none
        try:
            return getattr(space, take)(made)
        except refused:
            continue
    return None


def as_ndarray(x: Array) -> np.ndarray[Any, Any]:
    """A NumPy array of the memory of a CPU array: of NumPy, or of any library with DLPack."""
    if isinstance(x, np.ndarray):
        return x
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError):  # bfloat16, of which DLPack tells NumPy nothing
        array = np.asarray(x)
    if array.dtype == object:  # of the producer itself, which has no other way
        raise TypeError(
            f"NumPy cannot read the bfloat16 of {type(x).__name__}: pass 'out', or float32"
        )
    return array


_whole: list[Any] = []  # the module of PyTorch that is known to be imported to its end


def torch_if_imported() -> Any:
    """PyTorch where the program has imported it; None before, while another thread does, and for
    what stands in its place."""
    torch = sys.modules.get("torch")
    if torch is None or (_whole and torch is _whole[0]):
        return torch
    spec = getattr(torch, "__spec__", None)
    if getattr(spec, "_initializing", False) or not hasattr(torch, "Tensor"):
        return None
    _whole[:] = [torch]
    return torch


def is_tensor_of_torch(x: Any) -> bool:
    """Whether ``x``, which may be anything, is a tensor of PyTorch."""
    torch = torch_if_imported()
    return torch is not None and isinstance(x, torch.Tensor)


def is_torch(lib: Any) -> bool:
    return lib is not np and lib.__name__ == "torch"


def empty_like(x: Array) -> Array:
    """An uninitialised array of the shape, dtype, device and memory order of ``x``."""
    lib = library(x)
    if is_torch(lib):
        return lib.empty_like(x, requires_grad=False)
    if lib is np:
        return np.empty_like(as_ndarray(x), subok=False)
    with x.device:
        return lib.empty_like(x)


def empty(shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
    """An uninitialised C-contiguous array beside ``like``."""
    lib = library(like)
    if is_torch(lib):
        return lib.empty(shape, dtype=dtype, device=like.device)
    if lib is np:
        return np.empty(shape, as_ndarray(like).dtype if dtype is None else dtype)
    with like.device:
        return lib.empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
    """A C-contiguous array of zeros beside ``like``."""
    lib = library(like)
    if is_torch(lib):
        return lib.zeros(shape, dtype=dtype, device=like.device)
    if lib is np:
        return np.zeros(shape, dtype)
    with like.device:
        return lib.zeros(shape, dtype)


def zeros_like(x: Array, dtype: DType) -> Array:
    """Zeros of the shape and memory order of ``x``, to be kept: a state, a sum.

    Raises:
        RuntimeError: a CUDA graph is being captured.
    """
    refuse_capture_beside(x)
    lib = library(x)
    if is_torch(lib):
        return lib.zeros_like(x, dtype=dtype, requires_grad=False)
    if lib is np:
        return np.zeros_like(as_ndarray(x), dtype=dtype)
    with x.device:
        return lib.zeros_like(x, dtype=dtype)


def refuse_capture_beside(x: Array) -> None:
    """As :func:`refuse_capture`, where ``x`` lies on a CUDA device."""
    lib = library(x)
    if is_torch(lib):
        if x.is_cuda:
            refuse_capture(lib)
    elif lib is not np:
        with x.device:
            refuse_capture(lib)


def refuse_capture(lib: Any) -> None:
    """Raises RuntimeError where the current stream of CuPy or PyTorch captures a CUDA graph: what
    is zeroed there is zeroed again at each replay, and with it the states of an optimizer."""
    if _captures(lib):
        raise RuntimeError(
            "a CUDA graph is being captured, and each replay of it would set the states of an "
            "optimizer that are made now to zero again: make the optimizer, and take its first "
            "step, before the capture begins"
        )


def _captures(lib: Any) -> bool:
    if is_torch(lib):
        return bool(lib.cuda.is_current_stream_capturing())
    return bool(lib.cuda.get_current_stream().is_capturing())


def is_capturing(x: Array) -> bool:
    """Whether ``x`` is on a CUDA device and its library's current stream captures a graph."""
    lib = library(x)
    if lib is np or (is_torch(lib) and not x.is_cuda):
        return False
    if is_torch(lib):
        return _captures(lib)
    with x.device:
        return _captures(lib)


def is_floating(x: Array) -> bool:
    """Whether ``x`` holds real floating-point numbers (bfloat16 counts), in any library."""
    dtype = x.dtype
    kind = getattr(dtype, "kind", "V")  # those of PyTorch have none, and that of bfloat16 is "V"
    return kind == "f" or (kind == "V" and "float" in str(getattr(dtype, "name", dtype)))


def is_contiguous(x: Array) -> bool:
    """Whether ``x`` is dense in C order."""
    lib = library(x)
    if is_torch(lib):
        return bool(x.is_contiguous())
    return bool((as_ndarray(x) if lib is np else x).flags.c_contiguous)


def layout(x: Array) -> list[tuple[int, int]]:
    """(stride in elements, extent) of each axis of more than one element."""
    lib = library(x)
    if is_torch(lib):
        strides = x.stride()
    else:
        own = as_ndarray(x) if lib is np else x
        strides = [stride // own.itemsize for stride in own.strides]
    return [(s, n) for s, n in zip(strides, x.shape, strict=True) if n != 1]


def is_dense(x: Array) -> bool:
    """Whether the elements of ``x`` fill one stretch of memory, in whatever order of axes."""
    reach, axes = 1, layout(x)
    for stride, extent in sorted((abs(s), n) for s, n in axes):
        if stride != reach and 0 not in x.shape:
            return False
        reach *= extent
    return True


def contiguous(x: Array) -> Array:
    """``x``, or a copy of it, dense in C order."""
    if type(x) is np.ndarray:
        return x if x.flags.c_contiguous else np.ascontiguousarray(x)
    try:
        lib = library(x)
    except TypeError:
        return x  # the border refuses it
    if is_torch(lib):
        return x.detach().contiguous() if x.requires_grad else x.contiguous()
    if lib is np:
        return np.ascontiguousarray(as_ndarray(x))
    if x.flags.c_contiguous:
        return lib.ascontiguousarray(x)
    with x.device:
        return kept(lib.ascontiguousarray(x))


def convert(x: Array, dtype: str) -> Array:
    """The values of ``x`` in another dtype, in C order."""
    lib = library(x)
    if is_torch(lib):
        return x.contiguous().to(getattr(lib, dtype))
    if lib is np:
        return as_ndarray(x).astype(dtype, "C")
    with x.device:
        return kept(x.astype(dtype, "C"))


def parameter_dtype(x: Array) -> DType:
    """The dtype of per-channel values and optimizer state: float64 for float64, else float32."""
    lib = library(x)
    if is_torch(lib):
        return lib.float64 if x.dtype == lib.float64 else lib.float32
    dtype = as_ndarray(x).dtype if lib is np else x.dtype
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def bfloat16(x: Array) -> DType:
    """The dtype bfloat16 of the library of ``x``.

    Raises:
        ModuleNotFoundError: it is NumPy's or CuPy's, which take it from ml_dtypes.
    """
    if is_torch(lib := library(x)):
        return lib.bfloat16
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def scalar(value: float, like: Array) -> Any:
    """A 0-d value of the computing type of ``like``, in its library."""
    dtype = parameter_dtype(like)
    lib = library(like)
    if is_torch(lib):
        return lib.tensor(value, dtype=dtype, device=like.device)
    if lib is np:
        number = dtype.type(value)
        handed = returned(np.asarray(number), like)
        return number if isinstance(handed, np.ndarray) else handed
    with like.device:
        return lib.asarray(value, dtype)


def negative(x: Array) -> Array:
    """A new array of -x, also without axes."""
    if library(x) is not np:
        return -x
    own = as_ndarray(x)
    return np.negative(own, out=np.empty_like(own, subok=False))


def copy_into(to: Array, value: Any) -> None:
    """Overwrites an array with another of the same shape, or with a number."""
    lib = library(to)
    if is_torch(lib):
        if isinstance(value, (int, float)):  # in the dtype of `to`, not by way of float32
            value = lib.tensor(value, dtype=to.dtype)
        with lib.no_grad():
            to.copy_(lib.as_tensor(value, device=to.device))
    elif isinstance(value, (int, float)):
        to[...] = value
    elif lib is np:
        as_ndarray(to)[...] = to_numpy(value)
    else:
        to[...] = brought_to(to, value)


def beside(like: Array, value: np.ndarray[Any, Any]) -> Array:
    """``value`` on the device of ``like``: itself if that is a NumPy array, else a copy."""
    lib = library(like)
    if lib is np:
        return value
    if is_torch(lib):
        return lib.from_numpy(value).to(like.device)
    with like.device:
        return lib.asarray(value)


def converted(value: Any, like: Array, dtype: DType) -> tuple[Array, Any]:
    """``value`` in a dtype and where ``like`` lies: itself or a copy; and a finite number of it
    that the dtype does not have, None if it has all."""
    lib = library(like)
    if is_torch(lib):
        source = lib.as_tensor(value, device=like.device).detach()
        result = source.to(dtype)
    else:
        source = to_numpy(value) if lib is np else brought_to(like, value)
        with np.errstate(all="ignore"):
            result = source.astype(dtype, copy=False)
    if source.dtype == result.dtype:
        return result, None
    wrong = lib.isfinite(source) & ~lib.isfinite(result)
    if not bool(wrong.any()):
        return result, None
    lost = source[wrong][0]
    return result, lost if lib is np else float(lost)


def brought_to(like: Array, value: Array) -> Array:
    """``value`` in the library and on the device of ``like``: itself or a copy."""
    lib = library(like)
    if library(value) is lib and (lib is np or value.device == like.device):
        return value
    return beside(like, to_numpy(value))


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """A host array from a NumPy, CuPy or PyTorch array, or anything NumPy reads."""
    if hasattr(value, "detach"):  # torch.Tensor
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    elif hasattr(value, "__cuda_array_interface__"):
        value = _cupy().asnumpy(value)
    return np.asarray(value)


def mover(device: str, owner: str = "to") -> Callable[[Array], Array]:
    """A function that returns an array on ``device``: the argument itself or a copy.

    Raises:
        ValueError: the device is not "cpu", "cuda" or "cuda:N".
        RuntimeError: CuPy or the CUDA device is not usable.
    """
    kind, _, index = str(device).partition(":")
    if device == "cpu":
        return to_numpy
    if kind != "cuda" or not (index.isdecimal() or device == "cuda"):
        raise ValueError(f"{owner}: 'device' is {device!r}, expected 'cpu', 'cuda' or 'cuda:N'")
    cupy = _cupy()
    device_of = cupy.cuda.Device(int(index)) if index else cupy.cuda.Device()
    return partial(_to_cuda, int(device_of.id))


def _to_cuda(device: int, array: Array) -> Array:
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(device):
        return cupy.asarray(array)


def _cupy() -> Any:
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises types of its own for a missing driver or device
        raise RuntimeError(
            f"CUDA cannot be used: {error}. Modules on CUDA hold CuPy arrays: install CuPy for "
            "your CUDA version (pip install cupy-cuda13x) on a machine with an NVIDIA driver, or "
            "stay on 'cpu'"
        ) from error
    return cupy


_captured: list[Array] = []


def keep_for_graph(array: Array) -> None:
    """Keeps memory for good that the launches of a CUDA graph use, once however many steps of it
    do."""
    if not any(array is kept for kept in _captured):
        _captured.append(array)


def kept(made: Array) -> Array:
    """``made``, a CuPy array, kept for good if a CUDA graph is being captured.

    Each launch of the graph writes to it, and CuPy's pool would hand out its memory again.
    """
    if sys.modules["cupy"].cuda.get_current_stream().is_capturing():
        _captured.append(made)
    return made
