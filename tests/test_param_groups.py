"""optim.param_groups: which parameters decay, and the rates of layers."""

import numpy as np
import pytest
from onepass import nn, optim
from onepass.nn import _signal
from onepass.optim import _param_groups
from small_steps import network


def shape_of(groups):
    return [(g["lr"], g["weight_decay"], g["param_names"]) for g in groups]


def test_biases_and_norms_do_not_decay():
    groups = optim.param_groups(network(), lr=0.1, weight_decay=0.3)
    assert shape_of(groups) == [
        (0.1, 0.3, ["0.weight", "3.weight"]),
        (0.1, 0.0, ["0.bias", "1.weight", "1.bias", "3.bias"]),
    ]
    opt = optim.AdamW(groups)
    assert [g["name"] for g in opt.param_groups] == ["decay", "no_decay"]


def test_every_norm_is_known_by_the_name_of_its_class():
    """The name is all that a model of PyTorch shows."""
    classes = [cls for name in nn.__all__ if isinstance(cls := getattr(nn, name), type)]
    norms = {cls.__name__ for cls in classes if issubclass(cls, _signal.Norm)}
    assert {"BatchNorm1d", "BatchRenorm", "DecorrelatedBatchNorm", "InstanceNorm2d"} < norms
    named = {cls.__name__ for cls in classes if _param_groups._NORMS.search(cls.__name__)}
    assert named - {"WeightNorm"} == norms


def test_pairs_say_as_much_as_a_model():
    model = network()
    by_model = optim.param_groups(model, lr=0.1, weight_decay=0.3)
    by_pairs = optim.param_groups(model.named_parameters(), lr=0.1, weight_decay=0.3)
    assert shape_of(by_model) == shape_of(by_pairs)


@pytest.mark.parametrize(
    ("no_decay", "free"),
    [
        ((), []),
        (("bias",), ["0.bias", "1.bias", "3.bias"]),
        (["norm"], ["1.weight", "1.bias"]),
        (("0.",), ["0.weight", "0.bias"]),
    ],
)
def test_what_does_not_decay_is_chosen_by_words(no_decay, free):
    groups = optim.param_groups(network(), lr=0.1, weight_decay=0.3, no_decay=no_decay)
    assert [n for g in groups if g["weight_decay"] == 0 for n in g["param_names"]] == free


def test_layers_have_rates_of_their_own():
    groups = optim.param_groups(network(), lr=0.1, weight_decay=0.3, layer_decay=0.5)
    assert shape_of(groups) == [
        (0.05, 0.3, ["0.weight"]),
        (0.05, 0.0, ["0.bias", "1.weight", "1.bias"]),
        (0.1, 0.3, ["3.weight"]),
        (0.1, 0.0, ["3.bias"]),
    ]
    assert groups[0]["name"] == "layer_0_decay"


def test_groups_of_a_model_of_pytorch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.Flatten(),
        torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2),
    )  # fmt: skip
    groups = optim.param_groups(model, lr=0.1, weight_decay=0.3, layer_decay=0.5)
    assert [g["lr"] for g in groups] == [0.025, 0.025, 0.05, 0.05, 0.1, 0.1]
    assert [n for g in groups if not g["weight_decay"] for n in g["param_names"]] == [
        "0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias", "5.bias",
    ]  # fmt: skip
    pairs = optim.param_groups(model.named_parameters(), lr=0.1, weight_decay=0.3, layer_decay=0.5)
    assert shape_of(pairs) == shape_of(groups)
    everything = [id(p) for g in groups for p in g["params"]]
    assert sorted(everything) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize(
    ("source", "options", "kind", "words"),
    [
        ([np.ones(3)], {}, TypeError, r"is a list, expected a model or \(name, parameter\) pairs"),
        ({"w": np.ones(3)}, {}, TypeError, "is a dict, expected a model"),
        (3, {}, TypeError, "is a int, expected a model"),
        (nn.Sequential(nn.ReLU()), {}, ValueError, "has no parameters"),
        (network(), {"lr": -1}, ValueError, "'lr' is -1, expected a number >= 0"),
        (network(), {"weight_decay": "x"}, TypeError, "'weight_decay' is 'x'"),
        (
            network(),
            {"layer_decay": 0},
            ValueError,
            "'layer_decay' is 0, expected a number > 0 and",
        ),
        (network(), {"layer_decay": 1.5}, ValueError, "<= 1, or None"),
        (network(), {"no_decay": "bias"}, TypeError, "'no_decay' is 'bias', expected a list of w"),
    ],
    ids=str,
)
def test_wrong_use_of_param_groups(source, options, kind, words):
    with pytest.raises(kind, match=f"param_groups: .*{words}"):
        optim.param_groups(source, **{"lr": 0.1, "weight_decay": 0.1, **options})


def test_the_names_of_groups_are_those_in_messages():
    """Of `param_groups`, and of a list that names its parameters."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    own = [{"params": list(model.parameters()), "param_names": ["a", "b", "c", "d"]}]
    for groups, name in (
        (optim.param_groups(model, lr=0.1, weight_decay=0.1), "1.weight"),
        (own, "c"),
    ):
        optimizer = optim.AdamW(groups)
        for parameter in model.parameters():
            parameter.grad = np.zeros_like(parameter.data)
        model[1].weight.grad[0] = np.nan
        with pytest.raises(FloatingPointError, match=rf"\b{name}\b"):
            optimizer.step(nonfinite="raise")
