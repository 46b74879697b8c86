"""Train a ResNet of 20 layers (He et al. 2015, section 4.2) on augmented digits of scikit-learn.

pip install ".[demo]"
python examples/resnet_digits.py
"""

import numpy as np
from onepass import nn, optim
from onepass.data import augment, load, train_test_split
from onepass.train import Trainer


def block(channels, out, stride):
    """Two convolutions beside a shortcut; the last batch norm also adds it, and runs the ReLU."""
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
    body = nn.Residual(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
        nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        shortcut=shortcut,
    )  # fmt: skip
    return [body, nn.ReLU()]


def resnet20(channels, classes):
    """A convolution, three stages of three blocks, and a linear layer: 20 layers with weights."""
    # The first layer lays its channels last in memory; all others keep that.
    layers = [nn.Conv2d(channels, 16, 3, padding=1, bias=False, channels_last=True)]
    layers += [nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for out in (16, 32, 64):
        for i in range(3):
            layers += block(width, out, 2 if i == 0 and out > 16 else 1)
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


digits = load("digits")
X_train, X_test, y_train, y_test = train_test_split(digits.X, digits.y, 0.25)
X_train, X_test = (np.float32(X / 16).reshape(-1, 1, 8, 8) for X in (X_train, X_test))

# Each epoch sees every digit turned by up to 10 degrees, moved by up to a pixel, and scaled.
augmented = augment.RandomAffine(10, translate=(1 / 8, 1 / 8), scale=(0.9, 1.1))

nn.manual_seed(0)
model = resnet20(1, 10)
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
trainer = Trainer(
    model,
    nn.CrossEntropyLoss(),
    optimizer,
    metrics=["accuracy"],
    scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20),
)
trainer.fit(X_train, y_train, max_epochs=20, batch_size=64, transform=augmented)

shift = augment.RandomCrop(8, padding=1)
shifted, _ = shift(X_test, y_test, seed=0, epoch=0, index=np.arange(len(X_test)))
print("shifted by a pixel:", trainer.evaluate(shifted, y_test))
print("as they are:", trainer.evaluate(X_test, y_test))
