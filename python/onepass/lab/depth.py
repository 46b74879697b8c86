"""With ReLU, Xavier's initialisation halves the mean square a layer; Kaiming's keeps it.

ReLU sets half of its inputs to 0, and so halves the mean square of what passes. Kaiming's variance
2/n makes up for that on average, Xavier's 1/n (equal fans) does not. ReLU commutes with positive
factors, so after l layers with the same random draws the mean square under Xavier is exactly 2⁻ˡ
times that under Kaiming. At 30 layers that decides whether a network learns; PyTorch's default for
linear layers, of variance 1/(3n), already fails at ten, of 64 units each; Xavier's gets half-way.
"""

import numpy as np

from onepass import nn, ops, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C16", "initialisation", 5.0
SOURCES = ("he-2015", "glorot-2010", "initialisation", "minnesota-2025")
SCHEMES = ("kaiming", "xavier")


def signal(lab: Lab, scheme: str) -> np.ndarray:
    """Mean square of what enters the ReLU of each of 30 layers."""
    x = lab.rng().standard_normal((64, 256), dtype=np.float32)
    squares = []
    for depth in range(30):
        layer = nn.Linear(256, 256, bias=False)
        nn.init.apply(layer, f"{scheme}_normal", seed=100 * lab.seed + depth)
        z = layer(x)
        squares.append(np.mean(np.square(z, dtype=np.float64)))
        x = ops.relu(z)
    return np.array(squares)


def learning(lab: Lab, depth: int, scheme: str, lr: float, epochs: int) -> list[float]:
    """Test accuracy after each epoch."""
    X, y, X_test, y_test = digits(lab.seed)
    nn.manual_seed(lab.seed)
    width = 128 if depth == 30 else 64
    layers = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    if scheme != "default":
        nn.init.apply(model, f"{scheme}_normal", lab.seed)
    momentum, max_norm = (0.9, 1.0) if depth == 30 else (0.0, None)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=lr, momentum=momentum),
        metrics=["accuracy"], max_norm=max_norm, seed=lab.seed, progress=False,
    )  # fmt: skip
    history = trainer.fit(X, y, max_epochs=epochs, validation_data=(X_test, y_test))
    return history["val_accuracy"]


def run(lab: Lab) -> str:
    square = {scheme: signal(lab, scheme) for scheme in SCHEMES}
    layer = np.arange(1, 31)
    off = np.abs(square["xavier"] / square["kaiming"] * 2.0**layer - 1).max()
    lab.check("Xavier's mean square is 2⁻ˡ times Kaiming's", off < 1e-4, f"off by {off:.1e}")
    kept = square["kaiming"][-1] / square["kaiming"][0]
    lab.check("Kaiming keeps it within a factor of 20", 1 / 20 < kept < 20, f"×{kept:.2f}")
    deep = {scheme: learning(lab, 30, scheme, 0.01, 6) for scheme in SCHEMES}
    ten = {s: learning(lab, 10, s, 0.02, 10) for s in (*SCHEMES, "default")}
    runs = [(30, s, deep[s][-1]) for s in deep] + [(10, s, ten[s][-1]) for s in ten]
    lab.table(["layers", "scheme", "test accuracy"], runs, "30 from Kaiming: by seed, 0.6 to 0.8")
    lab.check("30 layers learn from Kaiming", deep["kaiming"][-1] > 0.35, f"{runs[0][2]:.3f}")
    lab.check("30 layers do not from Xavier", deep["xavier"][-1] < 0.2, f"{runs[1][2]:.3f}")
    lab.check("10 layers learn from Kaiming", ten["kaiming"][-1] > 0.8, f"{runs[2][2]:.3f}")
    lab.check("10 do not from the default", ten["default"][-1] < 0.2, f"{runs[4][2]:.3f}")
    between = ten["default"][-1] < ten["xavier"][-1] < ten["kaiming"][-1]
    lab.check("from Xavier they are between the two", between, f"{runs[3][2]:.3f}")

    first, second, third = lab.figure(1, 3)
    for scheme in SCHEMES:
        first.semilogy(layer, square[scheme], "o", ms=4, label=scheme)
    first.semilogy(layer, square["kaiming"] / 2.0**layer, "k-", lw=1, label="kaiming · 2⁻ˡ")
    first.set(
        xlabel="layer l", ylabel="mean square before ReLU", title="Signal in a random network"
    )
    first.legend()
    for axes, curves, depth in ((second, deep, 30), (third, ten, 10)):
        for scheme, curve in curves.items():
            axes.plot(range(1, len(curve) + 1), curve, "o-", ms=4, label=scheme)
        axes.set(
            xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title=f"{depth} hidden layers"
        )
        axes.legend()
    return (
        f"At layer 30 Xavier has left {square['xavier'][-1] / square['xavier'][0]:.0e} of the "
        f"signal and learns nothing; from Kaiming {deep['kaiming'][-1]:.0%} are right."
    )
