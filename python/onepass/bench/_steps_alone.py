"""Rows of optimizers whose formula is not one of the records: states of fewer bits, options, and
those without a formula for each element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass._streams import Function, Streams
from onepass.bench import _arrays as arrays
from onepass.bench import _check as check
from onepass.bench import _peers as peers
from onepass.bench._beside import beside
from onepass.bench._peers._library import Lacks
from onepass.bench._records import case as records
from onepass.bench._row import Check, Context, Make, Row, Workload
from onepass.bench._steps import ADAMW, adamw_bytes, with_gradients


def with_states(state_dtype: Any, size: int) -> Make:
    """AdamW with states of fewer bits beside the same step with those of float32."""

    def make(context: Context) -> Workload:
        from onepass import optim

        params, grads = arrays.drawn(context, [(size,)])

        def step(dtype: Any) -> Function:
            own = optim.AdamW([params[0].copy()], lr=1e-5, state_dtype=dtype)
            return lambda: own.step(grads)

        found = peers.Found({}, {})
        if state_dtype == "int8":
            options = {"lr": 1e-5, "state_dtype": state_dtype}
            found = peers.steps(context, ADAMW, params, grads, options)
        functions = {"onepass": step(state_dtype), "onepass float32 states": step(None)}

        def compare() -> Check:
            p, (g,) = params[0][: check.MOST].copy(), [g[: check.MOST] for g in grads]
            before, run = p.copy(), ADAMW.trajectory([p.copy()], lr=1e-2)
            own = optim.AdamW([p], lr=1e-2, state_dtype=state_dtype)
            for _ in range(2):
                own.step([g])
                run.step([g])
            share = 0.02 if state_dtype == "bfloat16" else 0.1
            note = f"the whole step within {share:.0%} of one with exact states"
            found = check.together(p - before, np.asarray(run.params[0]) - before, share)
            return Check(found.error, None, note)

        streams = Streams(2, 0, 4) if state_dtype == "bfloat16" else Streams(2, 0, 3)
        count = size * adamw_bytes(state_dtype)
        return Workload(
            functions | found.functions, size, count, streams, compare, missing=found.missing
        )

    return make


def with_options(size: int, each: float, clip: bool = False, **options: Any) -> Make:
    """AdamW of one tensor with options of ours, beside the step without them. On a GPU.

    Args:
        size: elements.
        each: fewest bytes of one.
        clip: whether the gradient is clipped by its norm before, and zeroed afterwards; both steps.
        options: of the class.
    """
    controls: dict[str, Any] = {"max_norm": 1e9, "zero_grad": True} if clip else {}

    def make(context: Context) -> Workload:
        from onepass import optim

        def step(**given: Any) -> Function:
            (p,), (g,) = arrays.drawn(context, [(size,)])
            own = optim.AdamW([p], lr=1e-5, **given)
            return lambda: own.step([g], **controls)

        def compare() -> Check:
            (p,), (g,) = arrays.drawn(Context(), [(1 << 16,)])
            moved = []
            for place in (arrays.placed, np.copy):
                held, slope = place(p), place(g)
                own = optim.AdamW([held], lr=1e-2, **options)
                for _ in range(2):
                    own.step([slope])
                moved.append(arrays.back(held) - p)
            found = check.within(moved[0], moved[1], 1e-3)
            return Check(found.error, None, "beside the same steps on the processor")

        functions = {"onepass": step(**options), "onepass plain": step()}
        return Workload(functions, size, size * each, check=compare)

    return make


def muon(context: Context) -> Workload:
    """A layer of a transformer of width 256: products of matrices, and AdamW for the rest."""
    from onepass import optim

    layer = [(256, 256)] * 4 + [(1024, 256), (256, 1024)] + [(256,)] * 8
    params, grads = arrays.drawn(context, layer)
    ours = optim.Muon([p.copy() for p in params], lr=1e-5)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(grads)}

    def theirs() -> Function:
        import torch

        if not hasattr(torch.optim, "Muon"):
            raise Lacks(f"PyTorch {torch.__version__} has no Muon")
        tensors = with_gradients(params, grads)
        muon = torch.optim.Muon([p for p in tensors if p.ndim == 2], lr=1e-5)
        adamw = torch.optim.AdamW([p for p in tensors if p.ndim < 2], lr=1e-5, fused=True)
        return lambda: (muon.step(), adamw.step())

    found = beside(context, {"torch eager": theirs})
    elements = sum(p.size for p in params)

    def run(dtype: str) -> list[Any]:
        held = [p.astype(dtype) for p in params]
        optim.Muon(held, lr=1e-2).step([g.astype(dtype) for g in grads])
        return [h - p for h, p in zip(held, params, strict=True)]

    # Five Newton-Schulz steps: no bound is derived, but a thousandth of the step is plenty.
    return Workload(
        functions | found.functions, elements, check=_in_float64(run, 1e-3),
        missing=found.missing,
    )  # fmt: skip


def sparse_adam(context: Context) -> Workload:
    """2,048 rows, some of them named twice, of a table of 100,000 by 64."""
    from onepass import optim

    (table, values), _ = arrays.drawn(context, [(100_000, 64), (2048, 64)])
    indices = np.random.default_rng(1).integers(0, len(table), len(values))
    ours = optim.SparseAdam([table.copy()])
    functions: dict[str, Function] = {"onepass": lambda: ours.step([(indices, values)])}

    def theirs() -> Function:
        import torch

        at, rows = torch.from_numpy(indices)[None], records.tensor_of(values)
        p = torch.nn.Parameter(records.tensor_of(table))
        p.grad = torch.sparse_coo_tensor(at, rows, table.shape, check_invariants=True)
        return torch.optim.SparseAdam([p]).step

    found = beside(context, {"torch eager": theirs})

    def run(dtype: str) -> list[Any]:
        held = table.astype(dtype)
        optim.SparseAdam([held], lr=1e-2).step([(indices, values.astype(dtype))])
        return [held - table]

    return Workload(
        functions | found.functions, values.size, check=_in_float64(run, 1e-4),
        missing=found.missing,
    )  # fmt: skip


LBFGS: dict[str, Any] = {
    "lr": 1e-2, "max_iter": 10, "history_size": 10, "tolerance_grad": 0, "tolerance_change": 0,
}  # fmt: skip


def bowl() -> tuple[np.ndarray, np.ndarray]:
    """A start and the slopes of a quadratic of a million parameters, which cost next to nothing.

    The first step, of `lr` in the sum of all gradients, moves each by 20 roundings; the others go a
    hundredth of the way, so in hundreds of them no change becomes too small for the history.
    """
    (start, slopes), _ = arrays.drawn(Context(), [(1_000_000,)] * 2)
    return start * np.float32(1e-2), np.abs(slopes) + 1


def lbfgs(context: Context) -> Workload:
    """Ten iterations; from the second call on each has a history of ten."""
    from onepass import optim

    start, slopes = bowl()
    held = start.copy()
    ours = optim.LBFGS([held], **LBFGS)
    functions: dict[str, Function] = {
        "onepass": lambda: ours.step(lambda: (1.0, [held * slopes])),
    }

    def theirs() -> Function:
        import torch

        q, scale = (records.tensor_of(a) for a in (start, slopes))
        own = torch.optim.LBFGS([q], **LBFGS)

        def closure() -> Any:
            q.grad = q * scale
            return torch.ones(())

        return lambda: own.step(closure)

    found = beside(context, {"torch eager": theirs})

    def run(dtype: str) -> list[Any]:  # of few parameters
        p, scale = (a[:1000].astype(dtype) for a in (start, slopes))
        optim.LBFGS([p], **LBFGS | {"lr": 0.5}).step(lambda: (1.0, [p * scale]))
        return [p - start[:1000]]

    return Workload(
        functions | found.functions, start.size, check=_in_float64(run, 1e-3),
        missing=found.missing,
    )  # fmt: skip


def _in_float64(run: Callable[[str], Sequence[Any]], share: float) -> Callable[[], Check]:
    """What ``run`` gives in float32 beside its run in float64: where no record has a formula."""

    def compare() -> Check:
        pairs = zip(run("float32"), run("float64"), strict=True)
        found = check.worst(check.within(got, want, share) for got, want in pairs)
        return Check(found.error, None, f"within {share:g} of its own run in float64")

    return compare


def rows() -> Iterator[Row]:
    """Of the CPU."""
    for dtype in ("bfloat16", "int8"):
        for count, size in (("64k", 1 << 16), ("16M", 1 << 24)):
            yield Row(f"adamw {dtype} states {count}", "optim", with_states(dtype, size))
    yield Row("muon 6 matrices 790k", "optim", muon)
    yield Row("sparse adam 2048 rows", "optim", sparse_adam)
    yield Row("lbfgs 10 iterations 1M", "optim", lbfgs)
