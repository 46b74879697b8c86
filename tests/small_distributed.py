"""A distributed checkpoint of a model and its optimizer."""

import warnings

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict


def checkpointed(model, optimizer, again, resumed, path, **options):
    """Saves a model with its optimizer, and loads both into another one."""
    model.zero_grad()
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=path)
    weights, state = get_state_dict(again, resumed)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=path, **options)
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
