"""The same thing without the trainer: forward, loss, backward, one fused optimizer step."""

import numpy as np
from onepass import nn, optim
from onepass.data import DataLoader

generator = np.random.default_rng(0)
X = generator.standard_normal((1024, 2), dtype=np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)  # exclusive or: no straight line separates it

nn.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
loss_function = nn.CrossEntropyLoss()
optimizer = optim.AdamW(model.parameters(), lr=0.01)
loader = DataLoader(X, y, batch_size=64, shuffle=True)

for epoch in range(20):
    for inputs, targets in loader:  # every iter() is the next epoch's order
        loss, dy = loss_function(model(inputs), targets)
        model.backward(dy)
        optimizer.step(max_norm=1.0, zero_grad=True)
    print(f"epoch {epoch + 1}: loss {float(loss):.4f}")

model.eval()
print("accuracy", float(np.mean(model(X).argmax(axis=1) == y)))
