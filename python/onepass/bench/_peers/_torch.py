"""PyTorch, eager: what the records in tests/cases say, and here its threads and optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass.bench._peers._library import Functions, Lazily, Library
from onepass.bench._records import case as case_module
from onepass.bench._records import cases

torch: Any = Lazily("torch")


def pin(threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Functions:
    """Its fused and foreach forms, and `onepass.torch.optim` over the same tensors elsewhere."""
    tensors = (list(map(case_module.tensor_of, arrays)) for arrays in (params, grads))
    found: Functions = variant.torch_steps(*tensors, options, _returning)
    return found


def _returning(optimizer: Any) -> Any:
    tensors = optimizer.param_groups[0]["params"]

    def step() -> list[Any]:
        optimizer.step()
        return [p.detach() for p in tensors]

    return step


LIBRARY = Library(
    "torch",
    module="torch",
    install="torch",
    # Its functions for rows of kernels are in their records.
    kernels=[c.name for c in cases.CASES if not c.no_rival and c.family != "update"],
    both=lambda case, inputs, keywords: {},
    optimizers=[v.name for v in cases.optimizers.VARIANTS if v.record.torch is not None],
    steps=steps,
    pin=pin,
    dtypes=("float32", "float64", "float16", "bfloat16"),
)
