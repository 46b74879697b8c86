"""Rows of layers over images and of convolutional networks, the same of onepass.nn and of torch.nn:
forward and gradient."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from onepass._streams import Function, Streams
from onepass.bench._beside import beside
from onepass.bench._check import compared, within, worst
from onepass.bench._peers import Found
from onepass.bench._peers._torch_compile import compiled
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Make, Row, Workload, named
from onepass.bench._training import lying, residual_of

# Of the largest value of each array: ours agree with float64 within 3e-6 (20 layers, images 32×32).
SHARE = 1e-4
DRAWS = 5
SIZES = ((64, 1, 8, 8), (32, 3, 32, 32))


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
MakeModule = Callable[[Any], Any]  # from the modules of onepass.nn or torch.nn
Around = Callable[[Any], Callable[..., Any]]
# PyTorch's forms of a module: label -> what makes the function that runs its forward.
FORMS: dict[str, Around] = {
    "torch eager": lambda model: model,
    "torch compile": lambda model: compiled(lambda *x: model(*x)),
}


class Layer(NamedTuple):
    """One layer between others: its forward, and all gradients.

    make     its module
    record   of its forward, in the table of kernels, and the options that the formula has
    shape    of x
    smaller  so many times fewer elements has y
    images   arrays like x that the fewest reads and writes move
    results  arrays like y
    streams  the loop that is nearest to them
    """

    make: MakeModule
    record: tuple[str, dict[str, Any]]
    shape: tuple[int, ...]
    smaller: int
    images: int
    results: int
    streams: Streams

    def bytes(self) -> float:
        """Fewest of a call, in float32."""
        return 4.0 * math.prod(self.shape) * (self.images + self.results / self.smaller)


IMAGES, DEEP = (8, 64, 56, 56), (8, 64, 32, 32)
# In C order and with the channels last. A maximum remembers its place, 4 bytes written and read; a
# depthwise convolution reads x again for the gradient of its weight.
LAYERS = {
    "max pool 2x2": Layer(
        lambda n: n.MaxPool2d(2), ("max_pool2d", {"kernel_size": 2}), IMAGES, 4, 2, 4,
        Streams(1, 1),
    ),
    "max pool 3x3 stride 2": Layer(
        lambda n: n.MaxPool2d(3, 2, 1),
        ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}), IMAGES, 4, 2, 4,
        Streams(1, 1),
    ),
    "avg pool 2x2": Layer(
        lambda n: n.AvgPool2d(2), ("avg_pool2d", {"kernel_size": 2}), IMAGES, 4, 2, 2,
        Streams(1, 1),
    ),
    "global avg pool": Layer(
        lambda n: n.AdaptiveAvgPool2d(1), ("adaptive_avg_pool2d", {"output_size": 1}), IMAGES,
        56 * 56, 2, 2, Streams(1, 1),
    ),
    "depthwise 3x3": Layer(
        lambda n: n.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
        ("depthwise_conv2d", {"kernel_size": 3, "padding": 1}), DEEP, 1, 3, 2, Streams(3, 2),
    ),
    "depthwise 3x3 stride 2": Layer(
        lambda n: n.Conv2d(64, 64, 3, 2, 1, groups=64, bias=False),
        ("depthwise_conv2d", {"kernel_size": 3, "stride": 2, "padding": 1}), DEEP, 4, 3, 2,
        Streams(2, 1),
    ),
}  # fmt: skip
ORDERS = {"": False, " channels last": True}


def layer_functions(context: Context, layer: Layer, last: bool) -> Found:
    """Forward and all gradients of a layer of onepass.nn and of torch.nn."""
    from onepass import nn

    rng = np.random.default_rng(0)
    ours, x = layer.make(nn), lying(rng.standard_normal(layer.shape).astype(np.float32), last)
    dy = lying(rng.standard_normal(ours(x).shape).astype(np.float32), last)
    parameters = list(ours.parameters())

    def step() -> None:
        for p in parameters:
            p.zero_grad()
        ours(x)
        ours.backward(dy)

    def rival(around: Around) -> Function:
        import torch

        theirs = layer.make(torch.nn)
        if last:
            theirs = theirs.to(memory_format=torch.channels_last)
        image, gradient = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
        leaves = [image, *theirs.parameters()]
        forward = around(theirs)
        return lambda: torch.autograd.grad(forward(image), leaves, gradient)

    found = beside(context, {label: functools.partial(rival, f) for label, f in FORMS.items()})
    return Found({"onepass": step, **found.functions}, found.missing)


def step_functions(context: Context, network: Callable[..., Any], shape: tuple[int, ...]) -> Found:
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

    def rival(order: str, around: Around) -> Function:
        import torch

        how = getattr(torch, order)
        return _torch_step(
            network(torch.nn, shape).to(memory_format=how),
            around,
            torch.from_numpy(x).to(memory_format=how),
            torch.from_numpy(dy),
        )

    found = beside(
        context,
        {
            label + more: functools.partial(rival, order, around)
            for label, around in FORMS.items()
            for more, order in (("", "contiguous_format"), (" channels_last", "channels_last"))
        },
    )
    return Found({"onepass": ours, **found.functions}, found.missing)


def _torch_step(model: Any, around: Around, x: Any, dy: Any) -> Callable[[], object]:
    parameters, forward = list(model.parameters()), around(model)

    def step() -> None:
        for p in parameters:
            p.grad = None
        forward(x).backward(dy)

    return step


class _Double:
    """The modules of onepass.nn with parameters of float64."""

    def __getattr__(self, name: str) -> Any:
        from onepass import nn

        cls = getattr(nn, name)
        has_dtype = "dtype" in inspect.signature(cls).parameters
        return functools.partial(cls, dtype="float64") if has_dtype else cls


def layer_checked(layer: Layer, last: bool) -> Check:
    """Its result and all gradients beside the float64 formulas of the table of kernels."""
    from onepass import nn

    rng = np.random.default_rng(0)
    model, shape = layer.make(nn), (2, *layer.shape[1:])
    x = lying(rng.standard_normal(shape).astype(np.float32), last)
    y = model(x)
    dy = lying(rng.standard_normal(y.shape).astype(np.float32), last)
    dx, parameters = model.backward(dy), list(model.parameters())
    weights = [p.data for p in parameters]
    kernels = [("", [x, *weights], y), ("_backward", [dy, *weights, x], dx)]
    kernels += [("_weight_backward", [dy, x], p.grad) for p in parameters]
    name, options = layer.record

    def compare(part: str, inputs: list[Any], got: Any) -> Check:
        case = cases.BY_NAME[name + part]
        want = case.expect(inputs, options)[0]  # the maximum comes before its place
        return compared(got, want, case.tolerance, "float32", case.elementwise)

    return worst((compare(*kernel) for kernel in kernels), f"at {named(shape)}")


def checked(make: Callable[..., Any], shape: tuple[int, ...]) -> Check:
    """Results and gradients in float32 beside those of the same modules in float64. Where rounding
    turns a ReLU or a maximum, gradients jump by some percent, in one draw of data and not in the
    next: those of one of DRAWS have to agree, and the results of all that are made."""
    results, gradients = _drawn(make, shape, 0)
    for seed in range(1, DRAWS):
        if gradients.error <= 1:
            break
        more, others = _drawn(make, shape, seed)
        results = max(results, more, key=lambda check: check.error)
        gradients = min(gradients, others, key=lambda check: check.error)
    note = f"at {named(shape)}, within {SHARE:g} of its own float64 run"
    return worst(iter((results, gradients)), note)


def _drawn(make: Callable[..., Any], shape: tuple[int, ...], seed: int) -> tuple[Check, Check]:
    """Of the results, and of the gradients, of one draw of data and weights."""
    from onepass import nn

    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    nn.manual_seed(seed)
    single, double = make(nn, shape), make(_Double(), shape)
    double.load_state_dict({k: v.astype(np.float64) for k, v in single.state_dict().items()})
    dy = rng.standard_normal(double(x).shape)
    pairs = []
    for model, dtype in ((single, np.float32), (double, np.float64)):
        y = model(x.astype(dtype))
        dx = model.backward(dy.astype(dtype))
        pairs.append([y, dx, *(p.grad for p in model.parameters())])
    result, *gradients = (within(got, want, SHARE) for got, want in zip(*pairs, strict=True))
    return result, worst(iter(gradients))


def _network(name: str, shape: tuple[int, ...]) -> Make:
    """A convolutional network."""

    def make(context: Context) -> Workload:
        found = step_functions(context, NETWORKS[name], shape)
        return Workload(
            found.functions,
            math.prod(shape),
            missing=found.missing,
            check=lambda: checked(NETWORKS[name], (8, *shape[1:])),
        )

    return make


def _layer(name: str, last: bool) -> Make:
    """A layer over images, forward and all gradients."""
    layer = LAYERS[name]
    shape = layer.shape

    def make(context: Context) -> Workload:
        found = layer_functions(context, layer, last)
        return Workload(
            found.functions,
            math.prod(shape),
            layer.bytes(),
            layer.streams,
            lambda: layer_checked(layer, last),
            missing=found.missing,
        )

    return make


def rows() -> Iterator[Row]:
    """Layers, then networks."""
    for name in LAYERS:
        for order, last in ORDERS.items():
            yield Row(f"{name}{order} fwd+bwd", "conv", _layer(name, last))
    for name in NETWORKS:
        for shape in SIZES:
            yield Row(f"{name} fwd+bwd {named(shape)}", "end-to-end", _network(name, shape))
