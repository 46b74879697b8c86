"""With twenty labels, features of a related task are better than learning from scratch.

A network that has learned to tell the digits apart knows enough to tell odd from even: its hidden
layers, frozen, need only a new last layer, and twenty labelled images train that well. From
scratch the same network makes less of them. It depends on the tasks: frozen features for the digits
0 to 4 are a hindrance in telling 5 to 9 apart.
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C47", "data", 3.0
SOURCES = ("yosinski-2014", "initialisation")
RUNS, LABELS = 3, 20
WAYS = ("scratch", "frozen", "fine-tuned")
TASKS = ("digits → odd or even", "0 to 4 → 5 to 9")
Part = tuple[np.ndarray, np.ndarray]


def network(classes: int, seed: int) -> nn.Sequential:
    nn.manual_seed(seed)
    body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    return nn.Sequential(body, nn.Linear(64, classes))


def fit(model: nn.Sequential, part: Part, epochs: int, seed: int) -> Trainer:
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3),
        metrics=["accuracy"], seed=seed, progress=False,
    )  # fmt: skip
    trainer.fit(*part, max_epochs=epochs)
    return trainer


def parts(task: str, seed: int) -> tuple[Part, Part, Part]:
    """To learn features from, the twenty labelled ones, and the test part."""
    X, y, X_test, y_test = digits(seed)
    if task == TASKS[0]:
        few = X[1000 : 1000 + LABELS], y[1000 : 1000 + LABELS] % 2
        return (X[:1000], y[:1000]), few, (X_test, y_test % 2)
    low, high, test = y < 5, y >= 5, y_test >= 5
    few = (X[high][:LABELS], y[high][:LABELS] - 5)
    return (X[low], y[low]), few, (X_test[test], y_test[test] - 5)


def accuracies(task: str, seed: int) -> tuple[list[float], bool]:
    """Test accuracy of each way; whether the frozen features have kept every bit."""
    many, few, test = parts(task, seed)
    learnt = fit(network(int(many[1].max()) + 1, seed), many, 20, seed).model.state_dict()
    found, kept = [], True
    for way in WAYS:
        model = network(int(test[1].max()) + 1, seed + 1000)
        body = model[0]
        if way != "scratch":
            body.load_state_dict(learnt, prefix="0.")
        if way == "frozen":
            body.freeze()
        found.append(fit(model, few, 100, seed).evaluate(*test)["accuracy"])
        if way == "frozen":
            kept = all(np.array_equal(v, learnt[f"0.{k}"]) for k, v in body.state_dict().items())
    return found, kept


def run(lab: Lab) -> str:
    runs = {task: [accuracies(task, lab.seed + i) for i in range(RUNS)] for task in TASKS}
    found = {task: np.array([accuracy for accuracy, _ in runs[task]]) for task in TASKS}
    rows = [(task, *found[task].mean(axis=0)) for task in TASKS]
    lab.table(["features → task", *WAYS], rows, f"Test accuracy, mean of {RUNS} seeds")
    scratch, frozen, _ = rows[0][1:]
    gain = frozen - scratch
    lab.check("frozen features beat scratch by 0.03", gain > 0.03, f"{gain:+.3f}")
    loss = rows[1][1] - rows[1][2]
    lab.check("those of 0 to 4 are worse than scratch for 5 to 9", loss > 0, f"by {loss:.3f}")
    kept = all(bits for task in TASKS for _, bits in runs[task])
    lab.check("frozen features keep every bit", kept)

    for axes, task in zip(lab.figure(1, 2, sharey=True), TASKS, strict=True):
        for number in range(len(WAYS)):
            values = found[task][:, number]
            axes.bar(number, values.mean(), 0.6, color=f"C{number}", alpha=0.6)
            axes.plot(number + np.linspace(-0.1, 0.1, RUNS), values, "ko", ms=4)
        axes.set(xticks=range(3), xticklabels=WAYS, xlabel="hidden layers", title=task)
    axes.figure.axes[0].set_ylabel(f"test accuracy with {LABELS} labels")
    return (
        f"Odd or even from {LABELS} labels: {frozen:.0%} right with frozen features, {scratch:.0%} "
        f"from scratch; for other digits the features do not carry over ({rows[1][2]:.0%})."
    )
