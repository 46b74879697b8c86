"""A call on a torch tensor never cuts autograd in silence: where torch would record what happens,
the call raises and says what to do."""

import numpy as np
import pytest
from onepass import _C, nn, ops, optim
from test_contracts import CONTRACTS, given, is_array, is_plan, right_call, run

torch = pytest.importorskip("torch")
forward_ad = torch.autograd.forward_ad

ARRAYS = [
    (op, i)
    for op in CONTRACTS
    for i, argument in enumerate(given(op))
    if is_array(argument)
    and not is_plan(op)
    and argument["type"] not in ("target", "labels", "mask")
]


def tensors(op, i, change):
    """The right call of ``op`` on tensors, of which the i-th is changed, and that one."""
    arguments = [
        torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for value in right_call(op)
    ]
    arguments[i] = changed = change(arguments[i])
    return [
        [value] if argument["many"] else value
        for argument, value in zip(given(op), arguments, strict=True)
    ], changed


@pytest.mark.parametrize(("op", "i"), ARRAYS)
def test_an_argument_that_requires_a_gradient_is_refused(op, i):
    arguments, tensor = tensors(op, i, lambda t: t.requires_grad_())
    before = tensor.detach().clone()
    name = given(op)[i]["name"]
    with pytest.raises(TypeError, match=rf"^{op}: '({name}.*)' .*a gradient.*pass \1\.detach"):
        run(op, arguments)
    assert torch.equal(before, tensor.detach())
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            run(op, tensors(op, i, lambda t: t.requires_grad_())[0])
    run(op, tensors(op, i, lambda t: t.requires_grad_().detach())[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, in make_dual
@pytest.mark.parametrize(("op", "i"), ARRAYS)
def test_an_argument_with_a_tangent_is_refused(op, i):
    with forward_ad.dual_level():
        arguments, _ = tensors(op, i, lambda t: forward_ad.make_dual(t, torch.ones_like(t)))
        with pytest.raises(TypeError, match=rf"^{op}: '(.*)' .*tangent.*pass \1\.detach"):
            run(op, arguments)
        run(op, tensors(op, i, lambda t: t)[0])


def test_a_layer_between_two_torch_layers():
    """The case of a user: relu inside a torch module, and weights that never move."""
    layer = torch.nn.Linear(3, 4)
    hidden = layer(torch.ones(2, 3))
    for call in (
        lambda: ops.relu(hidden),
        lambda: nn.ReLU()(hidden),
        lambda: nn.Sequential(nn.GELU(), nn.Dropout(0.5))(hidden),
        lambda: ops.dropout(hidden, p=0.5, seed=0),
        lambda: ops.bias_act(hidden, torch.zeros(4), activation="relu"),
        lambda: ops.cross_entropy(hidden, torch.zeros(2, dtype=torch.long)),
        lambda: ops.global_norm([hidden]),
        lambda: ops.relu(layer.weight),
        lambda: ops.relu(torch.ones(4, 3), out=layer.weight),
        lambda: ops.relu(np.ones((4, 3), np.float32), out=layer.weight),
        lambda: ops.relu_backward(torch.ones(2, 4), hidden),
        lambda: ops.relu(hidden.t()),
        lambda: ops.relu(hidden.view(-1)),
    ):
        with pytest.raises(TypeError, match="requires a gradient"):
            call()
    with torch.no_grad():
        assert torch.equal(ops.relu(hidden), torch.relu(hidden))


class Odd(torch.Tensor):
    pass


def test_subclasses_and_parameters():
    x = torch.randn(3, 4)
    assert torch.equal(ops.relu(x.as_subclass(Odd)), torch.relu(x))
    for tensor in (x.clone().requires_grad_().as_subclass(Odd), torch.nn.Parameter(x)):
        with pytest.raises(TypeError, match="requires a gradient"):
            ops.relu(tensor)
    frozen = torch.nn.Parameter(x, requires_grad=False)
    assert torch.equal(ops.relu(frozen), torch.relu(x))


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_memory_are_refused_by_type():
    x = torch.randn(3, 4)
    complex_x = torch.complex(x, x)
    two = torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged)
    for odd, why in (
        (x.to("meta"), "of type Tensor cannot be read"),
        (x.to_sparse(), "of type Tensor cannot be read"),
        (x.to_sparse_csr(), "of type Tensor cannot be read"),
        (two, "of type NestedTensor cannot be read"),
        (complex_x, "dtype torch.complex64"),
        (complex_x.conj(), "dtype torch.complex64"),
        (complex_x.conj().imag, "negated"),
    ):
        with pytest.raises(TypeError, match=f"^relu: 'x'.*{why}"):
            ops.relu(odd)
    for transform in (
        lambda f: torch.func.grad(lambda a: f(a).sum())(x),
        lambda f: torch.func.vmap(f)(x),
        lambda f: torch.func.jvp(f, (x,), (x,)),
    ):
        with pytest.raises(TypeError, match=r"^relu: 'x'"):
            transform(ops.relu)


def test_optimizers_step_parameters_in_place():
    weight = torch.nn.Parameter(torch.ones(4))
    (grad,) = torch.autograd.grad((weight**3).sum(), weight, create_graph=True)
    assert grad.requires_grad, "a gradient with a graph of its own"
    optimizer = optim.SGD([weight], lr=0.1)
    optimizer.step([grad])
    assert torch.allclose(weight.detach(), torch.full((4,), 0.7))
    assert weight.requires_grad
    assert weight.is_leaf
    ops.sgd_([weight], [grad], lr=0.1)


def test_an_optimizer_refuses_what_is_no_leaf():
    weight = torch.ones(4, requires_grad=True)
    other = torch.ones(4, requires_grad=True)
    for make in (
        lambda: _C.Plan("sgd", [other, weight * 2], [None], [0, 0]),
        lambda: ops.sgd_([other, weight * 2], [torch.ones(4)] * 2, lr=0.1),
    ):
        with pytest.raises(ValueError, match=r"^sgd.*params\[1\]'.*history.*\[1\]\.detach"):
            make()
    with pytest.raises(ValueError, match=r"^SGD: .*not a leaf"):
        optim.SGD([other, weight.view(2, 2)], lr=0.1)
    assert torch.equal(other.detach(), torch.ones(4))
