"""PyTorch, eager: what the records in tests/cases say, and here its threads and optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from onepass.bench._peers import _torch_network
from onepass.bench._peers._library import Lacks, Lazily, Library, Step, Steps
from onepass.bench._records import case as case_module
from onepass.bench._records import cases

torch: Any = Lazily("torch")


def pin(threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    """Its forms: fused, foreach, and eager, a loop over the tensors: its default on a CPU."""
    return {
        f"torch {form}": Lacks(made) if isinstance(made, str) else step_of(made, made.step)
        for form, made in _forms(variant, params, grads, options)
    }


def functional(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    """The functions that the classes call, ``torch.optim.adam.adam``, with the same arguments."""
    return {
        f"torch functional {form}": Lacks(made) if isinstance(made, str)
        else step_of(made, _call_of(made))
        for form, made in _forms(variant, params, grads, options)
    }  # fmt: skip


def _forms(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    tensors = (list(map(case_module.tensor_of, arrays)) for arrays in (params, grads))
    yield from variant.torch_forms(*tensors, options)


def step_of(optimizer: Any, run: Callable[[], Any]) -> Step:
    tensors = optimizer.param_groups[0]["params"]
    return Step(run, lambda: [p.detach() for p in tensors])


def _call_of(optimizer: Any) -> Callable[[], Any]:
    """The call that a step of the class makes, with the lists that it makes for it."""
    home = inspect.unwrap(type(optimizer).step).__globals__  # of the module: AdamW's is Adam's
    name = home["__name__"].rpartition(".")[2].strip("_")
    plain, calls = home[name], []

    def recorded(*args: Any, **keywords: Any) -> None:
        calls.append((args, keywords))

    home[name] = recorded
    try:
        optimizer.step()
    finally:
        home[name] = plain
    ((args, keywords),) = calls

    def run() -> None:
        with torch.no_grad():
            plain(*args, **keywords)

    return run


LIBRARY = Library(
    "torch",
    module="torch",
    install="torch",
    # Its functions for rows of kernels are in their records.
    kernels=[c.name for c in cases.CASES if not c.no_rival and c.family != "update"],
    both=lambda case, inputs, keywords: {},
    optimizers=[v.name for v in cases.optimizers.VARIANTS if v.record.torch is not None],
    steps=steps,
    functional=functional,
    networks={
        "torch eager": _torch_network.plain(_torch_network.eager),
        "onepass torch": _torch_network.front(_torch_network.eager),
    },
    pin=pin,
    dtypes=("float32", "float64", "float16", "bfloat16"),
    devices=("cpu", "cuda"),
)
