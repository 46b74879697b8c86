# The kernels. Results go to `out`, or where that is None to a new array; every check is on the
# other side.
# Reference: csrc/bind/.
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, final, type_check_only

from onepass._array import Array

__version__: str

@type_check_only
class Kernel(TypedDict):
    name: str
    kind: str
    operands: tuple[str, ...]
    optional: tuple[str, ...]
    hyper: tuple[
        str, ...
    ]  # of a rule that counts steps the last one is "step", which Plan fills in
    counts_steps: bool
    scalars: tuple[str, ...]
    starts: tuple[float, ...]  # of the scalars
    norms: tuple[str, ...]  # of each tensor, which a pass before the update measures
    factors: tuple[str, ...]  # the states of rows, of columns and of vectors; the last operands
    reads: int
    writes: int

# Activations by the kernel's name: activation[name](x, out, *options) and
# activation_backward[name](dy, x, out, *options); kernels() has the options, `hyper`, in order.

activation: dict[str, Callable[..., Array]]
activation_backward: dict[str, Callable[..., Array]]
# The same from y, activation_backward_y[name](dy, y, out), of those whose gradient follows from it.
activation_backward_y: dict[str, Callable[..., Array]]

def dropout(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...
def feature_dropout(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...
def alpha_dropout(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...
def alpha_dropout_backward(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...
def feature_alpha_dropout(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...
def feature_alpha_dropout_backward(
    x: Array, out: Array | None, p: float, seed: int | Array, offset: int | Array, first: int, /
) -> Array: ...

# Of a count on a CUDA device, one number of int64: copies it into `taken` and adds one.
def take_number(count: Array, taken: Array, /) -> None: ...
def dropout_mask(
    out: Array | None,
    shape: Sequence[int],
    p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    packed: bool,
    /,
) -> Array: ...

# Channel-wise: `axis` holds the channels, `options` are the activation's.

def bias_act(
    x: Array,
    bias: Array,
    out: Array | None,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> Array: ...
def bias_act_backward(
    dy: Array,
    x: Array,
    bias: Array,
    out: Array | None,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, Array]: ...

# The second result is what …_backward takes between dy and out.
def layer_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    out: Array | None,
    normalized_shape: Sequence[int],
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    normalized_shape: Sequence[int],
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    /,
) -> tuple[Array | None, ...]: ...
def rms_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    out: Array | None,
    normalized_shape: Sequence[int],
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def rms_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    normalized_shape: Sequence[int],
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    /,
) -> tuple[Array | None, ...]: ...
def group_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    out: Array | None,
    num_groups: int,
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def group_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    num_groups: int,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    /,
) -> tuple[Array | None, ...]: ...
def instance_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    out: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    momentum: float,
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def instance_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    /,
) -> tuple[Array | None, ...]: ...
def weight_norm(
    v: Array,
    g: Array,
    out: Array | None,
    /,
) -> Array: ...
def weight_norm_backward(
    dw: Array,
    v: Array,
    g: Array,
    /,
) -> tuple[Array, Array]: ...

# The second result is what the backward takes between dy and out.
def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    residual: Array | None,
    out: Array | None,
    axis: int,
    training: bool,
    momentum: float,
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def batch_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    axis: int,
    training: bool,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    add: Array | None,
    /,
) -> tuple[Array | None, ...]: ...

# A batch in several shares: ops/_shared_batch_norm.py. `share` and `shares` are float64.
def batch_norm_moments(x: Array, share: Array, axis: int, eps: float, /) -> None: ...
def batch_norm_of_shares(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    residual: Array | None,
    out: Array | None,
    shares: Array,
    axis: int,
    momentum: float,
    eps: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def batch_norm_backward_sums(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    share: Array,
    /,
) -> tuple[Array | None, Array | None, Array | None]: ...
def batch_norm_backward_of_shares(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    axis: int,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    shares: Array,
    dresidual: Array | None,
    out: Array | None,
    add: Array | None,
    /,
) -> Array: ...
def batch_renorm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    residual: Array | None,
    out: Array | None,
    axis: int,
    training: bool,
    momentum: float,
    eps: float,
    rmax: float,
    dmax: float,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    /,
) -> tuple[Array, tuple[Any, ...]]: ...
def batch_renorm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    statistics: Array,
    axis: int,
    training: bool,
    activation: str,
    options: tuple[float, ...],
    dropout_p: float,
    seed: int | Array,
    offset: int | Array,
    first: int,
    out: Array | None,
    add: Array | None,
    /,
) -> tuple[Array | None, ...]: ...
def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None,
    out: Array | None,
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
    /,
) -> tuple[Any, Array]: ...
def nll_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    out: Array | None,
    ignore_index: int,
    reduction: str,
    /,
) -> tuple[Any, Array]: ...
def wasserstein_1d(
    input: Array, target: Array, out: Array | None, reduction: str, /
) -> tuple[Any, Array]: ...

# Losses of elements by the kernel's name: pointwise_loss[name](input, target, out, reduction,
# *options), with pos_weight before `out` where the loss has one.
pointwise_loss: dict[str, Callable[..., tuple[Any, Array]]]

def softmax(x: Array, out: Array | None, axis: int, /) -> Array: ...
def log_softmax(x: Array, out: Array | None, axis: int, /) -> Array: ...
def softmax_backward(dy: Array, y: Array, out: Array | None, axis: int, /) -> Array: ...
def log_softmax_backward(dy: Array, y: Array, out: Array | None, axis: int, /) -> Array: ...
def im2col(
    x: Array,
    out: Array | None,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    channels_last: bool,
    /,
) -> Array: ...
def col2im(
    cols: Array,
    out: Array | None,
    size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    channels_last: bool,
    /,
) -> Array: ...
def max_pool2d(
    x: Array,
    out: Array | None,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    channels_last: bool,
    /,
) -> tuple[Array, Array]: ...
def max_pool2d_backward(
    dy: Array,
    out: Array | None,
    size: Any,
    indices: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    channels_last: bool,
    /,
) -> Array: ...
def avg_pool2d(
    x: Array,
    out: Array | None,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    channels_last: bool,
    /,
) -> Array: ...
def avg_pool2d_backward(
    dy: Array,
    out: Array | None,
    size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    channels_last: bool,
    /,
) -> Array: ...
def adaptive_avg_pool2d(
    x: Array, out: Array | None, output_size: Any, channels_last: bool, /
) -> Array: ...
def adaptive_avg_pool2d_backward(
    dy: Array, out: Array | None, size: Any, channels_last: bool, /
) -> Array: ...
def depthwise_conv2d(
    x: Array,
    out: Array | None,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    channels_last: bool,
    /,
) -> Array: ...
def depthwise_conv2d_backward(
    dy: Array,
    out: Array | None,
    size: Any,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    channels_last: bool,
    /,
) -> Array: ...
def depthwise_conv2d_weight_backward(
    x: Array,
    dy: Array,
    out: Array | None,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    channels_last: bool,
    /,
) -> Array: ...
def maxout(x: Array, out: Array | None, pieces: int, axis: int, /) -> Array: ...
def maxout_backward(dy: Array, x: Array, out: Array | None, pieces: int, axis: int, /) -> Array: ...
def glu(
    x: Array, activation: str, options: tuple[float, ...], axis: int, out: Array | None, /
) -> Array: ...
def glu_backward(
    dy: Array,
    x: Array,
    activation: str,
    options: tuple[float, ...],
    axis: int,
    out: Array | None,
    /,
) -> Array: ...

# The tables of arguments (csrc/bind/contract.h) that drive the checks.
def contracts() -> list[dict[str, Any]]: ...

# A 0-d array where the arrays lie on a device.
def global_norm(arrays: Sequence[Array], ord: float, /) -> Any: ...
@final
class Plan:
    # How many steps each parameter has taken. On a device, reading and writing wait for it.
    steps: list[int]
    # What a rule keeps for each parameter beside its step count, by the names in Kernel.scalars:
    # {"mu_product": [1.0, …]}, float64. A new plan has the rule's start values; assign a dict with
    # the same names to resume. A skipped step and a parameter without gradient leave them alone. On
    # a device with `steps` given the host counts, and a step that checks for non-finite gradients
    # leaves them alone too: the host does not know whether it is skipped. Empty for rules without
    # scalars. Each read makes a new dict.
    scalars: dict[str, list[float]]
    # Whether steps measure what they do to each parameter, and what the last one measured: (norms
    # of parameters, of gradients, of changes), lists with None where there was no gradient; on a
    # device (array, the parameters that had one, how many there are, device, stream), where the
    # array has two norms of each parameter, its own and its gradient's, then its change's.
    watch: bool
    # Whether a CUDA graph was captured that holds a step; `renew` gives its replays these rows of
    # hyper-parameters, as `step` takes them.
    @property
    def captured(self) -> bool: ...
    def renew(self, hyper: Any, /) -> None: ...
    @property
    def watched(self) -> tuple[Any, ...] | None: ...
    def __init__(
        self,
        kernel: str,
        params: Sequence[Array],
        states: Sequence[Sequence[Array] | None],
        groups: Sequence[int],
        steps: Sequence[int] | None = None,
        stages: Sequence[Sequence[Array | None] | None] | None = None,
        owner: str = "",  # whom messages name; "": the kernel
        /,
    ) -> None: ...
    # The steps as float32, into a buffer of them; on a device this waits.
    def write_steps(self, to: Any, /) -> None: ...
    # Of a plan made with `stages` (lists of averages and of master copies, None where a parameter
    # has none): what they do in each group, a value for each of STAGES, the rate of each group, by
    # which l1 is multiplied where the kernel has no rate of its own, and the seed of random bits.
    def set_stages(
        self, groups: Sequence[Sequence[float]], rates: Sequence[float], seed: int, /
    ) -> None: ...
    # The passes of a step over the parameters that `takes` says, in order, and the bytes that each
    # reads and writes: of a gradient that no step has seen, as many as of its parameter. `clips`,
    # `checks`, `zeroes`: whether the step has max_norm, check_nonfinite, zero_grad.
    def traffic(
        self, takes: Sequence[bool], clips: bool, checks: bool, zeroes: bool, /
    ) -> list[tuple[str, int]]: ...
    # (skipped, norm before clipping, index of the first parameter with a non-finite gradient); on a
    # device, where that is not known yet, (None, array of a NormResult, (index of each tensor's
    # parameter, device, stream))
    def step(
        self,
        grads: Sequence[Array | None],
        hyper: Sequence[Sequence[float]],
        unscale: float | Array,  # an array on a CUDA device: of what to divide by
        max_value: float | None,
        max_norm: float | Array | None,
        check_nonfinite: bool,
        zero_grad: bool,
        maximize: bool,
        zero_skipped: bool,
        /,
    ) -> tuple[Any, Any, Any]: ...

# The values of a row of Plan.set_stages, in order.
STAGES: tuple[str, ...]

# Rows of hyper-parameters, which a plan takes as `hyper`. It knows the values
# of `keys` in the groups, their lists "params" and what is in them. `follow` says whether all are
# still the same objects; if not, discard this one. A new float >= 0 of the key `rate`
# becomes the first value of the group's row.
@final
class GroupRows(Sequence[tuple[float, ...]]):
    def __init__(
        self,
        groups: list[dict[str, Any]],
        rate: str | None,
        keys: tuple[str, ...],
        rows: Sequence[Sequence[float]],
        low: float,  # a rate from low to below high is taken over
        high: float,
        /,
    ) -> None: ...
    def follow(self, groups: list[dict[str, Any]], /) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, group: int, /) -> tuple[float, ...]: ...  # type: ignore[override]

# States of 8 bits (csrc/core/codes.h): the elements of a block; of `size` elements the blocks, the
# byte at which the scales begin, and all bytes. codes_of: the memory of a state with the nearest
# codes of `values`; values_of: what codes are worth, the scale of each block being given.
CODE_BLOCK: int

def code_blocks(size: int, /) -> int: ...
def scales_at(size: int, /) -> int: ...
def coded_bytes(size: int, /) -> int: ...
def codes_of(values: Array, is_signed: bool, /) -> Array: ...
def values_of(codes: Array, scales: Array, is_signed: bool, /) -> Array: ...

# Whether `states` begins with the dicts of `seen` (key, dict, its values), and they hold what they
# held.
def same_states(
    states: dict[Any, dict[str, Any]],
    seen: tuple[tuple[Any, dict[str, Any], tuple[Any, ...]], ...],
    /,
) -> bool: ...
def kernels() -> list[Kernel]: ...
def cpu_level() -> str: ...
def cpu_levels() -> list[str]: ...
def set_cpu_level(level: str, /) -> None: ...
def set_test_backend(capsule: object, /) -> None: ...
def set_test_cuda_backend(capsule: object, /) -> None: ...
def get_num_threads() -> int: ...
@type_check_only
class ThreadLimits(TypedDict):
    processors: int  # of the machine
    affinity: int  # those that the calling thread may run on
    quota: int | None  # those that the quotas of control groups allow
    variable: str | None  # the environment variable that says the default
    default: int  # what get_num_threads is until somebody sets it

def thread_limits() -> ThreadLimits: ...
def set_num_threads(n: int, /) -> None: ...
def cuda_built() -> bool: ...
def lent() -> object: ...
def move_streams(
    reads: Sequence[Array],
    writes: Sequence[Array],
    updates: Sequence[Array],
    past_caches: bool,
    alone: bool,
    /,
) -> int: ...
def stream_shapes() -> tuple[tuple[int, int, int], ...]: ...
