"""What states of fewer bits cost: a network trained with each `state_dtype`, seed by seed.

    python bench/state_dtype.py [--seeds 5] [--epochs 30]

Digits (1,437 samples to train, 360 to test), an MLP of 64-128-64-10, AdamW, batches of 50. Prints
the means over seeds of the loss and accuracy on both parts, and the bytes of states an element.
"""

import argparse

import numpy as np
from onepass import nn, optim
from onepass.bench._steps import state_bytes
from onepass.data import DataLoader, load

STATES = {
    None if name == "float32" else name: 2 * state_bytes(name)
    for name in ("float32", "bfloat16", "int8")
}


def evaluate(model, X, y):
    model.eval()
    logits = model(X)
    loss, _ = nn.CrossEntropyLoss()(logits, y)
    return float(loss), float((logits.argmax(axis=1) == y).mean())


def train(state_dtype, seed, epochs, data):
    X, y, X_test, y_test = data
    nn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, state_dtype=state_dtype)
    loss_of = nn.CrossEntropyLoss()
    loader = DataLoader(X, y, batch_size=50, shuffle=True, seed=seed)
    for _ in range(epochs):
        for xb, yb in loader:
            _, gradient = loss_of(model(xb), yb)
            model.backward(gradient)
            optimizer.step(zero_grad=True)
    return *evaluate(model, X, y), *evaluate(model, X_test, y_test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    digits = load("digits")
    X, y = digits.X, digits.y
    X = np.asarray(X, np.float32).reshape(len(X), -1) / np.float32(np.max(X))
    y = np.asarray(y)
    order = np.random.default_rng(0).permutation(len(X))
    test, rest = order[:360], order[360:]
    data = X[rest], y[rest], X[test], y[test]
    print(f"{'states':9} bytes  train loss  accuracy  test loss  accuracy")
    for state_dtype, size in STATES.items():
        runs = [train(state_dtype, seed, given.epochs, data) for seed in range(given.seeds)]
        loss, right, test_loss, test_right = np.mean(runs, axis=0)
        name = state_dtype or "float32"
        print(
            f"{name:9} {size:5.2f}  {loss:10.4f}  {right:8.2%}  {test_loss:9.4f}  {test_right:8.2%}"
        )


if __name__ == "__main__":
    main()
