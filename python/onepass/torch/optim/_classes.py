"""The classes: one for each optimizer of ``onepass.optim``, found there."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from onepass import optim
from onepass._docs import OPTIONS, parts
from onepass.optim._schedule_free import MODE, ScheduleFree
from onepass.torch.optim._engine import Engine, engine_of
from onepass.torch.optim._lbfgs import LBFGSBase, LBFGSEngine
from onepass.torch.optim._optimizer import FLAGS, Optimizer

_SHARED_ARGS = {
    "params": "tensors, (name, tensor) pairs or group dicts.",
    "lr": "learning rate, a number or a tensor with one, which each step reads.",
    "maximize": "ascend instead.",
    "foreach, capturable, differentiable, fused": "PyTorch's; a step is one call in any case.\n"
    "        ``differentiable`` accepts gradients that are not part of a graph only.",
}
_INSTEAD = "A ``torch.optim.Optimizer`` that steps as `onepass.optim.{name}`, in {work}.\n"
_DOC = """{text}

Args:
{args}

Raises:
    ValueError: hyper-parameters out of range, duplicate or overlapping parameters.
    TypeError: parameters that are not dense tensors of real floating-point numbers.

Source:{source}

Example:
{example}
"""
_EXAMPLE = """
    >>> import torch
    >>> from onepass.torch import optim
    >>> p = torch.nn.Parameter(torch.ones(3))
    >>> optimizer = optim.{name}([p], lr=0.1)
    >>> for _ in range(2):
    ...     p.grad = torch.tensor([1.0, 2.0, 2.0])
    ...     optimizer.step(max_norm=1.0)
    >>> optimizer.last_step.grad_norm, bool((p < 1).all())
    (3.0, True)
""".strip("\n")
_EXAMPLES = {
    "LBFGS": """
    >>> import torch
    >>> from onepass.torch import optim
    >>> p = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")
    >>> def rosenbrock():
    ...     optimizer.zero_grad()
    ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> first = optimizer.step(rosenbrock)
    >>> bool((p - 1).abs().max() < 1e-3)
    True
""".strip("\n"),
    "SparseAdam": """
    >>> import torch
    >>> from onepass.torch import optim
    >>> words = torch.nn.Embedding(1000, 2, sparse=True)
    >>> optimizer = optim.SparseAdam(words.parameters(), lr=0.1)
    >>> words(torch.tensor([7, 3, 7])).sum().backward()
    >>> optimizer.step()
    >>> int((optimizer.state[words.weight]["exp_avg"] != 0).any(1).sum())
    2
""".strip("\n"),
}


def _is_optimizer(cls: Any) -> bool:
    return inspect.isclass(cls) and issubclass(cls, optim.Optimizer) and hasattr(cls, "_rule")


def _class_of(cls: type[optim.Optimizer]) -> type[Optimizer]:
    signature, keywords = _signature(cls), _keywords(cls)
    of_gradients = cls.step is optim.Optimizer.step
    base: type[Optimizer] = Optimizer if of_gradients else LBFGSBase

    def __init__(self: Optimizer, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        Optimizer.__init__(self, signature, keywords, args, kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()], return_annotation=None
    )
    body = {
        "__init__": __init__,
        "__module__": __name__.rpartition(".")[0],
        "__qualname__": cls.__name__,
        "__doc__": _doc(cls, signature),
        "_of": cls,
        "_engine": engine_of(cls, Engine if of_gradients else LBFGSEngine),
        "_modes": (MODE,) if issubclass(cls, ScheduleFree) else (),
    }
    __init__.__qualname__ = f"{cls.__name__}.__init__"
    return type(cls.__name__, (base,), body)


def _signature(cls: type[optim.Optimizer]) -> inspect.Signature:
    """That of ``cls``, with PyTorch's flags written out."""
    given = inspect.signature(cls).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    kept = [p for p in given if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            name, keyword, default=default, annotation="bool | None" if default is None else "bool"
        )
        for name, default in FLAGS.items()
    ]
    rest = [p for p in given if p.kind is p.VAR_KEYWORD and _keywords(cls)]
    return inspect.Signature([*kept, *flags, *rest])


def _keywords(cls: type[optim.Optimizer]) -> set[str]:
    """The keywords that ``cls`` takes beside those of its signature and PyTorch's flags."""
    for p in inspect.signature(cls).parameters.values():
        if p.kind is p.VAR_KEYWORD and (found := re.fullmatch(r"Unpack\[(\w+)\]", p.annotation)):
            options = getattr(sys.modules[cls.__module__], found[1])
            return {*options.__annotations__} - FLAGS.keys()
    return set()


def _doc(cls: type[optim.Optimizer], signature: inspect.Signature) -> str | None:
    if cls.__doc__ is None:  # python -OO has none
        return None
    text, sections, described = parts(cls.__doc__)
    instead = _INSTEAD.format(name=cls.__name__, work=cls._work)
    text, count = re.subn(r"The optimizer keeps the states .*\n?", instead, text)
    text += "" if count else "\n\n" + instead
    known = {**OPTIONS, **described, **_SHARED_ARGS}
    names = [
        f"**{name}" if p.kind is p.VAR_KEYWORD else name
        for name, p in signature.parameters.items()
        if name not in FLAGS
    ]
    args = [f"    {name}: {known[name]}" for name in names if name in known]
    args += [f"    {name}: {says}" for name, says in _SHARED_ARGS.items() if "," in name]
    return _DOC.format(
        text=text.rstrip(),
        name=cls.__name__,
        args="\n".join(args),
        source=sections["Source"].rstrip(),
        example=_EXAMPLES.get(cls.__name__, _EXAMPLE.format(name=cls.__name__)),
    )


CLASSES: dict[str, type[Optimizer]] = {
    name: _class_of(getattr(optim, name))
    for name in sorted(optim.__all__)
    if _is_optimizer(getattr(optim, name))
}
