"""The benchmark follows from the records: kernels have rows and rivals, on arrays and tensors."""

from __future__ import annotations

import numpy as np
import pytest
from onepass import _C
from onepass.bench import _rows, _workloads
from onepass.bench._records import cases
from onepass.bench._row import Context

has_torch, tensor_of = cases._case.has_torch, cases._case.tensor_of
optimizers = cases.optimizers
KERNELS = _C.kernels()
# gelu_tanh is a row of gelu: its record's options choose the kernel.
BASES = {
    record.kernel(form, [k["name"] for k in KERNELS]): record.name
    for record, form in cases.activations.FORMS
}
NEEDS_TORCH = pytest.mark.skipif(not has_torch(), reason="PyTorch is not installed")


def inputs_of(case):
    options = case.bench_options or case.options[0]
    shape = (6, 4) if case.family in ("channels", "norm", "row_norm", "loss", "rows") else (40,)
    shape = (2, 3, 5, 4) if case.family == "windows" else shape
    shape += (3,) * (min(map(len, case.shapes)) - len(shape))
    return case.inputs(shape, "float32", options), cases.keywords_of(options)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k['kind']}-{k['name']}")
def test_every_kernel_has_a_row(kernel):
    names = {row.name.split()[0] for row in _rows.rows(Context())}
    name = BASES.get(kernel["name"], kernel["name"])
    name += "_backward" if kernel["kind"] == "activation_backward" else ""
    assert name in names, (
        f"the benchmark has no row for {kernel['kind']} {name!r}: add its record to tests/cases"
    )


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_every_row_has_shapes_and_a_rival(case):
    assert case.bench_shapes, f"{case.name} has no bench_shapes: the benchmark leaves it out"
    assert case.bytes(4) > 0
    if not has_torch():
        return
    rivals = case.rivals(*inputs_of(case))
    found = any(label.split()[0] == "torch" for label in rivals)
    assert found != bool(case.no_rival), (
        f"{case.name}: the rivals are {sorted(rivals)}; add PyTorch's to its record or say in "
        "no_rival why there is none"
    )


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_rows_and_rivals_run(case):
    inputs, keywords = inputs_of(case)
    rivals = case.rivals(inputs, keywords)
    for function in (_rows.forms(case, inputs, keywords, rivals) | rivals).values():
        function()


@NEEDS_TORCH
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_rows_and_rivals_take_tensors(case):
    """As on a GPU; NumPy is not a rival there."""
    inputs, keywords = inputs_of(case)
    inputs = tuple(map(tensor_of, inputs))
    rivals = case.rivals(inputs, keywords)
    assert not any(label.startswith("numpy") for label in rivals)
    for function in (_rows.forms(case, inputs, keywords, rivals) | rivals).values():
        function()


@NEEDS_TORCH
@pytest.mark.parametrize("case", [c for c in cases.CASES if c.both], ids=lambda case: case.name)
@pytest.mark.parametrize("on", ["arrays", "tensors"])
def test_forward_and_gradient_together(case, on):
    inputs, keywords = inputs_of(case)
    if on == "tensors":
        inputs = tuple(map(tensor_of, inputs))
    functions = case.both(inputs, keywords)
    assert set(functions) == {"onepass", "torch"}
    for function in functions.values():
        function()


@NEEDS_TORCH
def test_a_rival_does_the_work():
    """Of a batch norm, the gradients that the record's reference has."""
    case = cases.BY_NAME["batch_norm_backward"]
    options = {"training": True, "channels_last": True, "activation": "silu"}
    inputs = case.inputs((6, 4, 3, 2), "float32", options)
    theirs = case.both(inputs, options)["torch"]()
    for got, want in zip(theirs, case.expect(inputs, options), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


@NEEDS_TORCH
@pytest.mark.parametrize("variant", optimizers.VARIANTS, ids=lambda v: v.name)
def test_a_step_of_each_optimizer(variant):
    """Ours and PyTorch's end where each other do, and clear the gradients."""
    rng = np.random.default_rng(0)
    params, grads = ([rng.standard_normal(9).astype(np.float32)] for _ in range(2))
    for clip in (False, True):
        found = _workloads.optimizer_step(Context(), variant, params, grads, clip)
        forms = [f"torch {form}" for form in ("fused", "foreach", "eager")]
        rivals = {*found.functions, *found.missing} - {"onepass"}
        assert rivals == {*(forms if variant.record.torch else [])}
        assert all(why.startswith("PyTorch has no") for why in found.missing.values())
        for function in found.functions.values():
            function()
        assert grads[0].any() != clip
