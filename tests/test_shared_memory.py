"""Parameters over one memory: no file, copy or count takes them for what they are not."""

from __future__ import annotations

import copy
import warnings

import fake_cupy
import numpy as np
import pytest
from onepass import nn, optim
from onepass.nn import _sharing
from onepass.nn._exchange import _summary
from small_models import assert_same, perturb

X = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)


def plain():
    nn.manual_seed(0)
    return perturb(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))


def same_array():
    model = plain()
    model[2].weight = nn.Parameter(model[0].weight.data)
    return model


def transposed():
    model = plain()
    model[2].weight = nn.Parameter(model[0].weight.data.T)
    return model


def part():
    """A bias that is the diagonal of a weight, so that neither holds all of the other."""
    model = plain()
    model[2].bias = nn.Parameter(model[0].weight.data.reshape(-1)[::5])
    return model


def across():
    """Two weights that overlap by half."""
    model, both = plain(), np.arange(24, dtype=np.float32) / 24
    model[0].weight = nn.Parameter(both[:16].reshape(4, 4))
    model[2].weight = nn.Parameter(both[8:].reshape(4, 4))
    return model


def beside():
    """Two weights in one buffer, without an element in common."""
    model, both = plain(), np.arange(32, dtype=np.float32).reshape(4, 8) / 32
    model[0].weight, model[2].weight = nn.Parameter(both[:, :4]), nn.Parameter(both[:, 4:])
    return model


def tied():
    model = plain()
    model[2].weight = model[0].weight
    return model


def twice():
    """Two batch norms with one running mean, which every call moves twice."""
    layers = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4)]
    layers[3].running_mean = layers[1].running_mean
    return nn.Sequential(*layers)


SHARED = {"same array": same_array, "transposed": transposed, "part": part, "across": across}
each = pytest.mark.parametrize("name", SHARED)
# Elements of the model, whose layers have 20 each, in one memory counted once.
COUNTS = {"same array": 24, "transposed": 24, "part": 36, "across": 32, "beside": 40, "tied": 24}


@each
@pytest.mark.parametrize("form", ["m.safetensors", "m.npz"])
def test_a_file_has_the_values_and_says_that_it_has_no_model(name, form, tmp_path):
    model = SHARED[name]()
    before = model.state_dict()
    with pytest.warns(UserWarning, match="gets the weights alone.* two parameters in the same mem"):
        model.save(tmp_path / form)
    with pytest.raises(ValueError, match=r"has weights alone: '0.weight' and '2.* share one nn.P"):
        nn.load(tmp_path / form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / form, weights_only=True)
    for again in (SHARED[name](), plain()):  # memory in common or not
        perturb(again)
        again.load(tmp_path / form)
        assert_same(again.state_dict(), before)
        np.testing.assert_allclose(again(X), model(X), rtol=1e-6)


@each
def test_values_that_do_not_agree_are_refused(name, tmp_path):
    model = SHARED[name]()
    before = model.state_dict()
    other = perturb(plain())
    other.save(tmp_path / "m.npz", weights_only=True)
    for load, owner in ((model.load_state_dict, "load_state_dict"), (model.load, "load: .*m.npz")):
        given = other.state_dict() if owner == "load_state_dict" else tmp_path / "m.npz"
        with pytest.raises(ValueError, match=f"{owner}: '[02]..*' shares its memory with another"):
            load(given)
        assert_same(model.state_dict(), before)
    model.load_state_dict(other.state_dict(), strict=False)
    name = "2.bias" if name == "part" else "2.weight"
    np.testing.assert_array_equal(model.state_dict()[name], other.state_dict()[name])


def test_layers_that_share_a_parameter_take_equal_values_alone():
    model, other = tied(), plain()
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"'0\.weight' shares its memory with another entry"):
        model.load_state_dict(other.state_dict())
    assert_same(model.state_dict(), before)
    fits = {**other.state_dict(), "2.weight": other[0].weight.data}
    model.load_state_dict(fits)
    assert_same(model.state_dict(), fits)
    nan = {name: np.full_like(value, np.nan) for name, value in fits.items()}
    model.load_state_dict(nan)  # NaN is like NaN
    assert np.isnan(model[0].weight.data).all()


def test_neighbours_in_one_buffer_are_two(tmp_path):
    model = beside()
    assert _sharing.overlap(model) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "m.npz")
    again = nn.load(tmp_path / "m.npz")
    assert_same(again.state_dict(), model.state_dict())
    other = perturb(plain())
    model.load_state_dict(other.state_dict())
    assert_same(model.state_dict(), other.state_dict())


@each
def test_to_torch_refuses_what_would_be_apart_there(name):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^to_torch: '0.weight' and '2.*' are two parameters"):
        SHARED[name]().to_torch()
    assert beside().to_torch() is not None
    theirs = tied().to_torch()
    assert theirs[0].weight is theirs[2].weight


def test_layers_with_one_running_mean(tmp_path):
    pytest.importorskip("torch")
    model = twice()
    with pytest.raises(ValueError, match=r"to_torch: '1\.running_mean' and '3\.running_mean' are "
                       "two arrays in the same memory; give each layer one"):  # fmt: skip
        model.to_torch()
    with pytest.warns(UserWarning, match="weights alone, .*'1.running_mean' and '3.running_mean'"):
        model.save(tmp_path / "m.npz")
    again = twice()
    again.load(tmp_path / "m.npz")
    assert_same(again.state_dict(), model.state_dict())


def test_from_torch_refuses_what_would_be_apart_here():
    torch = pytest.importorskip("torch")
    for view in (lambda w: w, lambda w: w.t(), lambda w: w.flatten()[4:].reshape(3, 4)):
        theirs = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        with torch.no_grad():
            weight = view(theirs[0].weight)
            theirs[1] = torch.nn.Linear(4, weight.shape[0])
            theirs[1].weight = torch.nn.Parameter(weight)
        with pytest.raises(ValueError, match=r"from_torch: '0\.weight' and '1\.weight' are two par"
                           r".*share one torch\.nn\.Parameter"):  # fmt: skip
            nn.from_torch(theirs)
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    both = torch.randn(4, 8)
    theirs[0].weight = torch.nn.Parameter(both[:, :4])
    theirs[1].weight = torch.nn.Parameter(both[:, 4:])
    ours = nn.from_torch(theirs)
    np.testing.assert_array_equal(ours[1].weight.data, both[:, 4:].numpy())


@pytest.mark.parametrize("name", [*SHARED, "tied"])
def test_onnx_has_the_values_and_an_array_that_is_shared_once(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = {**SHARED, "tied": tied}[name]().eval()
    model.to_onnx(tmp_path / "m.onnx", (None, 4))
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": X})
    np.testing.assert_allclose(y, model(X), rtol=2e-5, atol=2e-5)
    kept = onnx.load(str(tmp_path / "m.onnx")).graph.initializer
    assert len(kept) == (3 if name in ("same array", "tied") else 4)


@pytest.mark.parametrize("name", COUNTS)
def test_a_summary_counts_each_element_once(name):
    model = {**SHARED, "beside": beside, "tied": tied}[name]()
    found = model.summary((5, 4))
    assert found.parameters == found.trainable == COUNTS[name]
    assert sum(row.parameters for row in found.layers) == COUNTS[name]
    assert found.parameter_bytes == 4 * COUNTS[name]
    model[0].weight.requires_grad = False
    assert model.summary((5, 4)).frozen == 16
    assert model.summary((5, 4)).layers[0].parameters == 20


def test_on_a_device(monkeypatch):
    model = plain()
    fake_cupy.install(monkeypatch)
    model.to("cuda")
    model[2].weight = nn.Parameter(model[0].weight.data)
    assert sum(_summary._sizes(model).values()) == 24
    assert "are two parameters in the same memory" in _sharing.overlap(model)


def test_columns_of_one_buffer_on_a_device_share_nothing(monkeypatch):
    fake_cupy.install(monkeypatch)
    model = plain()
    model.to("cuda")
    both = fake_cupy.cupy.asarray(np.arange(32, dtype=np.float32).reshape(4, 8))
    model[0].weight, model[2].weight = nn.Parameter(both[:, :4]), nn.Parameter(both[:, 4:])
    assert _sharing.overlap(model) is None
    model[2].weight = nn.Parameter(both[:, 3:7])
    assert "are two parameters in the same memory" in _sharing.overlap(model)


def test_large_weights_are_counted_by_their_ranges(monkeypatch):
    """Addresses of single elements would take a hundred times the memory of a weight."""
    model = transposed()
    monkeypatch.setattr(_summary, "elements", None)
    assert model.summary((5, 4)).parameters == COUNTS["transposed"]


@each
def test_an_optimizer_refuses_them_too(name):
    with pytest.raises(ValueError, match=r"overlaps|is the same array as"):
        optim.SGD(SHARED[name]().parameters(), lr=0.1)
    optim.SGD(tied().parameters(), lr=0.1)


def views():
    base = np.arange(64, dtype=np.float32)
    grid = base.reshape(8, 8)
    return {
        "all": base, "front": base[:10], "behind": base[10:20], "even": base[::2],
        "odd": base[1::2], "back to front": base[::-1][:10], "left": grid[:, :4],
        "right": grid[:, 4:], "row": grid[3], "column": grid[:, 5], "nothing": base[5:5],
        "elsewhere": base.copy(), "one": base[7:8],
    }  # fmt: skip


def test_every_pair_of_views_is_as_numpy_says():
    found = [_sharing.place_of(name, array, name) for name, array in views().items()]
    pairs = {(a.name, b.name) for a, b in _sharing.overlaps(found)}
    names = list(views())
    arrays = {place.name: place.array for place in found}
    expected = {
        (a, b) for i, a in enumerate(names) for b in names[i + 1 :]
        if np.shares_memory(arrays[a], arrays[b])
    }  # fmt: skip
    assert pairs == expected
    assert ("even", "odd") not in pairs
    assert ("left", "right") not in pairs
    for place in found:
        assert len(_sharing.elements(place)) == place.array.size


def test_a_copy_of_one_array_keeps_it_one():
    model = copy.deepcopy(same_array())
    assert model[2].weight.data is model[0].weight.data
    assert _sharing.overlap(model) is not None
