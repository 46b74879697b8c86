"""Train a classifier in a few lines: data, model, optimizer, schedule, early stopping.

pip install ".[demo]"
python examples/train_digits.py
"""

import numpy as np
from onepass import nn, optim
from onepass.data import Standardize, load, train_test_split
from onepass.train import EarlyStopping, Trainer

digits = load("digits")
X_train, X_test, y_train, y_test = train_test_split(digits.X, digits.y, 0.25)
scale = Standardize().fit(X_train)
X_train, X_test = (scale.transform(X).astype(np.float32) for X in (X_train, X_test))

nn.manual_seed(0)
model = nn.Sequential(
    nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2),
    nn.Linear(256, 10),
)  # fmt: skip
print(model)

optimizer = optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.3)
trainer = Trainer(
    model,
    nn.CrossEntropyLoss(label_smoothing=0.2),
    optimizer,
    metrics=["accuracy"],
    callbacks=[EarlyStopping("val_loss", patience=10)],
    scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30),
)
trainer.fit(X_train, y_train, max_epochs=30, batch_size=32, validation_split=0.1)
print(trainer.evaluate(X_test, y_test))
