"""Every argument of every contract, broken one at a time.

The tables of csrc/bind/contract.h say what a call expects. A right call is made from the table, and
one argument is then replaced by each wrong value its kind allows. The call must raise one TypeError
or ValueError that names the operation and the argument, and must leave every byte as it was. A
value that is odd but allowed must give the bits of the plain call. A new contract is fuzzed because
it is listed.
"""

import math
import re

import numpy as np
import pytest
from cases import BFLOAT16
from helpers import Exported, bits, shifted
from onepass import _C, config

CONTRACTS = {contract["name"]: contract["arguments"] for contract in _C.contracts()}
FUNCTIONS = {contract["name"]: contract["function"] for contract in _C.contracts()}
# Of each optimizer rule, without the step, which the plan counts.
HYPER = {
    kernel["name"]: [0.5] * len([h for h in kernel["hyper"] if h != "step"])
    for kernel in _C.kernels()
    if kernel["kind"] == "update"
}
SHAPE = (4, 5, 3)
EXTENTS = {"reference": SHAPE, "channel": (5,), "saved": (3, 5), "rows": (4, 3), "free": (60,),
           "shorter": (2, 5, 3), "broadcast": (5, 3), "matrix_row": (4, 5, 1),
           "matrix_column": (4, 1, 3)}  # fmt: skip
# Norms over rows have a statistic for each row, and weights of another shape.
SHAPED = [op for op in CONTRACTS if any(a["name"] == "normalized_shape" for a in CONTRACTS[op])]
OWN_EXTENTS = {(op, "channel"): (5, 3) for op in SHAPED} | {(op, "saved"): (3, 4) for op in SHAPED}
OWN_EXTENTS |= {("group_norm", "saved"): (3, 4), ("instance_norm", "saved"): (3, 20)}
OWN_EXTENTS |= {("weight_norm", "channel"): (4,), ("weight_norm", "saved"): (3, 4)}
# Checks that the table leaves to the calls.
VALUES = {"axis": 1, "flag": True, "text": "relu", "options": (), "integer": -100, "word": 7,
          "real": 0.5, "norm_order": 2, "extents": (5, 3)}  # fmt: skip
OWN_EXTENTS |= {("batch_renorm", "saved"): (5, 5), ("batch_norm_moments", "saved"): (5, 5)}
OWN_EXTENTS |= {("batch_norm_of_shares", "free"): (2, 5, 5)}
OWN_EXTENTS |= {("batch_norm_backward_of_shares", "free"): (2, 3, 5)}
OWN = {("batch_renorm", "rmax"): 1.5}
OWN |= {("dropout_mask", "shape"): (60,), ("dropout_mask", "packed"): False}
PROBABILITIES = {"bce_loss"}  # takes no other inputs
OWN |= {(op, "axis"): 0 for op in ("glu", "glu_backward", "maxout", "maxout_backward")}
OWN |= {(op, "num_groups"): 1 for op in ("group_norm", "group_norm_backward")}
OWN |= {(op, "pieces"): 2 for op in ("maxout", "maxout_backward")}
# Windows of 3 by 3 that leave an image its size, and of one element.
POOLS = ("max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward")
OWN |= {(op, "kernel_size"): (3, 3) for op in POOLS} | {(op, "size"): (4, 5) for op in POOLS}
OWN |= {(op, "padding"): (1, 1, 1, 1) for op in POOLS}
OWN |= {(op, "kernel_size"): (1, 1) for op in ("im2col", "col2im")}
OWN |= {(op, "padding"): (0, 0, 0, 0) for op in ("im2col", "col2im")}
OWN |= {
    (op, name): (1, 1) for op in (*POOLS, "im2col", "col2im") for name in ("stride", "dilation")
}
OWN |= {("col2im", "size"): (5, 1), ("adaptive_avg_pool2d", "output_size"): (4, 5)}
OWN |= {("adaptive_avg_pool2d_backward", "size"): (4, 5)}
OWN_EXTENTS |= {
    (op, "shorter"): SHAPE for op in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
}
OWN_EXTENTS |= {("im2col", "shorter"): (1, 20, 3), ("col2im", "shorter"): (4, 5, 1, 3)}
# Depthwise convolutions: the same windows of 3 by 3, and a kernel for each channel.
DEPTHWISE = [f"depthwise_conv2d{part}" for part in ("", "_backward", "_weight_backward")]
OWN |= {(op, name): (1, 1) for op in DEPTHWISE for name in ("stride", "dilation")}
OWN |= {(op, "padding"): (1, 1, 1, 1) for op in DEPTHWISE} | {(DEPTHWISE[1], "size"): (4, 5)}
OWN |= {(DEPTHWISE[2], "kernel_size"): (3, 3)}
OWN_EXTENTS |= {(op, "shorter"): SHAPE for op in DEPTHWISE}
OWN_EXTENTS |= {("depthwise_conv2d", "channel"): (3, 1, 3, 3)}
OWN_EXTENTS |= {("depthwise_conv2d_weight", "channel"): (3, 1, 3, 3)}
OWN_EXTENTS |= {("depthwise_conv2d_weight", "shorter"): SHAPE}
RUNTIME = {
    "same_states", "code_blocks", "codes_of", "coded_bytes", "scales_at", "values_of",
    "contracts", "cpu_level", "cpu_levels", "cuda_built", "get_num_threads", "kernels", "lent",
    "move_streams", "set_cpu_level", "set_num_threads", "thread_limits", "set_test_backend",
    "set_test_cuda_backend", "stream_shapes", "take_number",
}  # fmt: skip


def given(op):
    """The arguments that Python passes, in order."""
    return [a for a in CONTRACTS[op] if not a["made"]]


def is_plan(op):
    return FUNCTIONS[op] is _C.Plan


def call(op, arguments):
    """The call, with each array of a list alone in it; a step, if the contract is a plan's."""
    arguments = [
        [value] if argument["many"] and not (value is None and argument["optional"]) else value
        for argument, value in zip(given(op), arguments, strict=True)
    ]
    return run(op, arguments)


def run(op, arguments):
    if not is_plan(op):
        return FUNCTIONS[op](*arguments)
    params, grads, *states = arguments
    plan = _C.Plan(op, params, states, [0])
    return plan.step(
        [None] if grads is None else grads, [HYPER[op]], 1.0, None, None, False, False, False, True
    )


def is_array(argument):
    return argument["shape"] not in ("", "vector")


def valid(argument, rng, op=""):
    kind = argument["type"]
    if kind in ("target", "labels"):
        return rng.integers(0, 5, EXTENTS["rows"])
    if argument["shape"] == "vector":
        return None  # beside matrices; tests/test_adafactor.py has vectors
    if kind == "mask":
        return np.zeros(EXTENTS["free"], bool)
    if is_array(argument):
        shape = argument["shape"]
        extents = OWN_EXTENTS.get((op.removesuffix("_backward"), shape), EXTENTS[shape])
        dtype = np.float64 if kind == "wide" else np.float32
        return np.abs(rng.standard_normal(extents)).astype(dtype) + dtype(0.5)
    if kind == "number":
        return 0.25
    if kind == "choice":
        return argument["choices"].split()[0]
    return VALUES[kind]


def right_call(op):
    rng = np.random.default_rng(0)
    values = [OWN.get((op, a["name"]), valid(a, rng, op)) for a in given(op)]
    if op in PROBABILITIES:
        values = [v % 1 if isinstance(v, np.ndarray) else v for v in values]
    return values


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
    dtypes = ["c8", "c16", "O", "M8[s]", np.longdouble, ">f4", ">f8", ">f2", ">i4"]
    dtypes += [] if name == "mask" else ["?"]
    dtypes += [] if name in ("target", "labels") else ["i4", "u1", "i8"]
    dtypes += [] if name == "floating" else ["f4" if name == "wide" else "f8"]
    dtypes += [] if name in ("floating", "compatible") else ["f2", BFLOAT16]
    for dtype in dtypes:
        yield f"dtype {np.dtype(dtype)}", np.zeros(value.shape, dtype)
    if name != "floating":
        like = value if name in ("target", "labels", "mask", "wide") else value.astype(f32)
        if argument["shape"] not in ("free", "broadcast"):
            yield "one axis more", like[None]
            yield "one axis less", like[0].copy()
        if argument["shape"] != "broadcast":
            yield "0-d", like.ravel()[:1].reshape(()).copy()
        yield "empty", like[:0].copy()
        for axis in range(argument["name"] == "shares", like.ndim):  # there may be any number
            yield f"one more along axis {axis}", np.repeat(like, 2, axis)
    if argument["write"] or argument["update"]:
        yield "read-only", frozen(value)
        yield "stride 0", broadcast(value)
    if argument["packed"]:
        yield "not dense", np.repeat(value, 2, -1)[..., ::2]
        yield "reversed", value[..., ::-1]


def wrong_scalars(argument):
    kind = argument["type"]
    for bad in (None, "never", [], object(), 1j):
        if kind in ("text", "choice") and bad == "never":
            yield "an unknown word", bad
        else:
            yield f"a {type(bad).__name__}", bad
    if kind == "number":
        numbers = [math.nan, -math.inf, argument["low"] - 0.5]
        if argument["high"] < math.inf:
            numbers.append(math.inf)
        if argument["high"] < 1e300:
            numbers.append(argument["high"] + 0.5)
        for number in numbers:
            yield f"{number}", number
    if kind == "norm_order":
        yield from ((f"{n}", n) for n in (0, 3, -1, math.nan, -math.inf))
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


def names(argument, op, message):
    """Whether a message names the argument, in quotes."""
    return re.search(rf"'{argument}(\[\d+\])?'", message.removeprefix(f"{op}: ")) is not None


@pytest.mark.parametrize(
    ("argument", "message", "named"),
    [
        ("x", "relu: 'x' has dtype int32", True),
        ("x", "relu: 'out' has dtype int32, expected float32 like 'x'", True),
        ("x", "relu: expected 2 axes", False),
        ("x", "relu: expected an array like x", False),
        ("x", "relu: 'x1' has 2 axes", False),
        ("bias", "bias_act: 'out' has shape (3,)", False),
        ("bias", "bias_act: expected an array with a bias_act", False),
        ("p", "dropout: 'p' is 2, expected a number", True),
        ("p", "dropout: p is 2, expected a number, 0 <= p <= 1", False),
        ("params", "sgd: 'params[0]' is read-only", True),
        ("grads", "sgd: 'grad' is read-only", False),
    ],
)
def test_a_message_names_an_argument(argument, message, named):
    assert names(argument, message.partition(":")[0], message) == named


def refused(op, name, arguments, label, errors=(TypeError, ValueError)):
    arrays = [a for a in arguments if isinstance(a, np.ndarray) and a.dtype != object]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(errors) as error:
        call(op, arguments)
    message = str(error.value)
    assert message.startswith(f"{op}: "), f"{label}: {message}"
    assert names(name, op, message), f"{label}: {message}"
    assert "\n" not in message, label
    for array, old in zip(arrays, before, strict=True):
        assert array.tobytes() == old, f"{label}: an array was changed"


ARGUMENTS = [(op, i) for op in CONTRACTS for i, a in enumerate(given(op)) if a["shape"] != "vector"]
IDS = [f"{op}-{given(op)[i]['name']}" for op, i in ARGUMENTS]


@pytest.mark.parametrize("op", CONTRACTS)
def test_the_right_call_is_right(op):
    call(op, right_call(op))
    for i, argument in enumerate(given(op)):
        if argument["write"]:
            arguments = right_call(op)
            arguments[i] = None
            call(op, arguments)


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


ARRAYS = [(op, i) for op, i in ARGUMENTS if is_array(given(op)[i])]


@pytest.mark.parametrize(("op", "i"), ARRAYS)
@pytest.mark.skipif(config.cuda_available(), reason="CUDA would be handed host memory")
def test_one_array_on_another_device(op, i):
    name = given(op)[i]["name"]
    for device in ((2, 0), (8, 0)):  # CUDA; Metal
        arguments = right_call(op)
        arguments[i] = Exported(arguments[i], device)
        # RuntimeError: every array read so far is on CUDA, which is not usable.
        refused(op, name, arguments, f"{op}, {name}: {device}", (TypeError, RuntimeError))


WRITTEN = [(op, i) for op, i in ARRAYS if given(op)[i]["write"] or given(op)[i]["update"]]


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
        size = max(out.nbytes, shared.nbytes)
        room = np.zeros(3 * size, np.uint8)
        last_out, last_shared = out.nbytes - 1, shared.nbytes - 1
        offsets = {-last_out, -out.itemsize, -1, 1, 4, shared.itemsize, last_shared // 2}
        for offset in offsets | {last_shared} | (set() if other["aliased"] else {0}):
            one = room[size : size + shared.nbytes].view(shared.dtype).reshape(shared.shape)
            one[...] = shared
            start = size + offset
            two = room[start : start + out.nbytes].view(out.dtype).reshape(out.shape)
            both = [*arguments]
            both[j], both[i] = one, two
            label = f"{op}: {written['name']} {offset} bytes after {other['name']}"
            refused(op, written["name"], both, label)
        if written["write"] and other["aliased"]:
            arguments[i] = arguments[j]
            call(op, arguments)


def reversed_axes(array):
    return array[(slice(None, None, -1),) * array.ndim].copy()[
        (slice(None, None, -1),) * array.ndim
    ]


# Packed arrays must be dense, and what is written not broadcast: test_one_wrong_argument.
LOOSE = [(op, i) for op, i in ARRAYS if not given(op)[i]["packed"]]
READ = [(op, i) for op, i in LOOSE if (op, i) not in WRITTEN]
# Layouts that hold the same values.
ODD = {
    "negative strides": reversed_axes,
    "misaligned": lambda a: shifted(a, 1),
    "Fortran": lambda a: np.asfortranarray(a),
    "gaps": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "gaps, misaligned": lambda a: shifted(np.repeat(a, 2, -1), 3)[..., ::2],
}


def values_of(result):
    """Every array and number of a result, in order."""
    if isinstance(result, (list, tuple)):
        return [value for part in result for value in values_of(part)]
    return [result]


@pytest.mark.parametrize(("op", "i"), LOOSE)
def test_an_odd_layout_gives_the_bits_of_the_plain_one(op, i):
    plain = right_call(op)
    want = values_of(call(op, plain)) + plain
    layouts = dict(ODD)
    if (op, i) in READ:
        layouts["read-only"] = frozen
    for label, layout in layouts.items():
        arguments = right_call(op)
        arguments[i] = layout(arguments[i])
        got = values_of(call(op, arguments)) + arguments
        for one, other in zip(got, want, strict=True):
            if isinstance(one, (np.ndarray, np.generic, float)):
                assert np.array_equal(bits(one), bits(other)), label
            else:
                assert one == other, label


@pytest.mark.parametrize(("op", "i"), READ)
def test_a_broadcast_input_gives_the_bits_of_a_full_one(op, i):
    full, flat = right_call(op), right_call(op)
    flat[i] = broadcast(full[i])
    full[i] = flat[i].copy()
    want, got = (values_of(call(op, arguments)) for arguments in (full, flat))
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(("op", "i"), [(o, i) for o, i in ARRAYS if given(o)[i]["many"]])
def test_a_list_of_arrays_is_a_list(op, i):
    name = given(op)[i]["name"]
    lists = [[a] if argument["many"] else a
             for argument, a in zip(given(op), right_call(op), strict=True)]  # fmt: skip
    for bad in (3, object()):
        lists[i] = bad
        with pytest.raises(TypeError, match=f"^{op}: '{name}' is a .*expected a list or tuple"):
            run(op, lists)


@pytest.mark.parametrize("op", [op for op in CONTRACTS if not is_plan(op)])
def test_the_number_of_arguments(op):
    for arguments in (right_call(op)[:-1], [*right_call(op), 1], []):
        with pytest.raises(TypeError, match=f"^{op}: expected {len(given(op))} positional"):
            FUNCTIONS[op](*arguments)


def test_every_function_has_a_contract():
    functions = {
        name
        for name in dir(_C)
        if callable(getattr(_C, name)) and not isinstance(getattr(_C, name), type)
    }
    functions |= set(_C.activation) | {f"{name}_backward" for name in _C.activation_backward}
    functions |= set(_C.pointwise_loss)
    functions |= {f"{name}_backward_y" for name in _C.activation_backward_y}
    functions |= set(HYPER)  # a plan of each rule
    assert set(CONTRACTS) == functions - RUNTIME
    assert len(_C.contracts()) == len(CONTRACTS), "two contracts have one name"
