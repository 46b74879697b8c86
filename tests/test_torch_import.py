"""PyTorch that is not imported to its end, or blocked, is as none at all."""

import sys
import types

import numpy as np
import pytest
from onepass import _array, nn, optim
from onepass.parallel import _find
from onepass.train import Trainer


def half() -> types.ModuleType:
    """As it is while another thread imports it: it has tensors, but no layers yet."""
    torch = types.ModuleType("torch")
    torch.__spec__ = types.SimpleNamespace(_initializing=True)
    torch.Tensor = type("Tensor", (), {})
    return torch


INSTEAD = {"half": half, "blocked": lambda: None, "stub": lambda: types.ModuleType("torch")}


@pytest.mark.parametrize("instead", INSTEAD)
def test_training_goes_on(monkeypatch, instead):
    monkeypatch.setitem(sys.modules, "torch", INSTEAD[instead]())
    monkeypatch.setattr(_array, "_whole", [])
    x = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = optim.AdamW(model.parameters())
    history = Trainer(model, nn.MSELoss(), optimizer, progress=False).fit(x, x[:, :1], max_epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert optim.SGD(model.parameters(), lr=0.1).step(lambda: 3.0).loss == 3.0
    assert _find.find(None).size == 1


@pytest.mark.parametrize("instead", INSTEAD)
def test_it_counts_once_it_is_whole(monkeypatch, instead):
    monkeypatch.setattr(_array, "_whole", [])
    monkeypatch.setitem(sys.modules, "torch", INSTEAD[instead]())
    assert _array.torch_if_imported() is None
    whole = half()
    whole.__spec__._initializing = False
    monkeypatch.setitem(sys.modules, "torch", whole)
    assert _array.torch_if_imported() is whole
    assert _array.is_tensor_of_torch(whole.Tensor())
    assert not _array.is_tensor_of_torch(3)
