"""Parameters in one buffer for each dtype: the form in which a step is a call on few arrays."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from onepass.jax._checks import FLOATS
from onepass.jax._targets import call, gathered, result

Leaves = tuple[tuple[tuple[int, ...], str], ...]


@partial(jax.tree_util.register_dataclass, data_fields=["buffers"], meta_fields=["tree", "leaves"])
@dataclass(frozen=True)
class FlatParams:
    """A pytree of parameters whose elements lie one after the other, leaf after leaf.

    It is a pytree itself: `jax.grad` with respect to one gives one, and `jax.jit` can be given its
    memory (``donate_argnums``).

    Attributes:
        buffers: name of a dtype → the elements of all leaves of that dtype.
        tree: the structure of the parameters.
        leaves: shape and dtype of each.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> parameters = onepass.jax.flat({"w": np.ones((2, 2), np.float32), "b": np.zeros(2)})
        >>> parameters.buffers["float32"].shape, parameters.unflatten()["w"].shape
        ((6,), (2, 2))
    """

    buffers: dict[str, jax.Array]
    tree: Hashable
    leaves: Leaves

    def unflatten(self) -> Any:
        """The parameters as they were given to `flat`: copies, which one call makes.

        Raises:
            ValueError: the buffers have other shapes than those that `flat` makes.
        """
        shapes = {dtype: buffer.shape for dtype, buffer in self.buffers.items()}
        if shapes != (wanted := {dtype: (size,) for dtype, size in sizes(self.leaves).items()}):
            raise ValueError(
                f"unflatten: the buffers have shapes {shapes}, expected {wanted}; those of several "
                "models are taken apart under jax.vmap"
            )
        found = _taken_apart(self.leaves, {d: gathered(b) for d, b in self.buffers.items()})
        return jax.tree_util.tree_unflatten(self.tree, found)  # type: ignore[arg-type]


# The gradient is one array put together of those of the leaves. As the sum of the gradients of
# slices, each as long as the whole, it would take the square of the time.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _taken_apart(leaves: Leaves, buffers: dict[str, jax.Array]) -> list[jax.Array]:
    found: list[Any] = [None] * len(leaves)
    for dtype, buffer in buffers.items():
        places = [i for i, leaf in enumerate(leaves) if leaf[1] == dtype]
        results = [result(leaves[i][0], buffer.dtype) for i in places]
        for i, array in zip(places, call("unflatten", "unflatten", results, buffer), strict=True):
            found[i] = array
    return found


def _taken_apart_forward(
    leaves: Leaves, buffers: dict[str, jax.Array]
) -> tuple[list[jax.Array], None]:
    return _taken_apart(leaves, buffers), None


def _taken_apart_backward(
    leaves: Leaves, _: None, gradients: list[jax.Array]
) -> tuple[dict[str, jax.Array]]:
    return (_put_together(gradients, leaves),)


_taken_apart.defvjp(_taken_apart_forward, _taken_apart_backward)


def _put_together(arrays: list[jax.Array], leaves: Leaves) -> dict[str, jax.Array]:
    """A buffer for each dtype of the leaves, which a gradient of cast buffers does not have."""
    pairs = [*zip(arrays, leaves, strict=True)]
    return {
        dtype: jnp.concatenate([array.ravel() for array, (_, own) in pairs if own == dtype])
        for dtype in sizes(leaves)
    }


def flat(params: Any) -> FlatParams:
    """The parameters of a pytree in one buffer for each dtype, for `apply`.

    Args:
        params: pytree of arrays of float32, float64, float16 or bfloat16; they are copied.

    Returns:
        FlatParams.

    Raises:
        TypeError: a leaf of another dtype.

    Source: the flat buffers of NVIDIA's Apex, and of `onepass.nn`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import onepass.jax
        >>> parameters = onepass.jax.flat([np.float32([1, 2]), np.float32(3)])
        >>> gradient = jax.grad(lambda p: p.unflatten()[1] * p.unflatten()[0].sum())(parameters)
        >>> gradient.buffers["float32"].tolist()
        [3.0, 3.0, 3.0]
    """
    leaves, tree = jax.tree_util.tree_flatten(params)
    arrays = checked("flat", "params", leaves)
    own = leaves_of(arrays)
    return FlatParams(_put_together(arrays, own), tree, own)


def checked(op: str, name: str, leaves: list[Any]) -> list[jax.Array]:
    """Leaves as arrays of floats."""
    arrays = []
    for number, leaf in enumerate(leaves):
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{op}: leaf {number} of {name!r} is a {type(leaf).__name__}, expected an array"
            ) from error
        if str(array.dtype) not in FLOATS:
            raise TypeError(
                f"{op}: leaf {number} of {name!r} has dtype {array.dtype}, expected float32, "
                "float64, float16 or bfloat16; keep other leaves apart, as optax.masked does"
            )
        arrays.append(array)
    return arrays


def leaves_of(arrays: list[jax.Array]) -> Leaves:
    """Shape and dtype of each."""
    return tuple((a.shape, str(a.dtype)) for a in arrays)


def of_dtype(leaves: Leaves, dtype: str) -> Leaves:
    return tuple(leaf for leaf in leaves if leaf[1] == dtype)


def sizes(leaves: Leaves) -> dict[str, int]:
    """How many elements there are of each dtype."""
    found: dict[str, int] = {}
    for shape, dtype in leaves:
        found[dtype] = found.get(dtype, 0) + math.prod(shape)
    return found
