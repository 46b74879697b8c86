# The kernels. Arrays are positional, outputs are written; every check is on the other side.
# Reference: csrc/bind/.
from collections.abc import Sequence
from typing import TypedDict, final, type_check_only

from onepass._array import Array

__version__: str

@type_check_only
class Kernel(TypedDict):
    name: str
    kind: str
    operands: tuple[str, ...]
    hyper: tuple[str, ...]
    reads: int
    writes: int

# Activations: y = f(x), dx = f'(x)·dy.

def identity(x: Array, out: Array, /) -> None: ...
def identity_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def relu(x: Array, out: Array, /) -> None: ...
def relu_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def leaky_relu(x: Array, out: Array, negative_slope: float, /) -> None: ...
def leaky_relu_backward(dy: Array, x: Array, out: Array, negative_slope: float, /) -> None: ...
def sigmoid(x: Array, out: Array, /) -> None: ...
def sigmoid_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def tanh(x: Array, out: Array, /) -> None: ...
def tanh_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def gelu(x: Array, out: Array, /) -> None: ...
def gelu_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def gelu_tanh(x: Array, out: Array, /) -> None: ...
def gelu_tanh_backward(dy: Array, x: Array, out: Array, /) -> None: ...
def dropout(x: Array, out: Array, p: float, seed: int, offset: int, /) -> None: ...
def dropout_mask(
    out: Array, count: int, p: float, seed: int, offset: int, packed: bool, /
) -> None: ...

# Channel-wise: `axis` holds the channels, `options` are the activation's.

def bias_act(
    x: Array,
    bias: Array,
    out: Array,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    p: float,
    seed: int,
    offset: int,
    /,
) -> None: ...
def bias_act_backward(
    dy: Array,
    x: Array,
    bias: Array,
    dx: Array | None,
    dbias: Array | None,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    p: float,
    seed: int,
    offset: int,
    /,
) -> None: ...
def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    residual: Array | None,
    y: Array,
    saved: Array,
    axis: int,
    batch_statistics: bool,
    momentum: float,
    eps: float,
    activation: str,
    options: tuple[float, ...],
    p: float,
    seed: int,
    offset: int,
    /,
) -> None: ...
def batch_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    saved: Array,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    dresidual: Array | None,
    axis: int,
    batch_statistics: bool,
    activation: str,
    options: tuple[float, ...],
    p: float,
    seed: int,
    offset: int,
    /,
) -> None: ...

# The loss, or None where `losses` took the place of it (reduction "none").
def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None,
    dlogits: Array,
    losses: Array | None,
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
    /,
) -> float | None: ...
def global_norm(arrays: Sequence[Array], ord: float, /) -> float: ...
@final
class Plan:
    steps: list[int]
    def __init__(
        self,
        kernel: str,
        params: Sequence[Array],
        states: Sequence[Sequence[Array]],
        groups: Sequence[int],
        /,
    ) -> None: ...
    # (skipped, norm before clipping, index of the first parameter with a non-finite gradient)
    def step(
        self,
        grads: Sequence[Array | None],
        hyper: Sequence[Sequence[float]],
        unscale: float,
        max_value: float | None,
        max_norm: float | None,
        check_nonfinite: bool,
        zero_grad: bool,
        maximize: bool,
        /,
    ) -> tuple[bool, float | None, int | None]: ...

def kernels() -> list[Kernel]: ...
def cpu_level() -> str: ...
def cpu_levels() -> list[str]: ...
def set_cpu_level(level: str, /) -> None: ...
def set_test_backend(capsule: object, /) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def cuda_built() -> bool: ...
