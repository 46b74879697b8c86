"""What must hold wherever onepass was installed: run by a Python that has it and NumPy alone, in
any folder. Prints what it found; exit status 1 and an AssertionError where something is wrong.

    python installed.py
"""

from __future__ import annotations

import json
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution

import numpy as np
import onepass
from onepass import _C, config, nn, ops, optim


def adamw(w: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    """Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, in float64."""
    w, m, v = w.astype(np.float64), np.zeros(w.shape), np.zeros(w.shape)
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * np.square(g, dtype=np.float64)
        w -= 0.01 * 0.1 * w
        w -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def trained(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(70_001).astype(np.float32)
    grads = [rng.standard_normal(w.shape).astype(np.float32) for _ in range(3)]
    want = adamw(w, grads)
    optimizer = optim.AdamW([w], lr=0.01, weight_decay=0.1)
    for grad in grads:
        optimizer.step([grad])
    np.testing.assert_allclose(w, want, rtol=2e-6, atol=2e-6)
    return w


def main() -> None:
    x = np.random.default_rng(0).standard_normal((1003, 67)).astype(np.float32)
    ones, zeros = np.ones(67, np.float32), np.zeros(67, np.float32)
    kept = {}
    for level in _C.cpu_levels():
        config.set_cpu_level(level)
        y, saved = ops.batch_norm(
            x, ones, zeros, zeros.copy(), ones.copy(), training=True, activation="gelu", seed=1
        )
        results = [y, *ops.batch_norm_backward(y, saved), ops.softmax(x), trained(1)]
        kept[level] = [r.tobytes() for r in results]
        assert kept[level] == next(iter(kept.values())), f"{level} has bits of its own"
    one = [trained(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(trained, range(8)), one, strict=True):
            assert np.array_equal(got, want), "a thread has bits of its own"
    model = nn.Sequential(nn.Linear(67, 8), nn.ReLU(), nn.Linear(8, 3))
    assert model(x).shape == (1003, 3)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled(), "the import has switched the GIL on"
    files = distribution("onepass").files or []
    (bom,) = [file for file in files if file.match("onepass-*.dist-info/sboms/onepass.cdx.json")]
    material = json.loads(bom.read_text())
    assert material["metadata"]["component"]["version"] == onepass.__version__
    names = [part["name"] for part in material["components"]]
    found = f"Python {sys.version.split()[0]}, NumPy {np.__version__}, levels {', '.join(kept)}"
    print(f"onepass {onepass.__version__} works: {found}; it contains {', '.join(names)}")


if __name__ == "__main__":
    main()
