"""Every argument of every contract, broken one at a time.

The tables of csrc/bind/contract.h say what a call expects. A right call is made from the table, and
one argument is then replaced by each wrong value its kind allows. The call must raise one TypeError
or ValueError that names the operation and the argument, and must leave every byte as it was. A new
contract is fuzzed because it is listed.
"""

import math

import numpy as np
import pytest
from onepass import _C

CONTRACTS = {contract["name"]: contract["arguments"] for contract in _C.contracts()}
SHAPE = (4, 5, 3)
EXTENTS = {"reference": SHAPE, "channel": (5,), "saved": (3, 5), "rows": (4, 3)}
# What the table leaves open.
VALUES = {"axis": 1, "flag": True, "text": "relu", "options": (), "integer": -100, "word": 7}
RUNTIME = {
    "contracts", "cpu_level", "cpu_levels", "cuda_built", "get_num_threads", "kernels",
    "set_cpu_level", "set_num_threads", "set_test_backend", "set_test_cuda_backend",
}  # fmt: skip
# Their checks are in elementwise.cpp and norms.cpp, not in a table.
WITHOUT_TABLE = {"dropout", "dropout_mask", "global_norm"}
for kernel in _C.kernels():
    if kernel["kind"].startswith("activation"):
        WITHOUT_TABLE |= {kernel["name"], kernel["name"].removesuffix("_backward") + "_backward"}


def given(op):
    """The arguments that Python passes, in order."""
    return [a for a in CONTRACTS[op] if not a["made"]]


def is_array(argument):
    return argument["shape"] != ""


def valid(argument, rng):
    kind = argument["type"]
    if kind == "target":
        return rng.integers(0, 5, EXTENTS["rows"])
    if is_array(argument):
        return np.abs(rng.standard_normal(EXTENTS[argument["shape"]])).astype(np.float32) + 0.5
    if kind == "number":
        return 0.25
    if kind == "choice":
        return argument["choices"].split()[0]
    return VALUES[kind]


def right_call(op):
    rng = np.random.default_rng(0)
    return [valid(argument, rng) for argument in given(op)]


def frozen(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def broadcast(array):
    return np.lib.stride_tricks.as_strided(array.copy(), array.shape, (0,) * array.ndim)


def wrong_arrays(argument, value):
    """(what is wrong, the value) for an array."""
    name, f32 = argument["type"], np.float32
    if not (argument["optional"] or argument["write"]):
        yield "None", None
    for bad in ([1.0], (1.0,), "x", object(), 1.0, {}):
        yield f"a {type(bad).__name__}", bad
    dtypes = ["?", "c8", "O", "M8[s]", np.longdouble, ">f4"]
    dtypes += [] if name == "target" else ["i4", "u1", "i8"]
    dtypes += [] if name == "floating" else ["f8"]
    for dtype in dtypes:
        yield f"dtype {np.dtype(dtype)}", np.zeros(value.shape, dtype)
    if name != "floating":
        like = value.astype(f32) if name != "target" else value
        yield "one axis more", like[None]
        yield "one axis less", like[0].copy()
        yield "0-d", like.ravel()[:1].reshape(()).copy()
        yield "empty", like[:0].copy()
        for axis in range(like.ndim):
            yield f"one more along axis {axis}", np.repeat(like, 2, axis)
    if argument["write"] or argument["update"]:
        yield "read-only", frozen(value)
        yield "stride 0", broadcast(value)
    if argument["packed"]:
        yield "not dense", np.repeat(value, 2, -1)[..., ::2]


def wrong_scalars(argument):
    kind = argument["type"]
    for bad in (None, "never", [], object(), 1j):
        if kind in ("text", "choice") and bad == "never":
            yield "an unknown word", bad
        else:
            yield f"a {type(bad).__name__}", bad
    if kind == "number":
        numbers = [math.nan, -math.inf, math.inf, argument["low"] - 0.5]
        if argument["high"] < 1e300:
            numbers.append(argument["high"] + 0.5)
        for number in numbers:
            yield f"{number}", number
    if kind == "axis":
        yield from ((f"{n}", n) for n in (3, -4, 2**70, 0.5))
    if kind in ("integer", "word"):
        yield from ((f"{n}", n) for n in (2**64, -(2**64), 0.5))
    if kind == "word":
        yield "negative", -1
    if kind == "options":
        yield "too many", (0.5,)


def wrong_values(argument, value):
    return wrong_arrays(argument, value) if is_array(argument) else wrong_scalars(argument)


def refused(op, name, arguments, label):
    arrays = [a for a in arguments if isinstance(a, np.ndarray) and a.dtype != object]
    before = [a.tobytes() for a in arrays]
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(_C, op)(*arguments)
    message = str(error.value)
    assert message.startswith(f"{op}: "), f"{label}: {message}"
    assert name in message, f"{label}: {message}"
    assert "\n" not in message, label
    for array, bits in zip(arrays, before, strict=True):
        assert array.tobytes() == bits, f"{label}: an array was changed"


ARGUMENTS = [(op, i) for op in CONTRACTS for i in range(len(given(op)))]
IDS = [f"{op}-{given(op)[i]['name']}" for op, i in ARGUMENTS]


@pytest.mark.parametrize("op", CONTRACTS)
def test_the_right_call_is_right(op):
    getattr(_C, op)(*right_call(op))
    for i, argument in enumerate(given(op)):
        if argument["write"]:
            arguments = right_call(op)
            arguments[i] = None
            getattr(_C, op)(*arguments)


@pytest.mark.parametrize(("op", "i"), ARGUMENTS, ids=IDS)
def test_one_wrong_argument(op, i):
    argument = given(op)[i]
    count = 0
    for label, bad in wrong_values(argument, right_call(op)[i]):
        name = argument["name"]
        arguments = right_call(op)
        arguments[i] = bad
        refused(op, name, arguments, f"{op}, {name}: {label}")
        count += 1
    assert count > 2


WRITTEN = [(op, i) for op, i in ARGUMENTS if given(op)[i]["write"] or given(op)[i]["update"]]


@pytest.mark.parametrize(("op", "i"), WRITTEN)
def test_a_result_over_an_input(op, i):
    """A result that shares memory with any other argument, but is not exactly an aliased input."""
    table = given(op)
    written = table[i]
    for j, other in enumerate(table):
        if j == i or not is_array(other):
            continue
        arguments = right_call(op)
        out, shared = arguments[i], arguments[j]
        room = np.zeros(2 * max(out.nbytes, shared.nbytes) + 64, np.uint8)
        shift = 4 if other["aliased"] or shared.itemsize == 4 else 8
        for offset in {shift, 0} - ({0} if other["aliased"] else set()):
            one = room[: shared.nbytes].view(shared.dtype).reshape(shared.shape)
            one[...] = shared
            two = room[offset : offset + out.nbytes].view(out.dtype).reshape(out.shape)
            both = [*arguments]
            both[j], both[i] = one, two
            refused(op, written["name"], both, f"{op}: {written['name']} over {other['name']}")
        if other["aliased"]:
            arguments[i] = arguments[j]
            getattr(_C, op)(*arguments)


@pytest.mark.parametrize("op", CONTRACTS)
def test_the_number_of_arguments(op):
    for arguments in (right_call(op)[:-1], [*right_call(op), 1], []):
        with pytest.raises(TypeError, match=f"^{op}: expected {len(given(op))} positional"):
            getattr(_C, op)(*arguments)


def test_every_function_has_a_contract():
    functions = {
        name
        for name in dir(_C)
        if callable(getattr(_C, name)) and not isinstance(getattr(_C, name), type)
    }
    missing = functions - set(CONTRACTS) - RUNTIME - WITHOUT_TABLE
    assert not missing, f"no table in csrc/bind for {sorted(missing)}"
