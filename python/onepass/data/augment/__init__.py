"""Augmentation: random changes of the images of a training batch, (N, C, H, W).

Each is called as ``t(X, y, *, seed, epoch, index) -> (X, y)``, as ``DataLoader(transform=)`` and
``Trainer.fit(transform=)`` do, and is a function of (seed, epoch, index) alone: a sample's result
depends neither on its batch, nor on threads, nor on a resume. `Mixup` and `CutMix` pair it with
another sample of its batch.
"""

from onepass.data.augment._compose import Compose
from onepass.data.augment._geometry import (
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    ShortSideResize,
)
from onepass.data.augment._mixing import CutMix, Mixup
from onepass.data.augment._pixels import ColorJitter, Cutout, GaussianBlur, GaussianNoise
from onepass.data.augment._warps import ElasticDeformation, LensDistortion, RandomAffine

__all__ = [
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "ElasticDeformation",
    "GaussianBlur",
    "GaussianNoise",
    "LensDistortion",
    "Mixup",
    "RandomAffine",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "ShortSideResize",
]
