"""`param_groups`: makes groups of a model's parameters, with their own weight decay and rate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from onepass import _numbers as numbers

_NORMS = re.compile("norm|BatchRenorm", re.IGNORECASE)


def param_groups(
    model_or_named_parameters: Any,
    *,
    lr: float,
    weight_decay: float,
    no_decay: Sequence[str] = ("bias", "norm"),
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups: no weight decay for biases and norms, smaller rates for early layers.

    Every parameter is in one group, so any number of groups is still one call. A group has
    "params", "lr", "weight_decay", "name" and "param_names".

    Args:
        model_or_named_parameters: a module of onepass or PyTorch, or (name, parameter) pairs.
        lr: rate of the last layer.
        weight_decay: of all parameters but those of ``no_decay``.
        no_decay: "bias" stands for parameters whose name begins or ends with "bias"; "norm" for
            scales and shifts of norms: vectors in a layer whose class has "Norm" in its name, or,
            in pairs, vectors with "norm" in their name or called "weight" (the weights of other
            layers have two axes or more); any other word for parameters with it in their name.
        layer_decay: each layer's rate is ``layer_decay`` times that of the layer behind it. A layer
            begins at a module that holds a parameter of two or more axes; vectors after it, those
            of a norm for example, belong to it. None: all have ``lr``.

    Returns:
        The groups, early layers first, decayed parameters before the others.

    Raises:
        TypeError: no model and no pairs. ValueError: no parameters, or an option out of range.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017; Clark et al., ELECTRA,
    2020 (layer-wise decay of rates).

    Example:
        >>> from onepass import nn, optim
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> groups = optim.param_groups(model, lr=1e-3, weight_decay=0.1)
        >>> [(g["weight_decay"], g["param_names"]) for g in groups]
        [(0.1, ['0.weight', '3.weight']), (0.0, ['0.bias', '1.weight', '1.bias', '3.bias'])]
        >>> optimizer = optim.AdamW(groups)
    """
    numbers.in_range("param_groups", "lr", lr, 0)
    numbers.in_range("param_groups", "weight_decay", weight_decay, 0)
    if layer_decay is not None:
        numbers.in_range("param_groups", "layer_decay", layer_decay, above=0, most=1, or_none=True)
    if isinstance(no_decay, str) or not all(isinstance(word, str) for word in no_decay):
        raise TypeError(f"param_groups: 'no_decay' is {no_decay!r}, expected a list of words")
    pairs = _pairs(model_or_named_parameters)
    norms = norms_of(model_or_named_parameters)
    layers = _layers(pairs)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for (name, parameter), layer in zip(pairs, layers, strict=True):
        depth = 0 if layer_decay is None else layers[-1] - layer
        free = any(is_one_of(word, name, parameter, norms) for word in no_decay)
        if (depth, free) not in groups:
            label = "no_decay" if free else "decay"
            groups[depth, free] = {
                "params": [],
                "lr": lr if layer_decay is None else lr * layer_decay**depth,
                "weight_decay": 0.0 if free else weight_decay,
                "name": label if layer_decay is None else f"layer_{layer}_{label}",
                "param_names": [],
            }
        groups[depth, free]["params"].append(parameter)
        groups[depth, free]["param_names"].append(name)
    return [groups[key] for key in sorted(groups, key=lambda key: (-key[0], key[1]))]


def _pairs(source: Any) -> list[tuple[str, Any]]:
    named = getattr(source, "named_parameters", None)
    try:
        pairs = [(name, parameter) for name, parameter in (named() if named else source)]
    except (TypeError, ValueError):
        pairs = [(None, None)]
    if not all(isinstance(name, str) for name, _ in pairs) or isinstance(source, (str, dict)):
        raise TypeError(
            f"param_groups: 'model_or_named_parameters' is a {type(source).__name__}, expected a "
            "model or (name, parameter) pairs: model.named_parameters()"
        )
    if not pairs:
        raise ValueError(
            "param_groups: 'model_or_named_parameters' has no parameters, expected at least one"
        )
    return pairs


def norms_of(source: Any) -> set[int] | None:
    """Ids of the parameters of norms; None where only names are known."""
    if not hasattr(source, "named_modules"):
        return None
    layers: Iterable[Any] = (module for _, module in source.named_modules())
    return {
        id(parameter)
        for layer in layers
        if _NORMS.search(type(layer).__name__)
        for name, parameter in layer.named_parameters()
        if "." not in name
    }


def is_one_of(word: str, name: str, parameter: Any, norms: set[int] | None) -> bool:
    """Whether a word of ``no_decay`` stands for the parameter; ``norms`` is of `norms_of`."""
    last = name.rpartition(".")[2]
    if word == "bias":
        return last.startswith("bias") or last.endswith("bias")
    if word != "norm":
        return word in name
    if parameter.ndim > 1:
        return False
    if norms is not None:
        return id(parameter) in norms
    return "norm" in name.lower() or last == "weight"


def _layers(pairs: Sequence[tuple[str, Any]]) -> list[int]:
    """The number of each parameter's layer."""
    matrices = {name.rpartition(".")[0] for name, p in pairs if p.ndim > 1}
    found: dict[str, int] = {}
    current = -1
    for name, _ in pairs:
        module = name.rpartition(".")[0]
        if module not in found:
            current += module in matrices
            found[module] = max(current, 0)
    return [found[name.rpartition(".")[0]] for name, _ in pairs]
