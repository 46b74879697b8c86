"""oneDNN, through the tensors of its own layout that PyTorch has: the primitive alone, without
PyTorch's kernels. The distribution `onednn` is a shared library without functions for Python, and
`benchdnn` is a program that times itself, which cannot take turns with others.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onepass.bench._peers import _torch
from onepass.bench._peers._library import Functions, Lacks, Lazily, Library, only
from onepass.bench._records import case as case_module

torch: Any = Lazily("torch")
functional: Any = Lazily("torch.nn.functional")

_LABEL = "onednn torch"
_PARTS = ("MAJOR", "MINOR", "PATCH")

_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: functional.relu(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "tanh": lambda x: torch.tanh(x),
    "gelu": lambda x, approximate="none": functional.gelu(x, approximate=approximate),
    "softmax": lambda x, axis=-1: functional.softmax(x, axis),
}


def _batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any, residual: Any, *, training: bool,
                momentum: float = 0.1, eps: float = 1e-5, activation: Any = None,
                **more: Any) -> Any:  # fmt: skip
    only(more, channels_last=False, dropout_p=0.0)
    if residual is not None or activation not in (None, "relu"):
        raise Lacks("only batch norm, with or without ReLU")
    y = functional.batch_norm(x, mean, var, w, b, training, momentum, eps)
    return (functional.relu(y) if activation == "relu" else y), mean, var


def _no_dropout() -> Lacks:
    found = shutil.which("benchdnn")
    benchdnn = "benchdnn not found" if found is None else f"{found} times itself, not in turn"
    return Lacks(f"PyTorch has no way to oneDNN's dropout; {benchdnn}")


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    if not torch.backends.mkldnn.is_available():
        raise Lacks("this PyTorch is built without oneDNN")
    if "dropout" in case.name:
        raise _no_dropout()
    x, *others = map(case_module.tensor_of, inputs)
    if case.name == "batch_norm":  # its training takes images alone
        x = x.reshape(*x.shape, *[1] * (4 - x.ndim))
    x = x.to_mkldnn()
    function = _batch_norm if case.name == "batch_norm" else _ACTIVATIONS[case.name]

    def call() -> Any:
        with torch.no_grad():
            return function(x, *others, **keywords)

    return {_LABEL: call}


def _version() -> str | None:
    """As PyTorch's headers have it: to import it takes seconds. None where they do not."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    header = Path(found.origin).parent / "include/oneapi/dnnl/dnnl_version.h"
    if not header.is_file():
        return None
    text = header.read_text(encoding="utf-8")
    numbers = (re.search(rf"DNNL_VERSION_{part}\s+(\d+)", text) for part in _PARTS)
    return ".".join(number[1] for number in numbers if number) or None


LIBRARY = Library(
    "onednn",
    module="torch",
    install="torch",
    needs=("torch",),
    kernels=["batch_norm", "dropout", "dropout_backward", *_ACTIVATIONS],
    kernel=kernel,
    pin=_torch.pin,
    own_version=_version,
)
