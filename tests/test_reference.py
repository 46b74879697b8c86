"""The float64 formulas themselves: Philox's published vectors, and PyTorch for every row."""

import math

import numpy as np
import pytest
from cases import CASES, keywords_of
from cases.dropout import dropout_mask, philox
from helpers import flat, sweep, to_torch

KNOWN_ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, words):
    assert tuple(int(w) for w in philox(counter, key)) == words


def test_mask_is_what_the_text_says():
    """The mapping once more, an element at a time in plain integers."""
    p, seed, offset = 0.3, 2**40 + 17, 2**35 + 3
    mask = dropout_mask((300,), p, seed=seed, offset=offset)
    for e in (0, 1, 31, 32, 127, 128, 299):
        u = 0
        for k in range(32):
            g = e // 128
            counter = (g % 2**32, (g >> 32) | k << 24, offset % 2**32, offset >> 32)
            word = int(philox(counter, (seed % 2**32, seed >> 32))[e // 32 % 4])
            u = u << 1 | (word >> e % 32) & 1
        assert mask[e] == (u >= round(p * 2**32)), e


COMPARED = [case for case in CASES if case.torch is not None]


@pytest.mark.parametrize("case", COMPARED, ids=[case.name for case in COMPARED])
def test_reference_equals_torch(case):
    torch = pytest.importorskip("torch")

    def tensor(a):
        if isinstance(a, list):
            return [tensor(v) for v in a]
        if not isinstance(a, np.ndarray):
            return a
        t = to_torch(np.array(a))
        return t.requires_grad_() if t.is_floating_point() else t

    for label, shape, options in sweep(case):
        if math.prod(shape) > 3e4:
            continue
        inputs = case.inputs(shape, "float64", options)
        want = case.expect(inputs, options)
        got = case.torch(*map(tensor, inputs), **keywords_of(options))
        if got is None:  # PyTorch has no such option
            continue
        got = flat(got if isinstance(got, (tuple, list)) else [got])
        for i, (g, w) in enumerate(zip(got, flat(want), strict=True)):
            where = f"{label} result {i}"
            assert (g is None) == (w is None), where
            if w is not None:
                scale = np.abs(w).max() if np.size(w) else 0.0
                np.testing.assert_allclose(
                    g.detach().numpy(), w, rtol=1e-9, atol=1e-12 * scale, err_msg=where
                )
    assert torch.is_grad_enabled()
