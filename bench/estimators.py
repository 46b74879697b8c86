"""onepass.sklearn beside scikit-learn's MLP and the same network in PyTorch, all at their defaults.

Ten splits of four data sets, the mean of the scores on the quarter that is held out: accuracy and
cross entropy of classes, R² and RMSE of numbers. Prints the table of docs/start/sklearn.md.

    python bench/estimators.py [--splits 10] [--seeds 10] [--only PATTERN]

A fit's seed is the number of its split; with --seeds each split has fits of the seeds 0, 1, …
"""

from __future__ import annotations

import argparse
import re
import time
import warnings

import numpy as np
import torch
from onepass.sklearn import MLPClassifier, MLPRegressor
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SETS = ("breast_cancer", "wine", "digits", "diabetes")
EPOCHS, WIDTH, MOST = 200, 100, 200


class OfTorch:
    """A hidden layer of 100 units, Adam at its defaults, batches of min(200, N), 200 epochs; inputs
    standardised, and the targets of a regression."""

    def __init__(self, seed: int, classes: int | None) -> None:
        self.seed, self.classes = seed, classes

    def fit(self, X, y):
        torch.manual_seed(self.seed)
        self.inputs = StandardScaler().fit(X)
        self.targets = None if self.classes else StandardScaler().fit(y[:, None])
        x = self._tensor(X)
        t = torch.tensor(y if self.classes else self.targets.transform(y[:, None])).float()
        t = t.long() if self.classes else t
        self.model = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], WIDTH),
            torch.nn.ReLU(),
            torch.nn.Linear(WIDTH, self.classes or 1),
        )
        loss = torch.nn.CrossEntropyLoss() if self.classes else torch.nn.MSELoss()
        optimizer = torch.optim.Adam(self.model.parameters())
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(min(MOST, len(x))):
                optimizer.zero_grad()
                loss(self.model(x[batch]), t[batch]).backward()
                optimizer.step()
        return self

    def _tensor(self, X):
        return torch.tensor(self.inputs.transform(X)).float()

    @torch.no_grad()
    def predict_proba(self, X):
        return torch.softmax(self.model(self._tensor(X)).double(), 1).numpy()

    @torch.no_grad()
    def predict(self, X):
        return self.targets.inverse_transform(self.model(self._tensor(X)).double().numpy())[:, 0]


def rivals(classes: int | None) -> dict:
    """Name → an estimator, of a seed."""
    ours = MLPClassifier if classes else MLPRegressor
    theirs = TheirClassifier if classes else TheirRegressor
    linear = LogisticRegression() if classes else Ridge()
    return {
        "onepass": lambda seed: ours(random_state=seed),
        "scikit-learn": lambda seed: theirs(random_state=seed),
        "scikit-learn, scaled": lambda seed: make_pipeline(
            StandardScaler(), theirs(random_state=seed)
        ),
        "PyTorch, scaled": lambda seed: OfTorch(seed, classes),
        "linear, scaled": lambda seed: make_pipeline(StandardScaler(), linear),
    }


def scores(estimator, X, y, classes: int | None) -> tuple[float, float]:
    """Accuracy and cross entropy, or R² and RMSE."""
    if classes:
        p = estimator.predict_proba(X)
        return float(np.mean(p.argmax(1) == y)), log_loss(y, p, labels=range(classes))
    error = mean_squared_error(y, estimator.predict(X))
    return 1 - error / float(np.var(y)), error**0.5


def compare(name: str, splits: int, seeds: int = 0) -> dict[str, np.ndarray]:
    """The scores and the seconds of each rival's fits, (fits, 3)."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    classes = None if y.dtype.kind == "f" else len(np.unique(y))
    found: dict[str, list] = {}
    for split in range(splits):
        parts = train_test_split(X, y, random_state=split, stratify=y if classes else None)
        for rival, make in rivals(classes).items():
            for seed in range(seeds) if seeds else [split]:
                start = time.thread_time()
                fitted = make(seed).fit(parts[0], parts[2])
                seconds = time.thread_time() - start
                found.setdefault(rival, []).append(
                    (*scores(fitted, parts[1], parts[3], classes), seconds)
                )
    return {rival: np.array(rows) for rival, rows in found.items()}


def main() -> None:
    """The table, a row for each rival and data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    print("| data | estimator | accuracy or R² | cross entropy or RMSE | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for name in SETS:
        if re.search(arguments.only, name):
            for rival, rows in compare(name, arguments.splits, arguments.seeds).items():
                score, loss, seconds = rows.mean(0)
                spread = rows[:, 0].std(ddof=1)
                print(
                    f"| {name} | {rival} | {score:.4f} ± {spread:.4f} | {loss:#.3g} "
                    f"| {seconds:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
