"""Adaptive rules have steps of known length, and they depend on the choice of axes.

Under a constant gradient Adagrad's k-th step is η/√k, RMSprop's falls from η/√(1-α) to η, and
Adam's is η from the first, whatever the size of the gradient.

They scale each coordinate by itself. In a ravine turned by 45° gradient descent walks the turned
path; Adam and RMSprop walk another one, for what they divide by is not turned with it.
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C08", "step sizes", 0.3
SOURCES = ("duchi-2011", "kingma-2015", "minnesota-2025", "optimization-3", "skoltech")
LR, STEPS = 0.1, 100
RULES = {
    "SGD": lambda w: optim.SGD(w, lr=LR),
    "Adagrad": lambda w: optim.Adagrad(w, lr=LR, eps=1e-30),
    "RMSprop": lambda w: optim.RMSprop(w, lr=LR, alpha=0.9, eps=1e-30),
    "Adam": lambda w: optim.Adam(w, lr=LR, eps=1e-30),
}
TURN = np.array([[1, -1], [1, 1]]) / 2**0.5  # by 45°


def squares(gradients: np.ndarray, alpha: float) -> np.ndarray:
    """RMSprop's average of g² after these steps."""
    w = np.zeros(gradients.shape[1])
    optimizer = optim.RMSprop([w], alpha=alpha)
    for gradient in gradients:
        optimizer.step([gradient])
    return np.asarray(optimizer.state_dict()["state"][0]["square_avg"])


def run(lab: Lab) -> str:
    g = np.array([3.0, 1e-3])
    both = {
        name: -np.diff(path(r, lambda w: g, [0, 0], STEPS), axis=0) for name, r in RULES.items()
    }
    length = {name: values[:, 0] for name, values in both.items()}
    k = np.arange(1, STEPS + 1)
    theory = {"Adagrad": LR / k**0.5, "RMSprop": LR / (1 - 0.9**k) ** 0.5, "Adam": LR + 0 * k}
    rows = [(f"step {i}", *(length[name][i - 1] for name in RULES)) for i in (1, 2, 5, 20, STEPS)]
    rows.append(("sum", *(values.sum() for values in length.values())))
    lab.table(["", *RULES], rows, "Lengths of steps, constant gradient 3, rate 0.1")
    for name, claim in (("Adagrad", "η/√k"), ("RMSprop", "η/√(1-αᵏ)"), ("Adam", "η")):
        off = np.abs(both[name] / theory[name][:, None] - 1).max()
        lab.check(
            f"{name}'s k-th step is {claim}, for 3 and 0.001", off < 1e-12, f"off by {off:.1e}"
        )
    total = length["Adagrad"].sum()
    lab.check("Adagrad's 100 steps sum to 1.858960", abs(total - 1.858960) < 1e-6, f"{total:.6f}")
    drawn = lab.rng().standard_normal((30, 4))
    weights = 0.1 * 0.9 ** np.arange(29, -1, -1)
    off = np.abs(squares(drawn, 0.9) - weights @ drawn**2).max()
    lab.check(
        "RMSprop divides by √((1-α) Σ αʲ g² of j steps ago)", off < 1e-12, f"off by {off:.1e}"
    )
    scales = np.array([1e-2, -1.0, 1e2, -1e4])
    first = path(RULES["Adam"], lambda w: scales, np.zeros(4), 1)[1]
    off = np.abs(first / (-LR * np.sign(scales)) - 1).max()
    lab.check("Adam's first step is η·sign(g) at any scale", off < 1e-6, f"off by {off:.1e}")
    start, D = np.array([4.0, 1.0]), np.diag([1.0, 16.0])
    plain = {n: path(rule, lambda x: D @ x, start, 60) for n, rule in RULES.items()}
    turned = {
        n: path(r, lambda x: TURN @ D @ TURN.T @ x, TURN @ start, 60) for n, r in RULES.items()
    }
    apart = {name: np.abs(turned[name] @ TURN - plain[name]).max() for name in RULES}
    lab.check("gradient descent walks the turned path", apart["SGD"] < 1e-12, f"{apart['SGD']:.1e}")
    for name in ("Adam", "RMSprop"):
        share = apart[name] / np.linalg.norm(start)
        lab.check(f"{name} does not, by more than 1 %", share > 0.01, f"{100 * share:.0f} %")

    left, right = lab.figure(1, 2)
    for name, values in length.items():
        left.loglog(k, values, label=name)
    left.set(xlabel="step k", ylabel="length of the step", title="Under a constant gradient of 3")
    x1, x2 = np.meshgrid(np.linspace(-1, 4.5, 100), np.linspace(-1, 1.3, 100))
    right.contour(x1, x2, x1**2 + 16 * x2**2, levels=np.array([1, 2, 3, 4, 5]) ** 2, colors="0.85")
    for name, colour in (("SGD", "C0"), ("RMSprop", "C2"), ("Adam", "C3")):
        right.plot(*plain[name].T, colour, label=name)
        right.plot(*(turned[name] @ TURN).T, f"{colour}--")
    right.set(xlabel="along the ravine", ylabel="across the ravine")
    right.set_title("Dashed: the ravine turned by 45°")
    for axes in (left, right):
        axes.legend()
    return f"""Steps are as long as the formulas say. Turning the ravine by 45° moves Adam's path by
        up to {apart["Adam"]:.2g}, RMSprop's by {apart["RMSprop"]:.2g}, gradient descent's not."""
