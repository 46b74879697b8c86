"""Every row of cases.CASES against its float64 formula, every element, in every dtype: each two of
shape, options and dtype, or all three with --all-cases.

The edges that a random input does not meet are in the files of the families:
test_activation_edges.py, test_dropout_mask.py, test_batch_norm.py, test_cross_entropy.py,
test_global_norm.py."""

import math

import pytest
from cases import CASES, computing
from helpers import (
    CASE_IDS,
    assert_all_close,
    assert_all_same,
    each_dtype,
    from_torch,
    mapped,
    sweep,
    to_torch,
)

each_case = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)


@each_dtype
@each_case
def test_against_reference(case, dtype):
    for label, shape, options in sweep(case, dtype=dtype):
        inputs = case.inputs(shape, dtype, options)
        want = case.expect(inputs, options)
        got = case.run(inputs, options)
        assert_all_close(got, want, case.tolerance, dtype, label)


@each_dtype
@each_case
def test_results_keep_the_dtype(case, dtype):
    shape = next(s for s in case.shapes if math.prod(s) > 1)
    results = case.run(case.inputs(shape, dtype, case.options[0]), case.options[0])
    first = results[0][0] if isinstance(results[0], list) else results[0]
    if case.keeps_dtype:
        assert first.dtype == dtype
    for vector in results[1:]:  # running statistics, dbias, dweight, optimizer state
        vector = vector[0] if isinstance(vector, list) else vector
        if vector is None or vector.shape in (first.shape, shape):  # of a loss: the gradient
            continue
        if vector.ndim == 1:
            assert vector.dtype == computing(dtype), case.name


@each_dtype
@each_case
def test_torch_tensors_give_the_same_bits(case, dtype):
    torch = pytest.importorskip("torch")

    def back(value):
        if isinstance(value, list):
            return [back(v) for v in value]
        return from_torch(value) if isinstance(value, torch.Tensor) else value

    for label, shape, options in sweep(case, shapes=case.shapes[2:6], dtype=dtype):
        want = case.run(case.inputs(shape, dtype, options), options)
        got = case.run(mapped(to_torch, case.inputs(shape, dtype, options)), options)
        if case.family not in ("reduction", "mask"):
            first = got[0][0] if isinstance(got[0], list) else got[0]
            assert isinstance(first, torch.Tensor), f"{label}: outputs come back as {type(first)}"
        assert_all_same(back(list(got)), list(want), label)


@each_case
def test_calls_repeat(case):
    shape = case.shapes[-1]
    for options in case.options:
        first = case.run(case.inputs(shape, "float32", options), options)
        again = case.run(case.inputs(shape, "float32", options), options)
        assert_all_same(again, first, f"{case.name} {options}")
