"""The riders of an optimizer as stages written one after another in NumPy, around a plain step."""

from __future__ import annotations

import itertools

import numpy as np
from cases import as_float64, computing
from cases.dropout import philox
from onepass import optim
from onepass.ops._ranges import SQUARES

NOISE, ROUNDING, LIMIT = 64, 65, 66  # csrc/core/philox.h, Draw
WEYL, LOW = 0x9E3779B9, 0xFFFFFFFF  # csrc/kernels/rounding.h

RIDERS = {
    "l1": 0.03,
    "max_weight_norm": 1.5,
    "ema_decay": 0.75,
    "noise": 0.25,
    "cautious": True,
}
VALUES = {  # of each stage, by the name that the extension gives it: an option, and what it becomes
    "l1": ({"l1": 0.5}, 0.5),
    "max_weight_norm": ({"max_weight_norm": 2.0}, 2.0),
    "average_gain": ({"ema_decay": 0.75}, 0.25),
    "noise": ({"noise": 0.25}, 0.25),
    "cautious": ({"cautious": True}, 1.0),
    "stochastic_rounding": ({"stochastic_rounding": True}, 1.0),
    "dither": ({"state_dtype": "bfloat16"}, 1.0),
}
ALONE = [{name: value} for name, value in RIDERS.items()]
PAIRS = [dict(pair) for pair in itertools.combinations(RIDERS.items(), 2)]
COMBINATIONS = [*ALONE, *PAIRS, RIDERS]


def riders_of(variant):
    """RIDERS without those that an optimizer refuses."""
    refused = variant.record.cls._refused_riders()
    return {name: value for name, value in RIDERS.items() if name not in refused}


def may_be_coded(variant):
    """Whether its states may be of 8 bits."""
    opt = variant.make([np.ones(1, np.float32)])
    return all(state.code is not None for state, _ in opt._kept_states())


def label(riders):
    return "+".join(riders) or "none"


def words(seed, draw, parameter, step, size):
    """The 32 random bits of each element of a parameter in a step."""
    groups = np.arange(-(-size // 4), dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    counter = (
        groups & low,
        (groups >> np.uint64(32)) | np.uint64(draw << 24),
        np.full_like(groups, step),
        np.full_like(groups, parameter),
    )
    drawn = np.stack(philox(counter, (seed & 0xFFFFFFFF, seed >> 32)), axis=-1)
    return drawn.ravel()[:size].astype(np.uint32)


def rounded_at_random(x, dtype, random):
    """float32 values as one of their two neighbours of 16 bits."""
    x = np.asarray(x, np.float32)
    kept = np.dtype(dtype)
    down = x.astype(np.float64)
    bits = x.view(np.uint32)
    cut = np.uint32(0x1FFF if kept == np.float16 else 0xFFFF)
    with np.errstate(over="ignore"):
        y = ((bits + (random & cut)) & ~cut).view(np.float32)
        nearest = x.astype(kept).astype(np.float32)
        y = np.where(np.isinf(y.astype(kept)) & np.isfinite(nearest), nearest, y)
    if kept == np.float16:
        least = np.abs(x) < 2.0**-14
        fine = np.floor(np.abs(down) * 2.0**44)
        small = np.floor((fine + (random & np.uint32(0xFFFFF))) / 2.0**20) * 2.0**-24
        y = np.where(least, np.copysign(small, down), y).astype(np.float32)
    return np.where(np.isfinite(x), y, x).astype(np.float32)


def hashed(h):
    h = ((h ^ h >> 16) * 0x85EBCA6B) & LOW
    h = ((h ^ h >> 13) * 0xC2B2AE35) & LOW
    return h ^ h >> 16


def dither(parameter, step, state, size):
    """The 16 random bits of each element that round a state of a parameter."""
    salt = hashed((hashed((hashed((step * WEYL + state) & LOW) + parameter) & LOW) * WEYL) & LOW)
    index = np.arange(size, dtype=np.uint64)
    return ((index * np.uint64(WEYL) + np.uint64(salt)) & np.uint64(LOW)) >> np.uint64(16)


def dithered(x, random):
    """float32 values as one of their two neighbours in bfloat16, or NaN."""
    bits = x.view(np.uint32).astype(np.uint64) + np.where(np.isnan(x), np.uint64(0), random)
    return (bits.astype(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def power_of_lines(y, n):
    """yⁿ of y >= 0, linear between the points where it is a power of two."""
    y = np.asarray(y, np.float64)
    with np.errstate(divide="ignore"):
        k = np.floor(np.log2(y))
    at = n * (k + y / 2.0 ** np.maximum(k, -99) - 1)
    whole = np.floor(np.where(y > 0, at, 0))
    return np.where(y > 0, 2.0**whole * (1 + at - whole), 0.0)


def worth(squares):
    """What the codes 0 to 255 of a state are worth for a scale of 1, in float64."""
    if squares:
        return power_of_lines(np.arange(1, 257) / 256, 4)
    c = np.arange(256).astype(np.uint8).view(np.int8).astype(np.float64)
    return np.sign(c) * power_of_lines(np.abs(c) / 128, 2) * 64 / 63


def code_dither(parameter, step, state):
    return dither(parameter, step, state, 256).astype(np.uint32)


def coded(x, squares, random):
    """float32 values, and the codes and scales of which they are what a step stores."""
    flat = np.ravel(x)
    blocks = -(-flat.size // 256)
    padded = np.zeros((blocks, 256), np.float32)
    padded.ravel()[: flat.size] = flat
    scale = np.abs(padded).max(axis=1, initial=0)
    scale[scale < 2.0**-120] = 0
    live = (scale > 0)[:, None]
    # In float32, as the loops compute; the border points have a test of their own.
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = (np.float32(16.0) if squares else np.float32(15.75 * (1 - 2.0**-20))) / scale
        bits = np.where(live, padded * inverse[:, None], np.float32(0)).view(np.uint32)
    one = 0x3F800000
    if squares:
        y = (bits >> 2) + np.uint32(one // 4 * 3 - (1 << 23) + (24 << 23))
        fixed = y.view(np.float32).astype(np.int64)
        codes = np.maximum((fixed + random) >> 16, 1) - 1
    else:
        a = bits & np.uint32(0x7FFFFFFF)
        y = (a >> 1) + np.uint32(one // 2 - (2 << 23) + (23 << 23))
        fixed = y.view(np.float32).astype(np.int64)
        codes = (np.where(bits >> 31, -fixed, fixed) + random) >> 16
    codes = np.where(live, codes, 0).astype(np.uint8)
    unit = scale if squares else scale * np.float32(32 / 63)
    level = (worth(squares) if squares else worth(squares) * 63 / 32).astype(np.float32)
    values = level[codes] * unit[:, None]
    shaped = values.ravel()[: flat.size].reshape(np.shape(x))
    return shaped, codes.ravel()[: flat.size].reshape(np.shape(x)), scale


def squares_of(row):
    """The sum of squares in 32 lanes, which neighbours fold."""
    lanes = np.zeros(32)
    wide = np.zeros(-(-row.size // 32) * 32)
    wide[: row.size] = row
    for part in wide.reshape(-1, 32):
        lanes += part * part
    while lanes.size > 1:
        lanes = lanes[::2] + lanes[1::2]
    return lanes[0]


class Staged:
    """A plain optimizer and what rides along, over copies of the parameters.

    Attributes:
        params: as the optimizer under test should hold them.
        averages: likewise, None without ``ema_decay``.
    """

    def __init__(
        self,
        variant,
        params,
        riders,
        seed=0,
        stochastic=False,
        master=False,
        stored=None,
        **options,
    ):
        self.riders, self.seed = riders, seed
        self.stochastic, self.master, self.stored = stochastic, master, stored
        self.params = [p.copy() for p in params]
        self.values = [p.astype(computing(p.dtype)) for p in params]
        self.plain = variant.make(self.values, **options)
        self.keep = variant.record.keep
        for key, states in self.plain._kept().items() if stored is not None else ():
            for held in states:  # what it starts at
                if stored == "int8":
                    held[...] = coded(held, key in SQUARES, np.uint32(0x8000))[0]
                else:
                    held[...] = held.astype(stored).astype(np.float32)
        decay = riders.get("ema_decay")
        self.averages = [v.copy() for v in self.values] if decay is not None else None
        # A step of -1 times the noise, in the type that it is computed in.
        self.zeros = [np.zeros_like(v) for v in self.values]
        self.drawing = optim.SGD(self.zeros, lr=1.0, noise=1.0, seed=seed)
        self.steps = [0] * len(params)

    def _noise(self, grads):
        for z in self.zeros:
            z[...] = 0
        self.drawing.step([None if g is None else np.zeros(g.shape, g.dtype) for g in grads])
        return [-z for z in self.zeros]

    def step(self, grads, *, grad_scale=1.0, max_value=np.inf, coefficient=1.0):
        riders = self.riders
        prepared = []
        for v, g in zip(self.values, grads, strict=True):
            if g is None:
                prepared.append(None)
                continue
            kind = v.dtype.type
            # Another memory order would change nothing.
            g = np.clip(g.astype(kind) * kind(1.0 / grad_scale), -kind(max_value), kind(max_value))
            prepared.append(np.ascontiguousarray(g * kind(coefficient)).reshape(v.shape))
        if riders.get("noise"):
            for g, z in zip(prepared, self._noise(prepared), strict=True):
                if g is not None:
                    g += g.dtype.type(riders["noise"]) * z
        if not self.master:
            for p, v in zip(self.params, self.values, strict=True):
                v[...] = p.astype(v.dtype)
        before = [v.copy() for v in self.values]
        self.plain.step(prepared)
        for i, g in enumerate(prepared):
            if g is None:
                continue
            self.steps[i] += 1
            self._after(i, before[i], g)
            for number, (key, held) in enumerate(self.plain._kept().items()):
                if self.stored == "bfloat16":
                    random = dither(i, self.steps[i], number, held[i].size)
                    held[i][...] = dithered(held[i].ravel(), random).reshape(held[i].shape)
                elif self.stored == "int8":
                    random = code_dither(i, self.steps[i], number)
                    held[i][...] = coded(held[i], key in SQUARES, random)[0]

    def states(self):
        """Those of the plain optimizer in the order of its kernel, a list of arrays for each."""
        return list(self.plain._kept().values())

    def _after(self, i, before, g):
        riders, v, p = self.riders, self.values[i], self.params[i]
        group = self.plain.param_groups[0]
        kind = v.dtype.type
        if riders.get("cautious"):
            start = before * kind(self.keep(self.steps[i], **group))
            agrees = ((v < start) & (g > 0)) | ((v > start) & (g < 0))
            v[...] = np.where(agrees, v, start)
        if riders.get("l1"):
            left = np.abs(v) - kind(group["lr"] * riders["l1"])
            v[...] = np.copysign(np.maximum(left, 0), v)
        narrow = p.dtype.itemsize == 2
        if narrow and self.stochastic:
            random = words(self.seed, ROUNDING, i, self.steps[i], v.size).reshape(v.shape)
            p[...] = rounded_at_random(v, p.dtype, random).astype(p.dtype)
        else:
            p[...] = v.astype(p.dtype)
        if narrow and not self.master:
            v[...] = p.astype(v.dtype)
        limit = riders.get("max_weight_norm")
        if limit is not None and v.ndim >= 2 and v.size:
            drawn = words(self.seed, LIMIT, i, self.steps[i], v.size).reshape(v.shape)
            for row, held, random in zip(v, p, drawn, strict=True):
                norm = np.sqrt(squares_of(np.asarray(row, np.float64).ravel()))
                scale = kind(limit / norm) if norm > limit else kind(1)
                if scale != 1:
                    row *= scale
                    if narrow and self.stochastic:
                        row[...] = rounded_at_random(row, p.dtype, random)
                    held[...] = row.astype(p.dtype)
                    if narrow and not self.master:
                        row[...] = held.astype(v.dtype)
        if self.averages is not None:
            a = self.averages[i]
            a += kind(1.0 - riders["ema_decay"]) * (v - a)


def as_values(arrays):
    return [as_float64(a) for a in arrays]
