"""Nine optimizers on a convex problem: plain SGD makes the least progress.

Softmax regression on images of digits: one linear layer, 55 steps. The loss is convex, so there is
no luck with the start. All have the rate 0.01, Adadelta its usual 1. Plain SGD has come the least
way; momentum makes its steps ten times as long, and rules that scale each coordinate go further
where gradients are small.
"""

from collections.abc import Callable

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Callback, Run, Trainer

CODE, CHAPTER, SECONDS = "C09", "optimisation", 0.5
SOURCES = ("kingma-2015", "skoltech")
RULES: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda w: optim.SGD(w, lr=0.01),
    "momentum": lambda w: optim.SGD(w, lr=0.01, momentum=0.9),
    "Nesterov": lambda w: optim.SGD(w, lr=0.01, momentum=0.9, nesterov=True),
    "Adagrad": lambda w: optim.Adagrad(w, lr=0.01),
    "RMSprop": lambda w: optim.RMSprop(w, lr=0.01),
    "Adadelta": lambda w: optim.Adadelta(w, lr=1.0),
    "Adam": lambda w: optim.Adam(w, lr=0.01),
    "AdamW": lambda w: optim.AdamW(w, lr=0.01),
    "Adamax": lambda w: optim.Adamax(w, lr=0.01),
}


class BatchLosses(Callback):
    """The loss of each batch, before its step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step_end(self, run: Run) -> None:
        self.losses.append(run.batch_loss)


def run(lab: Lab) -> str:
    X, y, X_test, y_test = digits(lab.seed)
    curves, rows = {}, []
    for name, rule in RULES.items():
        nn.manual_seed(lab.seed)
        model, watch = nn.Linear(64, 10), BatchLosses()
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), rule(model.parameters()), metrics=["accuracy"],
            callbacks=[watch], seed=lab.seed, progress=False,
        )  # fmt: skip
        trainer.fit(X, y, max_epochs=5, batch_size=128)
        test = trainer.evaluate(X_test, y_test)
        rows.append((name, trainer.evaluate(X, y)["loss"], test["loss"], test["accuracy"]))
        curves[name] = watch.losses
    rows.sort(key=lambda row: row[1])
    columns = ["", "training loss", "test loss", "test accuracy"]
    lab.table(columns, rows, f"After {len(curves['SGD'])} steps")
    losses = {name: loss for name, loss, *_ in rows}
    second = max(loss for name, loss in losses.items() if name != "SGD")
    gap, lead = losses["SGD"] - second, losses["momentum"] - losses["Adam"]
    lab.check("every other is more than 0.5 below SGD", gap > 0.5, f"the next by {gap:.2f}")
    lab.check("Adam is more than 0.1 below momentum", lead > 0.1, f"{lead:.2f}")

    axes = lab.figure()
    styles = dict(zip(RULES, ("C0", "C1", "C1:", "C2", "C3", "C4", "C5", "C5:", "C6"), strict=True))
    for name in reversed(losses):
        axes.semilogy(curves[name], styles[name], label=name)
    axes.set(xlabel="step", ylabel="cross entropy of the batch")
    axes.set_title("Softmax regression on digits: plain SGD is last")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return f"""Plain SGD is at {losses["SGD"]:.2f}, every other at {second:.2f} or below,
        {rows[0][0]} at {rows[0][1]:.2f}."""
