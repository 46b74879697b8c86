"""Train LeNet on the digits of scikit-learn, 8 by 8 pixels: convolutions, pools, linear layers.

pip install ".[demo]"
python examples/lenet_digits.py
"""

import numpy as np
from onepass import nn, optim
from onepass.data import load, train_test_split
from onepass.train import Trainer

digits = load("digits")
X_train, X_test, y_train, y_test = train_test_split(digits.X, digits.y, 0.25)
X_train, X_test = (np.float32(X / 16).reshape(-1, 1, 8, 8) for X in (X_train, X_test))

nn.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2, channels_last=True), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
)  # fmt: skip
print(model)

optimizer = optim.AdamW(model.parameters(), lr=4e-3)
trainer = Trainer(
    model,
    nn.CrossEntropyLoss(),
    optimizer,
    metrics=["accuracy"],
    scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30),
)
trainer.fit(X_train, y_train, max_epochs=30, batch_size=32)
print(trainer.evaluate(X_test, y_test))
