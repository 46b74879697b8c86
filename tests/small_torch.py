"""Small parameters and models of PyTorch, trained by onepass.torch.optim and torch.optim alike."""

import copy
import io
import pickle

import numpy as np
import pytest
from helpers import SWEEPS

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402

ALL = [name for name in optim.__all__ if name not in ("Optimizer", "StepInfo")]
# Those that take dense gradients, and need no closure.
NAMES = [name for name in ALL if name not in ("SparseAdam", "LBFGS")]
COMPARED = [
    (v.record, sweep) for v, sweep in SWEEPS if v.record.in_torch(sweep) and v.record.torch in NAMES
]
each_compared = pytest.mark.parametrize(
    ("record", "sweep"), COMPARED, ids=[f"{r.cls.__name__}-{s}" for r, s in COMPARED]
)
each_name = pytest.mark.parametrize("name", NAMES)
SHAPES = [(), (0,), (3,), (5, 7), (2, 3, 4, 5), (33,)]


def parameters(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in SHAPES]
    made[4] = made[4].contiguous(memory_format=torch.channels_last)
    made.append(torch.randn(6, 8, generator=generator, dtype=torch.float64).to(dtype).t())
    return [torch.nn.Parameter(p) for p in made]


def copies(params):
    return [torch.nn.Parameter(p.detach().clone(), p.requires_grad) for p in params]


def give_gradients(step, *lists, present=lambda i, step: True):
    """The same gradients to the parameters of each list."""
    generator = torch.Generator().manual_seed(100 + step)
    for i, same in enumerate(zip(*lists, strict=True)):
        g = torch.randn(same[0].shape, generator=generator, dtype=torch.float64)
        for p in same:
            p.grad = g.to(p.dtype, copy=True) if present(i, step) else None


def assert_equal(got, want, rtol=1e-11):
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_allclose(
            g.detach().double().numpy(), w.detach().double().numpy(), rtol, rtol, err_msg=str(i)
        )


def pair(name, params=None, **options):
    """Ours and PyTorch's over equal parameters."""
    mine = params or parameters()
    if name == "Adafactor":  # PyTorch's divides by the number of elements
        mine = [p for p in mine if p.numel()]
    theirs = copies(mine)
    return (
        mine,
        theirs,
        getattr(optim, name)(mine, **options),
        getattr(torch.optim, name)(theirs, **options),
    )


@pytest.fixture(autouse=True)
def numbers_in_float64():
    """PyTorch keeps the numbers beside a state, such as NAdam's product, in its default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def network(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).to(
        dtype
    )


def train(model, optimizer, steps=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator).to(dtype)).square().mean().backward()
        optimizer.step()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


WAYS = ["torch.save", "pickle", "deepcopy", "state_dict"]


def gone_on(way, model, optimizer, make):
    """A copy of a model, and an optimizer that goes on with it; ``make`` makes it for a copy."""
    if way == "deepcopy":
        return copy.deepcopy((model, optimizer))
    if way == "pickle":
        return pickle.loads(pickle.dumps((model, optimizer)))
    again = copy.deepcopy(model)
    resumed, saved = make(again), optimizer.state_dict()
    if way == "torch.save":
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved)
    return again, resumed
