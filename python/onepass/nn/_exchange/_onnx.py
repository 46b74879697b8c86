"""A model as a file of ONNX, for inference: a graph of operators of opset 17.

Opset 17 is read by ONNX Runtime from 1.12 on. What it has not (norms over groups, GELU, Mish) is
written with the operators that it has. Attributes of ONNX are float32: with
float64 an option becomes a constant of the graph instead.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._files import path_of, replacing
from onepass.nn._exchange._layers import NotALayerError, check_known, place
from onepass.nn._exchange._onnx_layers import OPERATORS, Graph
from onepass.nn._exchange._summary import floats
from onepass.nn._module import Module
from onepass.nn._random import untouched_streams
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._use import using
from onepass.nn._weight_norm import WeightNorm

OPSET, IR = 17, 8
BATCH = 2  # of the array that goes through the model; even, as a GLU may halve that axis
DTYPES = ("float32", "float64")
MOST = 2**31 - 2**20  # bytes of a message of protobuf, with room for the operators


def to_onnx(model: Module, path: str | os.PathLike[str], input_shape: Any) -> None:
    """`Module.to_onnx`."""
    try:
        import onnx
    except ImportError:
        raise ModuleNotFoundError(
            "to_onnx: the package onnx is not installed: pip install 'onepass[onnx]'"
        ) from None
    target = path_of("to_onnx", "path", path)
    shape = _shape(input_shape)
    with using(model, "to_onnx"):
        twin: Any = copy.deepcopy(model, untouched_streams(model))
    twin.eval().to("cpu")
    dtype = _dtype(twin)
    graph = Graph(dtype)
    try:
        name, y = _emit(graph, twin, "", "x", np.zeros(shape, dtype))
    except NotALayerError as error:
        raise ValueError(f"to_onnx: {error}") from None
    size = sum(array.nbytes for array in graph.constants.values())
    if size >= MOST:
        raise ValueError(f"to_onnx: the model has {size} bytes, expected less than 2 GB")
    made = _model(onnx, graph, type(model).__name__, name, shape, y)
    onnx.checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    with replacing(target, "model") as file:
        file.write(data)


def _shape(given: Any) -> tuple[int, ...]:
    """The shape of what goes through the model: the batch may be None."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not len(given):
        raise TypeError(
            f"to_onnx: 'input_shape' is {given!r}, expected a shape with the batch in front, such "
            "as (None, 784)"
        )
    first, *rest = given
    if first is not None:
        numbers.integer("to_onnx", "input_shape", first, 1)
    return (BATCH, *(numbers.integer("to_onnx", "input_shape", n, 1) for n in rest))


def _dtype(model: Module) -> Any:
    """The dtype of the parameters, or of the statistics of a model that has none."""
    kinds = sorted({p.dtype.name for p in model.parameters()})
    if not kinds:
        kinds = sorted({array.dtype.name for array in floats(model)}) or ["float32"]
    if len(kinds) > 1 or kinds[0] not in DTYPES:
        raise ValueError(
            f"to_onnx: the parameters are of {', '.join(kinds)}, expected all of float32, or all "
            "of float64"
        )
    return np.dtype(kinds[0])


def _emit(graph: Graph, module: Any, name: str, x: str, value: Any) -> tuple[str, Any]:
    """Add the operators of a module to the graph: the name of y, and an array of its shape."""
    check_known(module, name)
    dot = f"{name}." if name else ""
    if isinstance(module, Sequential):
        for i, layer in enumerate(module.layers):
            x, value = _emit(graph, layer, f"{dot}{i}", x, value)
        return x, value
    if isinstance(module, Residual):
        main, y = _emit(graph, module.body, f"{dot}body", x, value)
        side, other = x, value
        if module.shortcut is not None:
            side, other = _emit(graph, module.shortcut, f"{dot}shortcut", x, value)
        if y.shape != other.shape:
            raise ValueError(f"to_onnx: {place(name)} adds shapes {y.shape} and {other.shape}")
        return graph.add("Add", main, side), y
    layer = module.module if isinstance(module, WeightNorm) else module
    check_known(layer, name)
    operator = OPERATORS.get(type(layer))
    if operator is None:
        raise ValueError(
            f"to_onnx: {place(name)} is a {type(layer).__name__}, which has no form in ONNX here"
        )
    try:
        y = module(value)  # of a WeightNorm, now the layer inside has its weight
    except (TypeError, ValueError) as error:
        raise ValueError(f"to_onnx: {place(name)}: {error}") from error
    return operator(graph, layer, x, value, y), y


def _model(onnx: Any, graph: Graph, title: str, name: str, shape: Any, y: Any) -> Any:
    from onepass import __version__

    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node(kind, list(inputs), list(outputs), **attributes)
        for kind, inputs, outputs, attributes in graph.nodes
    ]
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    batch = "N" if y.ndim and y.shape[0] == BATCH else None
    whole = helper.make_graph(
        nodes,
        title,
        [helper.make_tensor_value_info("x", kind, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", kind, [batch, *y.shape[1:]])],
        [tensor(to_numpy(array), key) for key, array in graph.constants.items()],
    )
    return helper.make_model(
        whole,
        producer_name="onepass",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
