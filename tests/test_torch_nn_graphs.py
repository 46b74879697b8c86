"""Every module of onepass.torch.nn where a graph is used in unusual ways: written to, run twice."""

import copy

import pytest

torch = pytest.importorskip("torch")

from onepass import _C  # noqa: E402
from onepass.torch import nn  # noqa: E402
from test_torch_nn_transforms import each_module  # noqa: E402
from torch.nn.utils.parametrize import is_parametrized  # noqa: E402

LOSSES = (torch.nn.modules.loss._Loss,)
DROPOUTS = (torch.nn.modules.dropout._DropoutNd,)
# Modules that keep their result, as torch's do.
OF_RESULT = (
    nn.Softmax, nn.LogSoftmax, nn.ReLU,
    *(cls for cls in vars(nn).values() if getattr(cls, "op", None) in _C.activation_backward_y),
)  # fmt: skip


def fresh(model, inputs):
    """Copies of leaves, and the leaves; a target of a loss has no gradient."""
    count = 1 if isinstance(model, LOSSES) else len(inputs)
    leaves = [t.clone().requires_grad_(i < count) for i, t in enumerate(inputs)]
    return [t * 1 if t.requires_grad else t for t in leaves], leaves


def gradient(y, leaves, **options):
    return torch.autograd.grad(y.square().sum(), leaves[0], **options)[0]


@each_module
def test_writes_to_what_is_kept_are_noticed(model, inputs):
    """PyTorch's version counter; where only a seed or the gradient is kept, writes are harmless."""
    given, leaves = fresh(model, inputs)
    torch.manual_seed(0)
    expected = gradient(model(*given), leaves)
    for place, tensor in enumerate(given):
        if not tensor.requires_grad:
            continue
        now, leaves = fresh(model, inputs)
        torch.manual_seed(0)
        twin = copy.deepcopy(model)
        y = twin(*now)
        now[place].detach().zero_()  # shares the version
        if isinstance(model, (*LOSSES, *DROPOUTS, nn.DecorrelatedBatchNorm)):
            assert torch.equal(gradient(y, leaves), expected)
        elif isinstance(model, OF_RESULT):
            assert torch.equal(gradient(y, leaves), expected)  # keeps the result
            now, leaves = fresh(model, inputs)
            y = model(*now)
            loss = y.sin().sum()
            y.detach().zero_()
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        elif isinstance(model, nn.Linear):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(y.sum(), [p for p in twin.parameters() if p.dim() == 2])
        else:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                gradient(y, leaves)


@each_module
@pytest.mark.parametrize("training", [True, False])
def test_graphs_are_independent_and_run_twice_where_kept(model, inputs, training):
    """Forward twice before a backward, backward in another order, twice, and once too often."""
    model = copy.deepcopy(model).train(training)
    other = [t + 1 if t.is_floating_point() and not isinstance(model, LOSSES) else t
             for t in inputs]  # fmt: skip
    alone = []
    for seed, given in enumerate((inputs, other)):
        twin = copy.deepcopy(model)
        if seed and isinstance(model, nn.BatchRenorm) and training:
            twin(*inputs)  # its statistics have moved once
        now, leaves = fresh(model, given)
        torch.manual_seed(seed)
        alone.append(gradient(twin(*now), leaves))
    graphs = []
    for seed, given in enumerate((inputs, other)):
        now, leaves = fresh(model, given)
        torch.manual_seed(seed)
        graphs.append((model(*now), leaves))
    for (y, leaves), expected in reversed(list(zip(graphs, alone, strict=True))):
        if y is leaves[0] or y.grad_fn is None:
            continue
        for _ in range(2):
            assert torch.equal(gradient(y, leaves, retain_graph=True), expected)
        gradient(y, leaves)
        with pytest.raises(RuntimeError, match="a second time"):
            gradient(y, leaves)


@each_module
def test_second_gradients_are_refused_whoever_asks(model, inputs):
    """Not None, where the input is allowed to be unused, and not a complaint about the graph."""
    if isinstance(model, nn.DecorrelatedBatchNorm) or is_parametrized(model):
        return  # of torch's own operations
    given, leaves = fresh(model, inputs)
    (dx,) = torch.autograd.grad(model(*given).square().sum(), leaves[0], create_graph=True)
    for ask in (
        lambda: torch.autograd.grad(dx.sum(), leaves[0], retain_graph=True),
        lambda: torch.autograd.grad(dx.sum(), leaves[0], retain_graph=True, allow_unused=True),
        lambda: dx.sum().backward(),
    ):
        with pytest.raises(RuntimeError, match=r"onepass's [a-z_]+ is differentiable once"):
            ask()


@each_module
def test_a_batch_of_gradients_is_that_of_each(model, inputs):
    given, leaves = fresh(model, inputs)
    y = model(*given)
    dys = torch.stack([torch.full_like(y, 0.5), torch.linspace(-1, 1, y.numel()).view(y.shape)])
    wanted = [t for t in (*leaves, *model.parameters()) if t.requires_grad]
    both = torch.autograd.grad(y, wanted, dys, is_grads_batched=True, retain_graph=True)
    for i, dy in enumerate(dys):
        alone = torch.autograd.grad(y, wanted, dy, retain_graph=True)
        for one, other in zip(both, alone, strict=True):
            torch.testing.assert_close(one[i], other, rtol=1e-6, atol=1e-7)


def test_jacobians_and_what_is_left_of_a_transform():
    model, x = nn.LayerNorm(3, activation="tanh", dtype=torch.float64), torch.ones(2, 3).double()
    x += torch.arange(6.0).view(2, 3).square()
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(model, x, vectorize=True), jacobian(model, x))
    assert torch.autograd.gradcheck(model, x.requires_grad_(), check_batched_grad=True)
    left = []
    torch.func.grad(lambda x: left.append(x) or x.sum())(torch.ones(3))
    assert torch.equal(nn.ReLU()(left[0]), torch.ones(3))
