"""The time of each augmentation, in microseconds of one processor an image.

python bench/augment.py [--size 32] [--channels 3] [--batch 128] [--dtype float32]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from onepass.data import augment

REPEATS = 15


def transforms(size: int) -> list[augment.Compose | object]:
    """One of each class, with common arguments."""
    return [
        augment.RandomFlip("horizontal"),
        augment.RandomCrop(size, padding=size // 8),
        augment.RandomResizedCrop(size),
        augment.ShortSideResize(size // 2),
        augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
        augment.RandomAffine(10, (0.1, 0.1), (0.9, 1.1)),
        augment.LensDistortion(),
        augment.ElasticDeformation(),
        augment.GaussianNoise(),
        augment.GaussianBlur(3),
        augment.Cutout(size // 4),
        augment.Mixup(num_classes=10),
        augment.CutMix(num_classes=10),
    ]


def main() -> None:
    """Print a line for each class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    shape = (given.batch, given.channels, given.size, given.size)
    images = np.random.default_rng(0).random(shape)
    images = (images * 255 if given.dtype == "uint8" else images).astype(given.dtype)
    y, index = np.arange(given.batch) % 10, np.arange(given.batch)
    for transform in transforms(given.size):
        times = []
        for epoch in range(REPEATS):
            begin = time.process_time()
            transform(images, y, seed=0, epoch=epoch, index=index)  # type: ignore[operator]
            times.append(time.process_time() - begin)
        print(f"{type(transform).__name__:20} {np.median(times) / given.batch * 1e6:8.1f}")


if __name__ == "__main__":
    main()
