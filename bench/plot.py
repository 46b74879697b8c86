"""Draws the figure of the README: python bench/plot.py bench/results/<file>.json docs/speed.svg"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROWS = {
    "adamw 6 tensors 26k": "AdamW step, 6 tensors, 26k",
    "adamw 120 tensors 250k": "AdamW step, 120 tensors, 250k",
    "param_groups adamw 465 groups 30k": "AdamW step, optim.param_groups, 465 groups",
    "clip+adamw+zero 120 tensors 250k": "clip + AdamW + zero, 120 tensors",
    "clip+adamw+zero 200 tensors 25M": "clip + AdamW + zero, 25M",
    "bn fwd+bwd 256x1024": "batch norm, 256×1024, both ways",
    "bn+relu+dropout 256x1024": "batch norm + ReLU + dropout, 256×1024",
    "bn+relu+dropout 32x64x56x56": "batch norm + ReLU + dropout, 32×64×56×56",
    "dropout 16777216": "dropout, 16M",
    "tanh 16777216": "tanh, 16M",
    "gelu 65536": "gelu, 64k",
    "cross_entropy 256x1000": "cross entropy, 256×1000",
    "demo training step": "one training step of the demo",
}


def best(result: dict[str, Any]) -> dict[str, Any]:
    """A row with its best rival, which files of format 1 name."""
    ratios = result.get("ratios")
    if not ratios:
        return {"ratio": None} | result
    rival = min(ratios, key=lambda label: ratios[label])
    return result | {"best_rival": rival, "ratio": ratios[rival]}


def main(source: str, target: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    data = json.loads(Path(source).read_text())
    found = {r["row"]: r for r in map(best, data["results"]) if r["threads"] == 2 and r["ratio"]}
    rows = [(label, found[name]) for name, label in ROWS.items() if name in found][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(rows) + 1.1))
    ratios = [r["ratio"] for _, r in rows]
    colors = ["#2f6f9f" if ratio >= 1 else "#b5563c" for ratio in ratios]
    labels = [label for label, _ in rows]
    axes.barh(labels, [ratio - 1 for ratio in ratios], left=1, color=colors)
    for at, (_, r) in enumerate(rows):
        text = f"{r['ratio']:.1f}× {r['best_rival'].removesuffix(' out=')}"
        axes.text(max(r["ratio"], 1) * 1.05, at, text, va="center", fontsize=8)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(ratios) * 3)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    figure.supxlabel(
        f"times faster than the best rival ({data['machine']['cpu']}, 2 threads)", fontsize=9
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:3])
