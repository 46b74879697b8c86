"""onepass.torch.nn inside torch.compile(fullgraph=True), and its operators under torch's checks."""

import copy

import pytest

torch = pytest.importorskip("torch")

from onepass.torch import nn  # noqa: E402
from test_torch_nn import NORMS, PLAIN, randn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.compile itself


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(model, inputs, loss=None):
    """Results, gradients and states of three steps."""
    seen = []
    for step in range(3):
        torch.manual_seed(step)
        given = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]
        y = model(*given)
        y.square().sum().backward()
        seen += [y.detach(), *(t.grad for t in given)]
    seen += [p.grad for p in model.parameters()]
    return seen + list(model.state_dict().values())


def compiled_equals_eager(model, *inputs):
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(trained(compiled, inputs), trained(twin, inputs), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


@pytest.mark.parametrize(("name", "arguments", "shape"), NORMS)
def test_norms_have_the_bits_of_eager_calls(name, arguments, shape):
    model = getattr(nn, name)(*arguments, activation="silu", dropout=0.3)
    compiled_equals_eager(model, randn(shape, 1), randn(shape, 2))


@pytest.mark.parametrize(("name", "arguments", "shape"), PLAIN[::4])
def test_activations_and_softmax_have_them_too(name, arguments, shape):
    compiled_equals_eager(getattr(nn, name)(*arguments), randn(shape, 1))


def test_the_rest_has_them_too():
    compiled_equals_eager(nn.Dropout(0.3), randn((5, 7)))
    compiled_equals_eager(nn.Linear(7, 3, activation="gelu", dropout=0.3), randn((5, 7)))
    compiled_equals_eager(nn.Linear(7, 3, activation="relu", dropout=0.3), randn((5, 7)))
    compiled_equals_eager(nn.Maxout(4), randn((5, 8)))
    compiled_equals_eager(nn.WeightNorm(nn.Linear(7, 3)), randn((5, 7)))
    compiled_equals_eager(nn.WeightNorm(torch.nn.Conv2d(2, 3, 3), dim=1), randn((2, 2, 5, 5)))
    compiled_equals_eager(nn.DecorrelatedBatchNorm(4, 2), randn((5, 4, 7)))
    compiled_equals_eager(nn.BatchNorm1d(7, momentum=None), randn((5, 7)))
    compiled_equals_eager(nn.BatchNorm1d(7, track_running_stats=False), randn((5, 7)))
    x = randn((4, 3, 5, 5)).to(memory_format=torch.channels_last)
    for norm in (nn.BatchNorm2d, nn.BatchRenorm):
        compiled_equals_eager(norm(3, activation="relu"), x, x)
        compiled_equals_eager(norm(3, dropout=0.3), x, x)

    class Loss(torch.nn.Module):
        def __init__(self, loss, target):
            super().__init__()
            self.loss, self.target = loss, target

        def forward(self, x):
            return self.loss(x, self.target)

    compiled_equals_eager(Loss(nn.MSELoss(), randn((5, 7), 2)), randn((5, 7)))
    labels = torch.tensor([0, 1, 2, 0, 6])
    compiled_equals_eager(Loss(nn.CrossEntropyLoss(), labels), randn((5, 7)))


def test_evaluation_leaves_the_statistics():
    model = nn.BatchNorm1d(7).eval()
    before = copy.deepcopy(model.state_dict())
    compiled_equals_eager(model, randn((5, 7)))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_operators_pass_the_checks_of_torch():
    check, ops = torch.library.opcheck, torch.ops.onepass
    x = randn((4, 6)).requires_grad_()
    w = randn((6,), 1).requires_grad_()
    seed = torch.tensor(5)
    running = torch.zeros(6), torch.ones(6)
    labels = torch.tensor([0, 1, 5, 2])
    for kind, size, more in [
        ("batch_norm", [], running), ("batch_renorm", [], running),
        ("layer_norm", [6], (None, None)),
        ("rms_norm", [6], (None, None)), ("group_norm", [2], (None, None)),
    ]:  # fmt: skip
        bias = None if kind == "rms_norm" else w
        numbers = [1e-5, 3.0, 5.0] if kind == "batch_renorm" else [1e-5]
        check(ops.norm.default, (x, w, bias, *more, x, seed, None, kind, size, True, 0.1, numbers,
                                 "silu", [], 0.25))  # fmt: skip
    images = randn((2, 6, 3, 4)).to(memory_format=torch.channels_last).requires_grad_()
    for kind, numbers in (("batch_norm", [1e-5]), ("batch_renorm", [1e-5, 3.0, 5.0])):
        check(ops.norm.default, (images, w, w, *running, images, seed, None, kind, [], True, 0.1,
                                 numbers, "silu", [], 0.25))  # fmt: skip
    for op, arguments in [
        (ops.activation, (x, "elu", [0.5])), (ops.dropout, (x, seed, "dropout", 0.5)),
        (ops.activation, (x, "tanh", [])), (ops.activation, (x, "relu", [])),
        (ops.glu, (x, "silu", [], -1)), (ops.softmax, (x, 1, True)), (ops.maxout, (x, 3, 1)),
        (ops.weight_norm, (x, randn((4, 1), 2).requires_grad_(), 0)),
        (ops.weight_norm, (x, randn((1, 6), 2).requires_grad_(), 1)),
        (ops.bias_act, (x, w, seed, -1, "relu", [], 0.5)),
        (ops.row_loss, (x, labels, None, "cross_entropy", 0.1, -100, "mean")),
        (ops.pointwise_loss, (x, randn((4, 6), 3), None, "mse_loss", "none", [])),
    ]:  # fmt: skip
        check(op.default, arguments)
