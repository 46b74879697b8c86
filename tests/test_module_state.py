"""The state of a module: frozen parameters, state_dict, pickles, devices."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from onepass import nn
from small_models import assert_same, grads, normal, perturb, residual_model, run


@pytest.mark.parametrize("fuse", [True, False])
def test_freeze(fuse):
    def build():
        nn.manual_seed(2)
        return perturb(
            nn.Sequential(
                nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), fuse=fuse
            )
        )

    x = normal((8, 4), "float32")
    model, trained = build(), build()
    model[1].freeze(statistics=False)
    model[3].bias.requires_grad = False
    free, frozen = run(trained, x), run(model, x)
    for name in ("1.weight", "1.bias", "3.bias"):
        assert grads(model)[name] is None
    for name in ("0.weight", "0.bias", "3.weight"):
        np.testing.assert_array_equal(grads(model)[name], grads(trained)[name])
    np.testing.assert_array_equal(frozen["dx2"], free["dx2"])
    model.unfreeze()
    model.backward(model(x))
    assert all(grad is not None for grad in grads(model).values())


def test_state_dict_is_a_copy():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = model.state_dict()
    model[0].weight.data += 1
    model(normal((4, 3), "float32"))
    assert state["1.num_batches_tracked"] == 0
    model.load_state_dict(state)
    assert_same(model.state_dict(), state)


def test_state_dict_comes_from_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    theirs(torch.randn(8, 3))
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours.state_dict(), {k: v.numpy() for k, v in theirs.state_dict().items()})
    ours.load_state_dict({k: v.bfloat16() for k, v in theirs.state_dict().items()})
    assert ours[0].weight.data.tolist() == theirs[0].weight.bfloat16().tolist()


def test_load_state_dict_is_all_or_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    del state["1.running_mean"]
    state["0.weight"] = np.zeros((4, 4), np.float32)
    state["0.bias"] = "text"
    state["extra"] = np.zeros(1)
    with pytest.raises(ValueError, match="nothing was changed") as error:
        model.load_state_dict(state)
    for part in ("missing 1.running_mean", "unexpected extra", "0.weight", "(4, 3)", "0.bias"):
        assert part in str(error.value)
    assert_same(model.state_dict(), before)


def test_a_partial_load_tells_both_shapes_and_keeps_the_rest():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = model.state_dict()
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Linear(5, 1))
    state = {"body." + k: v + 1 for k, v in other.state_dict().items()} | {"head.w": np.zeros(3)}
    result = model.load_state_dict({**state, "body.2.bias": "text"}, strict=False, prefix="body.")
    missing, unexpected, mismatched = result
    assert missing == [f"body.1.{name}" for name in nn.BatchNorm1d(4).state_dict()]
    assert unexpected == ["body.3.weight", "body.3.bias"]
    assert mismatched == result.mismatched == ["body.2.weight", "body.2.bias"]
    assert (mismatched[0].given, mismatched[0].expected) == ((5, 4), (2, 4))
    assert (mismatched[1].given, mismatched[1].expected) == (None, (2,))
    assert repr(mismatched[0]) == "<body.2.weight is float32 (5, 4), expected float32 (2, 4)>"
    after = model.state_dict()
    for name in before:
        moved = name.startswith("0.")
        assert (after[name] == before[name]).all() == (not moved), name
    np.testing.assert_array_equal(after["0.weight"], state["body.0.weight"])


def test_shared_parameters_count_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_pickle_leaves_activations_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    x = normal((1000, 3), "float32")
    expected = model(x)
    data = pickle.dumps(model)
    assert len(data) < x.nbytes / 2
    np.testing.assert_array_equal(pickle.loads(data)(x), expected)


def test_to_cpu_keeps_the_arrays():
    model = nn.Linear(3, 3)
    weight = model.weight.data
    assert model.to("cpu") is model
    assert model.weight.data is weight


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0"])
def test_unknown_device(device):
    with pytest.raises(ValueError, match="'device' is"):
        nn.Linear(3, 3).to(device)


def test_cuda_that_cannot_be_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy → ImportError
    model = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="CUDA cannot be used"):
        model.to("cuda")
    assert isinstance(model.weight.data, np.ndarray)


def test_to_cuda():
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(str(error))
    nn.manual_seed(4)
    model, twin = perturb(residual_model(p=0.3)), perturb(residual_model(p=0.3))
    twin.load_state_dict(model.state_dict())
    twin.to("cuda")
    nn.set_rng_state(nn.get_rng_state(model), twin)
    x = normal((12, 6))
    y = model(x)
    z = twin(cupy.asarray(x))
    np.testing.assert_allclose(cupy.asnumpy(z), y, rtol=1e-10)
    np.testing.assert_allclose(cupy.asnumpy(twin.backward(z)), model.backward(y), rtol=1e-9)
    twin.to("cpu")
    for name, grad in grads(model).items():
        np.testing.assert_allclose(grads(twin)[name], grad, rtol=1e-9, atol=1e-12, err_msg=name)


def with_entry(model, name, value):
    state = model.state_dict()
    state[name] = value
    return state


def longdouble(number):
    return np.array([number, "1"], np.longdouble)


LOST = {
    "float64 beyond float32": (
        "0.bias",
        np.array([1e300, 1.0]),
        "bias holds 1e.300, expected",
    ),
    "half a batch": ("1.num_batches_tracked", np.array(2.5), "holds 2.5, expected whole numbers"),
    "NaN batches": ("1.num_batches_tracked", np.array(np.nan), "holds nan, expected whole numbers"),
    "batches beyond int64": ("1.num_batches_tracked", np.array(1e30), "holds 1e"),
    "fewer than no batches": ("1.num_batches_tracked", np.array(-1), "holds -1, expected whole"),
    "fewer in 32 bits": ("1.num_batches_tracked", np.array(-1, np.int32), "holds -1, expected"),
    "masked": ("0.bias", np.ma.masked_equal([1.0, 2.0], 2), "is a MaskedArray"),
    "complex": ("0.bias", np.ones(2, np.complex64), "is complex64"),
    "dates": ("0.bias", np.zeros(2, "datetime64[s]"), "is datetime64"),
    "objects": ("0.bias", np.array([1.0, None]), "is object"),
    "records": ("0.bias", np.zeros(2, [("a", "f4")]), r"is \[\('a'"),
    "ragged": ("0.bias", [[1.0], [2.0, 3.0]], "is not an array"),
    "None": ("0.bias", None, "is object"),
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("strict", [True, False])
def test_values_that_would_be_lost_in_a_state_are_refused(name, strict):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    key, value, words = LOST[name]
    before = {k: v.tobytes() for k, v in model.state_dict().items()}
    if strict:
        with pytest.raises(ValueError, match=words):
            model.load_state_dict(with_entry(model, key, value))
    else:
        assert model.load_state_dict({key: value}, strict=False).mismatched == [key]
    assert {k: v.tobytes() for k, v in model.state_dict().items()} == before


def test_a_longdouble_beyond_the_parameters_dtype_is_refused():
    model = nn.Sequential(nn.Linear(2, 2, dtype="float64"))
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(ValueError, match=r"0\.bias holds 1e\+3000, expected numbers of float64"):
        model.load_state_dict(with_entry(model, "0.bias", longdouble("1e3000")))


@pytest.mark.parametrize("dtype", ["longdouble", "float16", ">f4", "uint8", "bfloat16"])
def test_values_of_other_dtypes_that_fit_are_taken(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    model = nn.Sequential(nn.Linear(2, 2))
    model.load_state_dict(with_entry(model, "0.bias", np.array([1, 3]).astype(dtype)))
    assert model[0].bias.data.dtype == np.float32
    assert model[0].bias.data.tolist() == [1.0, 3.0]
