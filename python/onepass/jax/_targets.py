"""The kernels as targets of XLA: registered at the first call, then called by their names."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

import jax
import numpy as np

LEAST = (0, 6, 1)  # of jaxlib: the first with the interface that third_party/xla is of


_ONE_AT_A_TIME = Lock()


def register() -> None:
    """Hands the kernels to XLA, once: another thread that calls meanwhile waits.

    Raises:
        ImportError: a jaxlib that cannot take them. To register them there would stop its CPU
            backend from starting.
    """
    with _ONE_AT_A_TIME:
        _register()


@cache
def _register() -> None:
    version: str = importlib.import_module("jaxlib.version").__version__
    found = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if found < LEAST:
        least = ".".join(map(str, LEAST))
        raise ImportError(
            f"onepass.jax: jaxlib is {version}, expected {least} or newer: "
            f'pip install -U "jax>={least}"'
        )
    from onepass import _C, _jax

    for name, handler in _jax.targets(_C.lent(), _release()).items():
        jax.ffi.register_ffi_target(name, handler, platform="cpu")
        for platform in ("CUDA", "ROCM"):
            jax.ffi.register_ffi_target(name, _jax.no_device(), platform=platform)


@cache
def _release() -> int:
    """What stands for the order of kernels and arguments, which each call carries: a program that
    was exported by another release is refused."""
    import onepass
    from onepass import _C

    words = repr((onepass.__version__, _C.kernels())).encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little", signed=True)


def call(
    target: str,
    op: str,
    results: Sequence[jax.ShapeDtypeStruct],
    *arguments: Any,
    vmap: str = "sequential",
    aliases: dict[int, int] | None = None,
    **attributes: int | float | tuple[float, ...],
) -> list[jax.Array]:
    """The results of a kernel; ``op`` is what its messages call it.

    Attributes are constants of the compiled function. Whole numbers, and those of a tuple, go as
    64 bits whether or not JAX has such arrays.
    """
    register()
    constants = {name: _constant(value) for name, value in attributes.items() if value != ()}
    function = jax.ffi.ffi_call(
        f"onepass_{target}", list(results), vmap_method=vmap, input_output_aliases=aliases
    )
    arguments = together(*arguments)
    found = function(*arguments, op=op, release=np.int64(_release()), **constants)
    return list(together(*found, like=arguments))


def together(*arrays: Any, like: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Arrays that vary over the same axes of a mesh, those over which any of them or ``like`` does.

    Inside `jax.shard_map` JAX keeps track of what differs between devices, and derives from it
    where gradients are added up; of the results of a custom call it would believe that they are
    the same everywhere. None stays None.
    """
    axes = [_axes(array) for array in arrays]
    wanted = frozenset().union(*axes, *map(_axes, like))
    pairs = zip(arrays, axes, strict=True)
    return tuple(a if not wanted - own or a is None else _vary(a, wanted - own) for a, own in pairs)


def gathered(array: Any) -> Any:
    """A whole array in the place of one of which its type says that devices hold parts.

    So it is on a mesh of explicit axes, which `jax.make_mesh` of JAX 0.10 makes. XLA gathers it for
    a custom call in any case; here it is done in sight of `jax.grad`, to which the gradient of an
    array must have the parts of that array.
    """
    sharding: Any = jax.sharding
    if not hasattr(sharding, "reshard"):  # JAX 0.6, whose types say it in experiments alone
        return array
    own = jax.typeof(array).sharding
    if not any(own.spec):
        return array
    return sharding.reshard(array, sharding.NamedSharding(own.mesh, sharding.PartitionSpec()))


def _axes(array: Any) -> frozenset[Any]:
    """Of a mesh, those over which an array varies."""
    if array is None or not isinstance(array, jax.core.Tracer):
        return frozenset()
    kind = jax.typeof(array)
    if hasattr(kind, "mat"):  # since JAX 0.10
        return frozenset(kind.mat.varying)
    return frozenset(getattr(kind, "vma", ()))


def _vary(array: Any, axes: frozenset[Any]) -> Any:
    names = tuple(sorted(axes))
    lax: Any = jax.lax
    if hasattr(lax, "pcast"):  # since JAX 0.8.2
        return lax.pcast(array, names, to="varying")
    return lax.pvary(array, names)


def _constant(value: int | float | tuple[float, ...]) -> Any:
    if isinstance(value, tuple):
        return np.asarray(value, np.float64)
    return np.int64(value) if isinstance(value, int) else np.float64(value)


def result(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """What a call is to make."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def like(x: Any) -> jax.ShapeDtypeStruct:
    """A result of the shape and dtype of ``x``."""
    return result(x.shape, x.dtype)


NOTHING = np.zeros(0, np.float32)  # in the place of an array that is not given
NO_RESULT = result((0,), np.float32)
