"""Convolutional networks, the same layers of onepass.nn and of torch.nn: forward and gradient."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass.bench._check import within, worst
from onepass.bench._row import Check, Function
from onepass.bench._training import lying, residual_of

Functions = dict[str, Function]
SIZES = {"64x1x8x8": (64, 1, 8, 8), "32x3x32x32": (32, 3, 32, 32)}


def lenet(n: Any, shape: tuple[int, ...], **first: Any) -> Any:
    """LeNet with a padded second convolution, for images of any size."""
    pixels = 16 * (shape[2] // 4) * (shape[3] // 4)
    return n.Sequential(
        n.Conv2d(shape[1], 6, 5, padding=2, **first),
        n.ReLU(),
        n.MaxPool2d(2),
        n.Conv2d(6, 16, 3, padding=1),
        n.ReLU(),
        n.MaxPool2d(2),
        n.Flatten(),
        n.Linear(pixels, 120),
        n.ReLU(),
        n.Linear(120, 84),
        n.ReLU(),
        n.Linear(84, 10),
    )


def resnet20(n: Any, shape: tuple[int, ...], **first: Any) -> Any:
    """He, Zhang, Ren & Sun, 2015, section 4.2, with convolutions in the shortcuts."""
    residual = residual_of(n)
    layers = [n.Conv2d(shape[1], 16, 3, padding=1, bias=False, **first)]
    layers += [n.BatchNorm2d(16), n.ReLU()]
    width = 16
    for out in (16, 32, 64):
        for i in range(3):
            stride = 2 if i == 0 and out > 16 else 1
            body = [
                n.Conv2d(width, out, 3, stride, 1, bias=False),
                n.BatchNorm2d(out),
                n.ReLU(),
                n.Conv2d(out, out, 3, 1, 1, bias=False),
                n.BatchNorm2d(out),
            ]
            shortcut = None
            if width != out:
                shortcut = n.Sequential(
                    n.Conv2d(width, out, 1, stride, bias=False), n.BatchNorm2d(out)
                )
            layers += [residual(*body, shortcut=shortcut), n.ReLU()]
            width = out
    return n.Sequential(*layers, n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(64, 10))


NETWORKS = {"lenet": lenet, "resnet20": resnet20}
# One layer between others: its forward, and all gradients. In C order and with the channels last.
LAYERS = {
    "max pool 2x2": (lambda n: n.MaxPool2d(2), (8, 64, 56, 56)),
    "max pool 3x3 stride 2": (lambda n: n.MaxPool2d(3, 2, 1), (8, 64, 56, 56)),
    "avg pool 2x2": (lambda n: n.AvgPool2d(2), (8, 64, 56, 56)),
    "global avg pool": (lambda n: n.AdaptiveAvgPool2d(1), (8, 64, 56, 56)),
    "depthwise 3x3": (
        lambda n: n.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
        (8, 64, 32, 32),
    ),
    "depthwise 3x3 stride 2": (
        lambda n: n.Conv2d(64, 64, 3, 2, 1, groups=64, bias=False),
        (8, 64, 32, 32),
    ),
}
ORDERS = {"": False, " channels last": True}


def layer_functions(make: Callable[[Any], Any], shape: tuple[int, ...], last: bool) -> Functions:
    """Forward and all gradients of a layer of onepass.nn and of torch.nn."""
    from onepass import nn

    rng = np.random.default_rng(0)
    ours, x = make(nn), lying(rng.standard_normal(shape).astype(np.float32), last)
    dy = lying(rng.standard_normal(ours(x).shape).astype(np.float32), last)
    parameters = list(ours.parameters())

    def step() -> None:
        for p in parameters:
            p.zero_grad()
        ours(x)
        ours.backward(dy)

    found: Functions = {"onepass": step}
    if importlib.util.find_spec("torch"):
        import torch

        theirs = make(torch.nn)
        if last:
            theirs = theirs.to(memory_format=torch.channels_last)
        image, gradient = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
        leaves = [image, *theirs.parameters()]
        found["torch eager"] = lambda: torch.autograd.grad(theirs(image), leaves, gradient)
    return found


def step_functions(network: Callable[..., Any], shape: tuple[int, ...]) -> Functions:
    """Forward and gradient in training, without the gradient of the images."""
    from onepass import nn

    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(s).astype(np.float32) for s in (shape, (shape[0], 10)))
    nn.manual_seed(0)
    model = network(nn, shape, channels_last=True)
    parameters = list(model.parameters())

    def ours() -> None:
        for p in parameters:
            p.zero_grad()
        model(x)
        model.backward(dy, need_input_grad=False)

    found: Functions = {"onepass": ours}
    if importlib.util.find_spec("torch"):
        import torch

        for label, order in (
            ("torch eager", torch.contiguous_format),
            ("torch eager channels_last", torch.channels_last),
        ):
            found[label] = _torch_step(
                network(torch.nn, shape).to(memory_format=order),
                torch.from_numpy(x).to(memory_format=order),
                torch.from_numpy(dy),
            )
    return found


def _torch_step(model: Any, x: Any, dy: Any) -> Callable[[], object]:
    parameters = list(model.parameters())

    def step() -> None:
        for p in parameters:
            p.grad = None
        model(x).backward(dy)

    return step


class _Double:
    """The modules of onepass.nn with parameters of float64."""

    def __getattr__(self, name: str) -> Any:
        from onepass import nn

        cls = getattr(nn, name)
        has_dtype = "dtype" in inspect.signature(cls).parameters
        return functools.partial(cls, dtype="float64") if has_dtype else cls


def checked(make: Callable[..., Any], shape: tuple[int, ...], last: bool = False) -> Check:
    """Results and gradients in float32 beside those of the same modules in float64: where ReLU or
    a maximum turns, single values jump, so the bound is a hundredth of the largest value."""
    from onepass import nn

    rng = np.random.default_rng(0)
    x = lying(rng.standard_normal(shape), last)
    nn.manual_seed(0)
    single, double = make(nn, shape), make(_Double(), shape)
    double.load_state_dict({k: v.astype(np.float64) for k, v in single.state_dict().items()})
    dy = lying(rng.standard_normal(double(x).shape), last)
    pairs = []
    for model, dtype in ((single, np.float32), (double, np.float64)):
        y = model(x.astype(dtype))
        dx = model.backward(dy.astype(dtype))
        pairs.append([y, dx, *(p.grad for p in model.parameters())])
    found = worst(within(got, want, 1e-2) for got, want in zip(*pairs, strict=True))
    note = f"at {'x'.join(map(str, shape))}, within 1 % of its own run in float64"
    return Check(found.error, None, note)
