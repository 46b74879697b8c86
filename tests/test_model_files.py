"""`Module.save`, `Module.load`, `nn.load`: what comes back, and what is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from onepass import nn, optim
from onepass._parameter import Computed
from onepass.nn._exchange._layers import layers, options_of
from onepass.nn._exchange._shapes import shapes
from onepass.nn._init_walk import own_parameters
from onepass.train import Callback, Diagnosis, Trainer
from small_layers import ALL, layer
from small_models import assert_same, perturb, residual_model

FORMS = ["m.safetensors", "m.npz"]
each_form = pytest.mark.parametrize("form", FORMS)


def flags(model):
    return {
        name: (m.training, m._holds_eval, m.statistics_frozen, getattr(m, "fuse", None))
        for name, m in model.named_modules()
    }


@pytest.mark.parametrize("name", ALL)
def test_every_layer_comes_back_from_its_file_alone(name, tmp_path):
    for form, dtype in zip(FORMS, ("float64", "float32"), strict=True):
        ours, x = layer(name, dtype)
        random = nn.get_rng_state(ours)
        ours.save(tmp_path / form)
        again = nn.load(tmp_path / form)
        after = nn.get_rng_state(ours)
        assert (after["init"], after["layers"]) == (random["init"], random["layers"])
        assert repr(again) == repr(ours)
        assert_same(again.state_dict(), ours.state_dict())
        assert flags(again) == flags(ours)
        np.testing.assert_array_equal(again.eval()(x), ours.eval()(x), strict=True)


@each_form
def test_modes_frozen_and_shared_parameters_come_back(form, tmp_path):
    model = perturb(residual_model(p=0.3))
    model[1].eval()
    model[4].freeze()
    model[5].body.fuse = False
    model[6].weight.requires_grad = False
    model[4].shortcut.weight = model[1].body[2].weight
    model.save(tmp_path / form)
    again = nn.load(tmp_path / form)
    assert flags(again) == flags(model)
    named = dict(model.named_parameters())
    assert {k: p.requires_grad for k, p in again.named_parameters()} == {
        k: p.requires_grad for k, p in named.items()
    }
    assert again[4].shortcut.weight is again[1].body[2].weight
    assert_same(again.state_dict(), model.state_dict())
    assert again[3].stream.peek() != model[3].stream.peek()


@each_form
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_are_kept(dtype, form, tmp_path):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    model[1].num_batches_tracked[...] = 7
    model.save(tmp_path / form)
    again = nn.load(tmp_path / form)
    assert_same(again.state_dict(), model.state_dict())
    assert again[0].weight.dtype == dtype
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    plain.load(tmp_path / form)
    wide = {k: v.astype(p.dtype) for (k, v), p in
            zip(model.state_dict().items(), plain.state_dict().values(), strict=True)}  # fmt: skip
    assert_same(plain.state_dict(), wide)


class Own(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(3, 2)
        self.scale = nn.Parameter(np.ones(2, np.float32))

    def forward(self, x):
        return self.inner(x) * self.scale.data


@each_form
def test_weights_of_a_module_of_ones_own_go_into_one_that_is_there(form, tmp_path):
    model = perturb(nn.Sequential(nn.ReLU(), Own()))
    with pytest.warns(UserWarning, match="save: .* the weights alone.* layer '1' is a Own"):
        model.save(tmp_path / form)
    with pytest.raises(
        ValueError, match="weights alone: layer '1' is a Own, which is not a layer of"
    ):
        nn.load(tmp_path / form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / form, weights_only=True)
    with pytest.raises(ValueError, match="weights alone, as was asked for; build the model"):
        nn.load(tmp_path / form)
    other = nn.Sequential(nn.ReLU(), Own())
    assert other.load(tmp_path / form) == ([], [], [])
    assert_same(other.state_dict(), model.state_dict())
    part = Own()
    part.load(tmp_path / form, prefix="1.")
    assert_same(part.state_dict(), model[1].state_dict())


@each_form
def test_another_model_is_refused_and_unchanged(form, tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    model.save(tmp_path / form, weights_only=True)
    other = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"load: .*m\.\w+: the state(.|\n)*missing 1\.bias") as e:
        other.load(tmp_path / form)
    assert "0.weight is float32 (4, 3), expected float32 (5, 3)" in str(e.value)
    assert_same(other.state_dict(), before)
    model.save(tmp_path / form)
    with pytest.raises(ValueError, match="'out_features' of layer '0', a Linear, is 4 in the file"):
        other.load(tmp_path / form)
    assert_same(other.state_dict(), before)
    result = other.load(tmp_path / form, strict=False)
    assert result.missing == ["1.bias"]
    assert result.mismatched == ["0.weight", "0.bias", "1.weight"]


SAVED = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({1: nn.Tanh()}, "layer '1' is a ReLU in the file, and a Tanh in the model"),
        ({1: nn.LeakyReLU(0.2)}, "layer '1' is a ReLU in the file"),
        ({2: nn.GroupNorm(2, 4)}, "layer '2' is a LayerNorm in the file"),
        ({2: nn.LayerNorm(4, eps=0.5)}, "'eps' of layer '2', a LayerNorm, is 1e-05 in the file"),
        ({1: nn.Sequential(nn.ReLU())}, "layer '1' is a ReLU in the file, and a Sequential in"),
        ({4: nn.ReLU()}, "layer '4', a ReLU, is in the model alone"),
        ({3: None}, "layer '3', a Linear, is in the file alone"),
        ({1: nn.Tanh(), 4: type("Mine", (nn.ReLU,), {})()}, "'1' is a ReLU in the file"),
    ],
)
def test_a_model_of_other_layers_with_arrays_of_the_same_shapes(changes, words, tmp_path):
    SAVED.save(tmp_path / "m.npz")
    layers = {**dict(enumerate(copy.deepcopy(list(SAVED.layers)))), **changes}
    other = nn.Sequential(*(layer for layer in layers.values() if layer is not None))
    before = perturb(other).state_dict()
    with pytest.raises(ValueError, match=words) as e:
        other.load(tmp_path / "m.npz")
    assert "m.npz is of another model" in str(e.value)
    assert_same(other.state_dict(), before)
    other.load(tmp_path / "m.npz", strict=False)
    np.testing.assert_array_equal(other[0].weight.data, SAVED[0].weight.data)


def untied(tie=()):
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(4)))
    for later, first in tie:
        model[later].weight = model[first].weight
    return perturb(model)


@each_form
@pytest.mark.parametrize(
    ("saved", "other", "words"),
    [
        ((), [(2, 0)], "'2.weight' is a parameter of its own in the file, and the same as '0.we"),
        ([(2, 0)], (), "'2.weight' is the same as '0.weight' in the file, and a param"),
        ([(2, 0)], [(2, 1)], "as '0.weight' in the file, and the same as '1.weight' in"),
        ([(1, 0), (3, 2)], [(i, 0) for i in (1, 2, 3)], "'2.weight' is a parameter of its own in"),
    ],
)
def test_parameters_that_layers_share_in_one_of_the_two(saved, other, words, form, tmp_path):
    model, own = untied(saved), untied(other)
    model.save(tmp_path / form)
    before = own.state_dict()
    with pytest.raises(ValueError, match=f"load: .* is of another model: .*{words}"):
        own.load(tmp_path / form)
    assert_same(own.state_dict(), before)
    own.load(tmp_path / form, strict=False)
    again = untied(saved)
    again.load(tmp_path / form)
    assert_same(again.state_dict(), model.state_dict())


def test_modes_do_not_make_another_model(tmp_path):
    SAVED.save(tmp_path / "m.npz")
    other = copy.deepcopy(SAVED).eval()
    other.fuse = False
    other[1] = type("Mine", (nn.ReLU,), {})()  # of which nothing is known
    other.load(tmp_path / "m.npz")
    conv = nn.Conv2d(2, 3, 3, channels_last=True)
    conv.save(tmp_path / "c.npz")
    nn.Conv2d(2, 3, 3).load(tmp_path / "c.npz")


def test_wrong_arguments_of_load_are_refused_before_the_file_is_read(tmp_path):
    for arguments in ({"strict": 3}, {"prefix": 4}):
        with pytest.raises(TypeError, match=f"load: '{next(iter(arguments))}' is"):
            nn.Linear(2, 2).load(tmp_path / "none", **arguments)
    with pytest.raises(TypeError, match="save: 'weights_only' is 3"):
        nn.Linear(2, 2).save(tmp_path / "none", weights_only=3)


def test_an_option_that_was_set_to_something_else(tmp_path):
    model = nn.Sequential(nn.Dropout(0.5))
    model[0].p = np.float32(0.25)
    model.save(tmp_path / "m.npz")
    assert nn.load(tmp_path / "m.npz")[0].p == 0.25
    model[0].p = Path("x")
    with pytest.warns(UserWarning, match="'p' of layer '0', a Dropout, is .*, which no file holds"):
        model.save(tmp_path / "m.npz")


def test_the_file_is_replaced_whole_and_equal_models_give_equal_bytes(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for form in FORMS:
        model.save(tmp_path / "new" / form)
        first = (tmp_path / "new" / form).read_bytes()
        model.save(tmp_path / "new" / form)
        assert (tmp_path / "new" / form).read_bytes() == first
    model[0].weight.data = model[0].weight.data.astype("float128")
    with pytest.raises(TypeError, match=r"save: '0\.weight' has dtype float128"):
        model.save(tmp_path / "new" / FORMS[0])
    assert sorted(os.listdir(tmp_path / "new")) == sorted(FORMS)
    assert nn.load(tmp_path / "new" / FORMS[0])[0].weight.dtype == "float32"


def test_arrays_that_do_not_lie_in_c_order(tmp_path):
    model = nn.Linear(3, 4)
    model.weight.data = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    model.bias.data = np.arange(8, dtype=np.float32)[::-2]
    for form in FORMS:
        model.save(tmp_path / form)
        assert_same(nn.load(tmp_path / form).state_dict(), model.state_dict())


def test_a_norm_without_one_of_its_parameters(tmp_path):
    model = nn.BatchNorm1d(3)
    model.weight = None
    model.save(tmp_path / "m.npz")
    again = nn.load(tmp_path / "m.npz")
    assert again.weight is None
    assert_same(again.state_dict(), model.state_dict())


# -- other libraries -------------------------------------------------------------------------------


def test_safetensors_reads_and_writes_the_same(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = perturb(residual_model(dtype="float32"))
    model.save(tmp_path / "m.safetensors")
    assert_same(safetensors.load_file(tmp_path / "m.safetensors"), model.state_dict())
    state = {k: np.asarray(v + 1) for k, v in model.state_dict().items()}
    safetensors.save_file(state, tmp_path / "n.safetensors")
    model.load(tmp_path / "n.safetensors")
    assert_same(model.state_dict(), state)
    with pytest.raises(ValueError, match="does not say of which model; build the model, and call"):
        nn.load(tmp_path / "n.safetensors")


@pytest.mark.parametrize("prefix", ["", "body."])
@pytest.mark.parametrize("kept", ["0", "2"])
def test_a_file_with_one_name_of_a_shared_parameter(prefix, kept, tmp_path):
    """As PyTorch's users write it."""
    torch = pytest.importorskip("torch")
    save_model = pytest.importorskip("safetensors.torch").save_model
    theirs = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))
    other = "2" if kept == "0" else "0"
    theirs[2].weight = theirs[0].weight
    whole = theirs if not prefix else torch.nn.ModuleDict({"body": theirs})
    file = tmp_path / "m.safetensors"
    save_model(whole, file)
    if kept == "2":
        state = _file_state(file)
        state[f"{prefix}2.weight"] = state.pop(f"{prefix}0.weight")
        pytest.importorskip("safetensors.numpy").save_file(state, file)
    assert f"{prefix}{kept}.weight" in _file_state(file)
    assert f"{prefix}{other}.weight" not in _file_state(file)
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))
    with pytest.raises(ValueError, match=rf"missing {prefix}{other}.weight"):
        model.load(file, prefix=prefix)
    model[2].weight = model[0].weight
    model.load(file, prefix=prefix)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], tensor.numpy(), strict=True)
    assert model[2].weight is model[0].weight


def _file_state(file):
    return pytest.importorskip("safetensors.numpy").load_file(file)


def test_pytorch_loads_what_safetensors_reads(tmp_path):
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    ours = perturb(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())).eval()
    ours.save(tmp_path / "m.safetensors")
    t = torch.nn
    theirs = t.Sequential(t.Conv2d(2, 3, 3), t.BatchNorm2d(3), t.ReLU()).eval()
    theirs.load_state_dict(load_file(tmp_path / "m.safetensors"))
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(
        theirs(torch.from_numpy(x)).detach().numpy(), ours(x), rtol=1e-5, atol=1e-5
    )


def test_numpy_reads_and_writes_the_same(tmp_path):
    model = perturb(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    model.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        names = [name for name in file.files if name != "about.json"]
        assert_same({name: file[name] for name in names}, model.state_dict())
    state = {k: np.asarray(v + 1, order="F") for k, v in model.state_dict().items()}
    np.savez(tmp_path / "n.npz", **state)
    model.load(tmp_path / "n.npz")
    assert_same(model.state_dict(), state)


# -- hostile and damaged files ---------------------------------------------------------------------


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1))


def refused(path, words):
    """By both; nothing is changed."""
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1))
    before, random = target.state_dict(), nn.get_rng_state()
    with pytest.raises(ValueError, match=words) as e:
        nn.load(path)
    assert str(path) in str(e.value)
    with pytest.raises(ValueError, match=words):
        target.load(path)
    assert_same(target.state_dict(), before)
    assert nn.get_rng_state() == random


@each_form
def test_a_file_that_is_cut_off_or_damaged_anywhere_is_refused(model, form, tmp_path):
    path = tmp_path / form
    model.save(path)
    whole = path.read_bytes()
    for end in {0, 1, 4, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:end])
        refused(path, "cannot be used")
    path.write_bytes(whole + b"x")
    refused(path, "cannot be used") if form == FORMS[0] else None
    rng = np.random.default_rng(0)
    state = model.state_dict()
    for _ in range(150):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            again = nn.load(path)
        except ValueError:
            continue
        assert_same(again.state_dict(), state)  # a byte that nothing reads, such as a time
        assert repr(again) == repr(model)


def header(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(path, change, about=None):
    """With another header, whose arrays have no checksum."""
    found, data = header(path)
    known = json.loads(found["__metadata__"].pop("onepass"))
    found["__metadata__"] = {}
    if about is not None:
        about(known)
    found["__metadata__"]["onepass"] = json.dumps(known)
    change(found)
    text = json.dumps(found).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(**changes):
    return lambda header: header["0.weight"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (entry(shape=[4, 4]), "takes 64 bytes, and has 48"),
        (entry(shape=[2**62, 2**62]), "takes .* bytes, and has 48"),
        (entry(shape=[-4, -3]), "has shape"),
        (entry(shape=[4.0, 3]), "has shape"),
        (entry(shape=[True, 12]), "has shape"),
        (entry(shape="12"), "has shape"),
        (entry(shape=[1] * 40 + [12]), "has shape"),
        (entry(data_offsets=[0]), "has no dtype, shape and data_offsets"),
        (entry(data_offsets=[1, 49]), "do not begin where those before it end"),
        (entry(dtype="F128"), "has dtype 'F128', expected one of"),
        (entry(dtype=["F32"]), "has dtype"),
        (lambda h: h.update(other={"dtype": "F32", "shape": [0]}), "has no dtype, shape and"),
        (lambda h: h.pop("0.bias"), "do not begin|in the file"),
        (lambda h: h.update(__metadata__=[1]), "is not an object of texts"),
        (lambda h: h.update(__metadata__={"sha256": "0"}), "SHA-256 does not match"),
    ],
)
def test_a_hostile_header_is_refused(model, change, words, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    rewrite(path, change)
    refused(path, words)


def first(**changes):
    return lambda about: about["model"]["layers"]["inside"]["0"].update(changes)


def linear(rows, columns, **options):
    given = {"in_features": rows, "out_features": columns, "bias": True}
    return first(options=given | options)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (first(layer="Maxout2"), "layer '0' is a 'Maxout2', which this version of onepass has not"),
        (first(layer=["Linear"]), "layer '0' is a"),
        (first(layer="Module"), "has not"),
        (first(layer="__builtins__"), "has not"),
        (linear(2**40, 2**40), r"has shape \(4, 3\), expected \(1099511627776, 10"),
        (linear(-3, -4), "'out_features' is -4"),
        (linear("3", 4), "'in_features' is '3'"),
        (linear(3, 4, evil=1), "unknown keyword 'evil'"),
        (first(options={"in_features": 3}), "out_features"),
        (linear(4, 3), r"expected \(3, 4\)"),
        (linear(3, 4, bias=False), "know nothing"),
        (first(inside={"0": {"layer": "ReLU"}}), "has .* inside"),
        (first(layer="Sequential", options={"fuse": "yes"}), "'fuse' is 'yes'"),
        (first(layer="Residual", options={"fuse": True}), "body"),
        (lambda a: a.update(model=7), "cannot be used"),
        (lambda a: a.update(format=99, version="9"), "format 99, .* written by onepass 9, a later"),
        (lambda a: a.pop("format"), "format"),
        (lambda a: a["model"].update(tied={"1.weight": "1.bias"}), "are one parameter, and differ"),
        (lambda a: a["model"].update(tied={"0.weight": "5.x"}), "cannot be used"),
        (lambda a: a["model"].update(frozen=["1.running_mean"]), "is not a parameter"),
        (lambda a: a["model"].update(frozen=["0.__class__"]), "is not a parameter"),
        (lambda a: a["model"]["layers"]["inside"].pop("0"), "names"),
    ],
)
def test_a_hostile_description_builds_nothing(model, about, words, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    rewrite(path, lambda header: None, about)
    random = nn.get_rng_state()
    with pytest.raises(ValueError, match=words) as e:
        nn.load(path)
    assert str(path) in str(e.value)
    assert nn.get_rng_state() == random


def forged(options):
    """The same with sizes that no file has the values of, in forms that a constructor takes."""

    def larger(value):
        return [n * 3000 for n in value] if isinstance(value, list) else value * 3000

    whole = [k for k, v in options.items() if type(v) is int or (
        isinstance(v, list) and all(type(n) is int for n in v))]  # fmt: skip
    for key in options:
        if key in whole:
            yield {**options, key: larger(options[key])}
            if isinstance(options[key], list):
                yield {**options, key: larger(options[key][0])}
        yield {k: v for k, v in options.items() if k != key}
        yield {k: larger(v) if k in whole else v for k, v in options.items() if k != key}
    yield {k: larger(v) if k in whole else v for k, v in options.items()}


def forged_layers(tree, parts):
    for options in forged(tree.get("options", {})):
        yield parts, options
    for key, child in tree.get("inside", {}).items():
        yield from forged_layers(child, (*parts, key))


def peak_of_load(path):
    tracemalloc.start()
    try:
        nn.load(path)
    except ValueError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", ALL)
def test_no_layer_takes_more_memory_than_the_file_has(name, tmp_path):
    path = tmp_path / "m.safetensors"
    layer(name, "float32")[0].save(path)
    whole = path.read_bytes()
    bound = max(peak_of_load(path) for _ in range(2)) + 30_000
    tree = json.loads(header(path)[0]["__metadata__"]["onepass"])["model"]["layers"]
    for parts, options in forged_layers(tree, ()):
        for absent in [], ["weight", "bias"]:

            def change(about, options=options, parts=parts, absent=absent):
                found = about["model"]["layers"]
                for key in parts:
                    found = found["inside"][key]
                found.update(options=options, absent=absent)

            path.write_bytes(whole)
            rewrite(path, lambda header: None, change)
            assert peak_of_load(path) < bound, (parts, options, absent)


@pytest.mark.parametrize("name", ALL)
def test_the_shapes_of_a_layer_are_known_before_it_is_made(name):
    for module in layer(name)[0].modules():
        if not isinstance(module, nn.WeightNorm) and type(module).__name__ in layers():
            own = {k: p.shape for k, p in own_parameters(module).items()}
            for key in module.buffer_names:
                if (buffer := getattr(module, key)) is not None:
                    own[key] = buffer.shape
            known = shapes(type(module), options_of(module))
            assert known == own | {k: known[k] for k, v in vars(module).items()
                                   if isinstance(v, Computed)}  # fmt: skip


def test_a_description_without_end_is_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    found, data = header(path)
    deep = '{"layer":"Sequential","options":{"fuse":true},"inside":{"0":' * 20000
    about = '{"format":1,"model":{"tied":{},"frozen":[],"layers":' + deep
    about += '{"layer":"ReLU"}' + "}}" * 20000 + "}}"
    found["__metadata__"] = {"onepass": about}
    text = json.dumps(found).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    with pytest.raises(ValueError, match="cannot be used"):
        nn.load(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_pickles_are_never_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **{"0.weight": np.array([Evil()], object)})
    refused(Path("a.npz"), "dtype object, expected numbers")
    Path("b.npz").write_bytes(pickle.dumps(Evil()))
    refused(Path("b.npz"), "neither safetensors nor an archive of NumPy|header")
    with zipfile.ZipFile("c.npz", "w") as archive:
        archive.writestr("c/data.pkl", pickle.dumps(Evil()))
    refused(Path("c.npz"), r"a file of torch\.save, which holds pickles")
    np.savez_compressed("d.npz", w=np.zeros(10))
    refused(Path("d.npz"), "is compressed, expected an archive of numpy.savez")
    with zipfile.ZipFile("e.npz", "w") as archive:  # a header that asks for an exabyte
        text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"
        text += b" " * (117 - len(text)) + b"\n"
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    refused(Path("e.npz"), "is not as large as its shape")
    assert not Path("evil").exists()


def test_what_is_no_file(tmp_path):
    for call in (nn.load, nn.Linear(2, 2).load):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "none")
        with pytest.raises(IsADirectoryError):
            call(tmp_path)
        with pytest.raises(TypeError, match="load: 'path' is 3, expected a path"):
            call(3)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="it is a pipe"):
            call(tmp_path / "pipe")
        os.unlink(tmp_path / "pipe")
    with pytest.raises(TypeError, match="save: 'path' is None, expected a path"):
        nn.ReLU().save(None)
    with pytest.raises(OSError, match="cannot write"):
        nn.ReLU().save(tmp_path)


def test_a_model_on_a_device_goes_into_a_file_and_takes_one(monkeypatch, tmp_path):
    fake_cupy.install(monkeypatch)
    model = perturb(residual_model())
    state = model.state_dict()
    model.to("cuda").save(tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    assert_same(again.state_dict(), state)
    there = residual_model().to("cuda")
    there.load(tmp_path / "m.safetensors")
    assert isinstance(there[0].weight.data, fake_cupy.ndarray)
    assert_same(there.to("cpu").state_dict(), state)


def test_a_file_that_is_written_while_layers_are_watched(tmp_path):
    class Save(Callback):
        def on_epoch_end(self, run):
            assert "forward" in vars(model[1]), "nothing is watched"
            model.save(tmp_path / "m.npz")

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    callbacks = [Diagnosis(), Save()]
    trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=callbacks, progress=False)
    trainer.fit(x, x[:, :2], max_epochs=1)
    assert_same(nn.load(tmp_path / "m.npz").state_dict(), model.state_dict())


def test_a_wrong_call_names_the_method():
    with pytest.raises(TypeError, match=r"Module\.load\(\) missing 1 required"):
        nn.ReLU().load()


def test_a_loaded_model_trains_on(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    opt = optim.SGD(again.parameters(), lr=0.1)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    before = again.state_dict()
    again.backward(again(x) ** 3)
    opt.step()
    assert not np.array_equal(again.state_dict()["0.weight"], before["0.weight"])


def test_without_ml_dtypes(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    model = nn.Linear(2, 2)
    model.weight.data = model.weight.data.astype(ml_dtypes.bfloat16)
    model.save(tmp_path / "m.safetensors")
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from onepass import nn\n"
        "m = nn.Linear(2, 2); m.load('m.safetensors'); print(m.weight.data.tolist())\n"
        "try: nn.load('m.safetensors')\n"
        "except ModuleNotFoundError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    values, said = done.stdout.splitlines()
    assert values == str(model.weight.data.astype(np.float32).tolist()), done.stderr
    assert "pip install 'onepass[bfloat16]'" in said
