"""With enough momentum β the error shrinks by √β a step, whatever the curvature.

On a quadratic of curvature λ, one step of gradient descent with momentum multiplies (velocity/λ,
error) by the matrix R = [[β, 1], [-αβλ, 1-αλ]] (α is the rate). Its determinant is β. Where its two
eigenvalues are a complex pair, both have the size √β: the error shrinks by √β a step, for every
curvature at once. A constant gradient g, in turn, is amplified to steps of αg/(1-β).
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C05", "optimisation", 0.1
SOURCES = ("goh-2017", "optimization-3", "skoltech")


def matrix(curvature: float, beta: float) -> np.ndarray:
    """R for α = 1."""
    return np.array([[beta, 1.0], [-curvature * beta, 1.0 - curvature]])


def size(curvature: float, beta: float) -> float:
    return float(np.abs(np.linalg.eigvals(matrix(curvature, beta))).max())


def off_by(curvature: float, beta: float) -> float:
    """How far optim.SGD is from the powers of R, in 30 steps from 1 on the quadratic."""
    R = matrix(curvature, beta)
    sgd = path(lambda w: optim.SGD(w, lr=1.0, momentum=beta), lambda w: curvature * w, [1.0], 30)
    powers = [np.linalg.matrix_power(R, k)[1, 1] for k in range(31)]
    return float(np.abs(sgd[:, 0] - powers).max())


def steps(gradients: list[np.ndarray], lr: float, beta: float) -> np.ndarray:
    """How far each step of optim.SGD goes."""
    w = np.zeros(3, gradients[0].dtype)
    optimizer = optim.SGD([w], lr=lr, momentum=beta)
    moved = []
    for gradient in gradients:
        before = w.copy()
        optimizer.step([gradient])
        moved.append(before - w)
    return np.array(moved)


def run(lab: Lab) -> str:
    pairs = [(c, b) for c in (0.3, 0.7, 1.0, 1.5, 2.0) for b in (0.5, 0.9)]
    error = max(abs(size(c, b) - b**0.5) for c, b in pairs)
    rows = [(c, b, size(c, b), b**0.5) for c, b in pairs]
    lab.table(["αλ", "β", "|σ|", "√β"], rows, "All with complex eigenvalues")
    lab.check("complex eigenvalues have the size √β", error < 1e-12, f"error {error:.1e}")
    lab.check("α = 1/λ without momentum is there in one step", size(1.0, 0.0) == 0.0)
    diverges = min(size(2.001 + 2 * b, b) for b in (0.0, 0.5, 0.9))
    lab.check("αλ above 2 + 2β diverges", diverges > 1.0, f"|σ| {diverges:.4f}")
    off = max(off_by(c, b) for c, b in [*pairs, (1.0, 0.0), (2.9, 0.5)])
    lab.check("optim.SGD goes as the powers of R say", off < 1e-12, f"off by {off:.1e}")

    g = np.array([0.1, -2.0, 30.0])
    last = steps([g] * 500, lr=0.01, beta=0.9)[-1]
    far = np.abs(last / (0.01 * g / (1 - 0.9)) - 1).max()
    lab.check("a constant gradient is amplified 1/(1-β) times", far < 1e-12, f"off by {far:.1e}")
    drawn = list(lab.rng().standard_normal((20, 3)))
    moved = steps(drawn, lr=0.1, beta=0.9)[-1]
    expected = sum(0.9**i * 0.1 * gradient for i, gradient in enumerate(reversed(drawn)))
    off = np.abs(moved - expected).max()
    lab.check("a step is the sum of βⁱ α g of i steps ago", off < 1e-12, f"off by {off:.1e}")

    curvatures, betas = np.linspace(0.01, 4.2, 120), np.linspace(0.0, 0.99, 100)
    picture = [[size(c, b) for c in curvatures] for b in betas]
    axes = lab.figure()
    shown = axes.contourf(curvatures, betas, picture, levels=np.linspace(0, 2, 21), extend="max")
    axes.contour(curvatures, betas, picture, levels=[1.0], colors="white")
    axes.plot(2 + 2 * betas, betas, "w--", label="αλ = 2 + 2β")
    axes.set(xlabel="rate × curvature αλ", ylabel="momentum β", xlim=(0.01, 4.2))
    axes.set_title("Size of the error after a step")
    axes.figure.colorbar(shown, label="|σ| of the larger eigenvalue")
    return (
        "With complex eigenvalues the error shrinks by √β a step at every curvature; "
        "beyond αλ = 2 + 2β it grows."
    )
