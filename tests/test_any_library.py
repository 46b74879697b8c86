"""CPU arrays of a library that has DLPack and nothing else, as JAX: inputs of every call, whose
results are NumPy arrays."""

import numpy as np
import pytest
from helpers import Exported, bits
from onepass import ops
from test_contracts import CONTRACTS, call, given, is_array, is_plan, right_call, values_of


@pytest.mark.parametrize("op", [op for op in CONTRACTS if not is_plan(op)])
def test_every_input_from_another_library(op):
    plain, exported = right_call(op), right_call(op)
    for i, argument in enumerate(given(op)):
        if argument["write"]:
            plain[i] = exported[i] = None
        elif is_array(argument) and not argument["update"]:
            exported[i] = Exported(exported[i])
    want, got = values_of(call(op, plain)), values_of(call(op, exported))
    for one, other in zip(got, want, strict=True):
        if isinstance(one, Exported):  # what forward saves for backward: x itself
            one = one.array
        if isinstance(other, (np.ndarray, np.generic, float)):
            assert type(one) is type(other)
            assert np.array_equal(bits(np.asarray(one)), bits(np.asarray(other)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_functions_on_another_library(dtype):
    x = np.linspace(-2, 2, 24).reshape(4, 6).astype(dtype)
    for array in (x, x.T, x[::2, 1:], x[:0]):
        got = ops.relu(Exported(array))
        assert type(got) is np.ndarray
        assert got.dtype == dtype
        assert np.array_equal(got, ops.relu(array))
    loss, gradient = ops.cross_entropy(Exported(x), Exported(np.array([0, 1, 2, 3])))
    want = ops.cross_entropy(x, np.array([0, 1, 2, 3]))
    assert type(loss) is type(want[0])
    assert loss == want[0]
    assert np.array_equal(gradient, want[1])


def test_what_lies_on_no_device_of_ours_is_still_refused():
    with pytest.raises(
        TypeError, match=r"^relu: 'x' lies on a device that is neither CPU nor CUDA"
    ):
        ops.relu(Exported(np.zeros(3, np.float32), (8, 0)))
