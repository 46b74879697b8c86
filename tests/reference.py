"""Float64 NumPy references, written as the papers write them: whole arrays, no blocking, nothing in
place. They share no code with the package. Arrays come in and go out as float64; a caller that
tests float16 rounds its inputs first, so that the reference sees exactly what the kernel sees.
"""

import functools
import math

import numpy as np

quiet = np.errstate(all="ignore")

# ---------------------------------------------------------------------------------- activations
# name -> (f(x), f'(x)), both with the options of the public function.

_erfc = np.frompyfunc(math.erfc, 1, 1)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _normal_cdf(x):
    return np.asarray(_erfc(-x / math.sqrt(2)), float) / 2  # 1 + erf(x) would cancel below 0


def _gelu(x, approximate="none"):
    if approximate == "none":
        return x * _normal_cdf(x)
    return x * _sigmoid(
        2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    )  # (1 + tanh u)/2 = σ(2u)


def _gelu_slope(x, approximate="none"):
    if approximate == "none":
        return _normal_cdf(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    c = 2 * math.sqrt(2 / math.pi)
    u = c * (x + 0.044715 * x**3)
    s = _sigmoid(u)
    return s + x * s * _sigmoid(-u) * c * (1 + 3 * 0.044715 * x**2)  # 1 - s would cancel


def _silu_slope(x):
    return _sigmoid(x) * (1 + x * _sigmoid(-x))


ACTIVATIONS = {
    "identity": (lambda x: x, lambda x: np.ones_like(x)),
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": (
        lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
        lambda x, negative_slope=0.01: np.where(x > 0, 1.0, negative_slope),
    ),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "gelu": (_gelu, _gelu_slope),
    "silu": (lambda x: x * _sigmoid(x), _silu_slope),
}


@quiet
def activation(name, x, **options):
    return ACTIVATIONS[name][0](x, **options)


@quiet
def activation_backward(name, dy, x, **options):
    return dy * ACTIVATIONS[name][1](x, **options)


def _split(spec):
    """An activation argument (None, a name, or a pair of name and options) as (name, options)."""
    if spec is None:
        return "identity", {}
    return (spec, {}) if isinstance(spec, str) else spec


# -------------------------------------------------------------------------------------- dropout

_LOW = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """Philox4x32-10 of Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.

    counter: four uint64 arrays that hold 32-bit words; key: two ints. Returns four such arrays.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        left = np.uint64(0xD2511F53) * c0
        right = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (right >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            right & _LOW,
            (left >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            left & _LOW,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@functools.lru_cache(maxsize=64)
def uniform_bits(size, seed, offset):
    """u(e) of the elements 0 … size - 1 as integers: 32-bit fractions times 2³²."""
    e = np.arange(size, dtype=np.uint64)
    row, word = (
        (e // np.uint64(128)).astype(np.intp),
        (e // np.uint64(32) % np.uint64(4)).astype(int),
    )
    bit, groups = e % np.uint64(32), np.arange(-(-size // 128), dtype=np.uint64)
    u = np.zeros(size, np.uint64)
    for k in range(32):  # bit plane k is the k-th most significant bit of u
        words = philox(
            (
                groups & _LOW,
                (groups >> np.uint64(32)) | np.uint64(k << 24),
                np.full_like(groups, offset & 0xFFFFFFFF),
                np.full_like(groups, offset >> 32),
            ),
            (seed & 0xFFFFFFFF, seed >> 32),
        )
        plane = np.stack(words, axis=-1)[row, word]
        u = (u << np.uint64(1)) | ((plane >> bit) & np.uint64(1))
    u.flags.writeable = False
    return u


def dropout_mask(shape, p=0.5, *, seed, offset=0, packed=False):
    """True where kept: u(e) >= round(p·2³²), u(e) the 32-bit fraction of element e."""
    kept = uniform_bits(math.prod(shape), seed, offset) >= np.uint64(round(p * 2**32))
    return np.packbits(kept, bitorder="little") if packed else kept.reshape(shape)


def dropout_scale(p):
    threshold = round(p * 2**32)
    return 1 / (1 - threshold / 2**32) if threshold < 2**32 else 0.0


@quiet
def dropout(x, p=0.5, *, seed, offset=0):
    keep = dropout_mask(x.shape, p, seed=seed, offset=offset)
    return np.where(keep, x * dropout_scale(p), 0.0)


# ------------------------------------------------------------------------------- bias_act, norms


def _per_channel(v, ndim, axis):
    """A vector of channels, shaped to broadcast along `axis` of an array of `ndim` axes."""
    shape = [1] * ndim
    shape[axis] = -1
    return np.reshape(v, shape)


def _epilogue(z, activation_, dropout_p, seed, offset):
    name, options = _split(activation_)
    return dropout(activation(name, z, **options), dropout_p, seed=seed, offset=offset)


def _epilogue_backward(dy, z, activation_, dropout_p, seed, offset):
    name, options = _split(activation_)
    da = dropout(dy, dropout_p, seed=seed, offset=offset)
    return activation_backward(name, da, z, **options)


def bias_act(x, bias, *, axis=1, activation=None, dropout_p=0.0, seed=0, offset=0):
    z = x + _per_channel(bias, x.ndim, axis)
    return _epilogue(z, activation, dropout_p, seed, offset)


def bias_act_backward(dy, x, bias, *, axis=1, activation=None, dropout_p=0.0, seed=0, offset=0):
    z = x + _per_channel(bias, x.ndim, axis)
    dx = _epilogue_backward(dy, z, activation, dropout_p, seed, offset)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return dx, dx.sum(axis=others)


class BatchNorm:
    """y = dropout(act(xh·w + b + r)): Ioffe & Szegedy, Batch Normalization, 2015, as in PyTorch.

    Computed once for forward and backward; see `y`, `running_mean`, `running_var`, `backward(dy)`.
    """

    @quiet
    def __init__(
        self,
        x,
        weight,
        bias,
        running_mean,
        running_var,
        *,
        training,
        momentum=0.1,
        eps=1e-5,
        residual=None,
        activation=None,
        dropout_p=0.0,
        seed=0,
        offset=0,
        channels_last=False,
    ):
        self.axis = x.ndim - 1 if channels_last else 1
        self.others = tuple(i for i in range(x.ndim) if i != self.axis)
        self.batch_statistics = training
        self.n = n = x.size // x.shape[self.axis] if x.size else 0
        self.running_mean, self.running_var = running_mean, running_var
        if training and n:
            # Shifted by one sample of the channel: a constant channel has variance 0 exactly.
            shift = np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1)[:, 0]
            d = x - self._wide(x, shift)
            moved = d.mean(axis=self.others)
            centred = d - self._wide(x, moved)
            mean, var = shift + moved, (centred**2).mean(axis=self.others)
            if running_mean is not None:
                self.running_mean = (1 - momentum) * running_mean + momentum * mean
            if running_var is not None:
                self.running_var = (1 - momentum) * running_var + momentum * var * n / (n - 1)
        elif training:  # an empty batch changes nothing
            mean, var, centred = np.zeros(x.shape[self.axis]), np.ones(x.shape[self.axis]), x
        else:
            mean, var = running_mean, running_var
            centred = x - self._wide(x, mean)
        self.mean, self.var = mean, var
        self.invstd = 1 / np.sqrt(var + eps)
        self.xh = centred * self._wide(x, self.invstd)
        self.weight, self.bias, self.residual = weight, bias, residual
        z = self.xh
        if weight is not None:
            z = z * self._wide(x, weight)
        if bias is not None:
            z = z + self._wide(x, bias)
        if residual is not None:
            z = z + residual
        self.z = z
        self.tail = (activation, dropout_p if training else 0.0, seed, offset)
        self.y = _epilogue(z, *self.tail)

    def _wide(self, x, v):
        return _per_channel(v, x.ndim, self.axis)

    @quiet
    def backward(self, dy):
        """(dx, dweight, dbias, dresidual), None where the input was None."""
        g = _epilogue_backward(dy, self.z, *self.tail)
        dbias = g.sum(axis=self.others)
        dweight = (g * self.xh).sum(axis=self.others)
        w = 1.0 if self.weight is None else self._wide(dy, self.weight)
        if self.batch_statistics and self.n:
            inner = self.n * g - self._wide(dy, dbias) - self.xh * self._wide(dy, dweight)
            dx = w * self._wide(dy, self.invstd) / self.n * inner
        else:
            dx = g * w * self._wide(dy, self.invstd)
        return (
            dx,
            None if self.weight is None else dweight,
            None if self.bias is None else dbias,
            None if self.residual is None else g,
        )


# ---------------------------------------------------------------------------------------- losses


@quiet
def cross_entropy(
    logits, target, *, label_smoothing=0.0, ignore_index=-100, weight=None, reduction="mean"
):
    """(loss, dlogits) as PyTorch defines them, axis 1 of logits being the classes.

    loss = Σ_c a_c·(-log p_c) with a_c = w_c·((1-ε)·t_c + ε/C). With class indices t is one-hot, an
    ignored target has a = 0, and "mean" divides by Σ w[target]; with probabilities by the count.
    """
    classes = logits.shape[1]
    w = np.ones(classes) if weight is None else weight
    w = _per_channel(w, logits.ndim, 1)
    top = logits.max(axis=1, keepdims=True) if logits.size else logits[:, :1]
    shifted = logits - top
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if np.issubdtype(target.dtype, np.integer):
        used = np.expand_dims(target != ignore_index, 1)
        index = np.where(used, np.expand_dims(target, 1), 0)
        one_hot = np.arange(classes).reshape(_per_channel(range(classes), logits.ndim, 1).shape)
        t = (one_hot == index) * 1.0
        a = np.where(used, w * ((1 - label_smoothing) * t + label_smoothing / classes), 0.0)
        count = (np.where(used, w * t, 0.0)).sum()
    else:
        a = w * ((1 - label_smoothing) * target + label_smoothing / classes)
        count = logits.size / classes
    losses = np.where(a == 0, 0.0, -a * log_p).sum(axis=1)
    dlogits = np.exp(log_p) * a.sum(axis=1, keepdims=True) - a
    dlogits = np.where(a.any(axis=1, keepdims=True), dlogits, 0.0)
    if reduction == "none":
        return losses, dlogits
    if reduction == "sum":
        return losses.sum(), dlogits
    return losses.sum() / count, np.where(dlogits == 0, 0.0, dlogits / count)


@quiet
def global_norm(arrays, ord=2):
    flat = np.concatenate([np.ravel(a) for a in arrays] or [np.zeros(0)])
    if ord == 1:
        return np.abs(flat).sum()
    if ord == 2:
        return np.sqrt((flat**2).sum())
    return np.abs(flat).max() if flat.size else 0.0


# ------------------------------------------------------------------------------------ optimizers
# One parameter, one step; each returns what it was given, updated. step is 1 on the first call.


def sgd(
    p,
    g,
    b=None,
    *,
    step,
    lr=1e-3,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
):
    g = (-g if maximize else g) + weight_decay * p
    if momentum == 0:
        return p - lr * g, b
    b = g if step == 1 else momentum * b + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), b


def adam(
    p,
    g,
    m,
    v,
    v_max=None,
    *,
    step,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    maximize=False,
    decoupled=False,
):
    g = -g if maximize else g
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    largest = v
    if v_max is not None:
        v_max = largest = np.maximum(v_max, v)
    denominator = np.sqrt(largest) / math.sqrt(1 - betas[1] ** step) + eps
    return p - lr / (1 - betas[0] ** step) * m / denominator, m, v, v_max


def adamw(*arrays, weight_decay=1e-2, **options):
    return adam(*arrays, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, g, v, *, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    v = alpha * v + (1 - alpha) * g**2
    return p - lr * g / (np.sqrt(v) + eps), v


def clip(grads, *, grad_scale=None, max_value=None, max_norm=None):
    """Gradients as the update sees them, and the norm that is reported (after unscaling only)."""
    grads = [None if g is None else g / (1.0 if grad_scale is None else grad_scale) for g in grads]
    norm = global_norm([g for g in grads if g is not None])
    if max_value is not None:
        grads = [None if g is None else np.clip(g, -max_value, max_value) for g in grads]
    if max_norm is not None:
        total = global_norm([g for g in grads if g is not None])
        coefficient = np.minimum(1.0, max_norm / (total + 1e-6))  # NaN stays NaN
        grads = [None if g is None else g * coefficient for g in grads]
    return grads, norm
