"""What curvature is worth: gradient descent takes 2,000 steps, Newton's method 7.

Logistic regression with a small L2 penalty. Gradient descent keeps to the rate 1/L. A line search
looks how far it may go; content with 1e-4 of the fall that the slope promises it takes 73 steps,
asking for half of it 59. L-BFGS learns the curvature from past gradients; Newton's method is given
it, and on a quadratic needs two products of conjugate gradients for two curvatures. A warning: with
the Hessian of a tenth of the samples, drawn anew each step, it does not arrive.
"""

from typing import Any

import numpy as np

from onepass import data, ops, optim
from onepass.lab import Lab
from onepass.optim.full_batch import GradientDescent, Newton

CODE, CHAPTER, SECONDS = "C14", "optimisation", 0.5
SOURCES = ("nocedal-2006", "byrd-2011", "minnesota-2025", "skoltech")
L2 = 1e-2


class Logistic:  # the loss of weights w that start at 0, with its slope and curvature
    def __init__(self, rng: np.random.Generator) -> None:
        X, y = data.load("breast_cancer")
        self.X, self.y = data.Standardize().fit_transform(X), y.astype(np.float64)
        self.w, self.rng = np.zeros(self.X.shape[1]), rng

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        loss, dz = ops.bce_with_logits(self.X @ self.w, self.y)
        return float(loss + L2 / 2 * self.w @ self.w), [self.X.T @ dz + L2 * self.w]

    def hessian(self, share: float) -> Any:
        X = self.X[self.rng.permutation(len(self.X))[: int(share * len(self.X))]]
        p = ops.sigmoid(X @ self.w)
        return (X.T * (p * (1 - p))) @ X / len(X) + L2 * np.eye(len(self.w))

    def minimised(self, make: Any, share: float | None) -> np.ndarray:
        """(loss, largest slope) before each step and at the end, where that is below 1e-6."""
        optimizer, found = make([self.w]), []
        options = {} if share is None else {"hessian": lambda: self.hessian(share)}
        while True:
            loss, (slope,) = self()
            found.append((loss, np.abs(slope).max()))
            if found[-1][1] < 1e-6 or len(found) > (200 if share else 4000):
                return np.array(found)
            optimizer.step(self, **options)


def quadratic(products: int) -> float:
    """Largest |x| after a step on x₁² + 4x₂² by so many products of conjugate gradients."""
    x, D = np.array([3.0, -2.0]), np.array([2.0, 8.0])
    newton = Newton([x], line_search_fn=None, cg_max_iter=products, cg_tolerance=0.0)
    newton.step(lambda: (D @ x**2 / 2, [D * x]), hessian=lambda: lambda v: [D * v[0]])
    return float(np.abs(x).max())


def run(lab: Lab) -> str:
    problem = Logistic(lab.rng())
    L = np.linalg.eigvalsh(problem.X.T @ problem.X / len(problem.X))[-1] / 4 + L2
    lbfgs: Any = {"history_size": 10, "max_iter": 1, "max_eval": 25, "tolerance_change": 0.0}
    rules: Any = {
        "gradient descent": (lambda w: GradientDescent(w, lr=1 / L, line_search_fn=None), None),
        "backtracking": (GradientDescent, None),
        "L-BFGS": (lambda w: optim.LBFGS(w, line_search_fn="strong_wolfe", **lbfgs), None),
        "Newton": (Newton, 1.0),
        "Newton, 10 % Hessian": (lambda w: Newton(w, line_search_fn=None), 0.1),
    }
    found, ends = {}, {}
    for name, rule in rules.items():
        problem.w = np.zeros(30)
        found[name], ends[name] = problem.minimised(*rule), problem.w
    rows = [(name, len(curve) - 1, *curve[-1]) for name, curve in found.items()]
    lab.table(["", "steps", "loss", "|slope|"], rows, "Until |slope| < 1e-6")
    gd, search, _, newton, tenth = (row[1] for row in rows)
    rise, early = np.diff(found["backtracking"][:, 0]).max(), found["L-BFGS"][:61, 1].min()
    apart = max(np.abs(ends[name] - ends["Newton"]).max() for name in [*rules][:4])
    lab.check("Newton takes 7 steps, ±1", abs(newton - 7) <= 1, newton)
    lab.check("backtracking 73, ±2, and never rises", abs(search - 73) <= 2 and rise <= 0, search)
    lab.check("gradient descent 1900 to 2100", 1900 < gd < 2100, gd)
    lab.check("L-BFGS is below 1e-5 within 60", early < 1e-5, f"{early:.1e}")
    lab.check("all end within 1e-4 of Newton's weights", apart < 1e-4, f"{apart:.1e}")
    lab.check("with the Hessian of a tenth it is not there in 200", tenth == 200, tenth)
    lab.check("x₁² + 4x₂²: two products arrive, one not", quadratic(2) < 1e-12 < quadratic(1))
    axes = lab.figure()
    for name, curve in found.items():
        axes.loglog(np.arange(1, len(curve) + 1), curve[:, 1], label=name)
    axes.set(xlabel="step", ylabel="largest slope", xlim=(0.9, 1e5), title="Logistic regression")
    axes.legend(loc="upper right", fontsize="small")
    return f"Gradient descent takes {gd} steps, with a line search {search}, Newton {newton}."
