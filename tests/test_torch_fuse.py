"""onepass.torch.fuse: the same model with fewer passes, and a report of what was left alone."""

import copy
import pickle
import re

import pytest

torch = pytest.importorskip("torch")

from onepass.torch import fuse, nn, optim  # noqa: E402

theirs = torch.nn
F = theirs.functional


class Block(theirs.Module):
    """As in residual networks: the first layer's activation is the last one's too."""

    def __init__(self, channels, down=False, functional=False):
        super().__init__()
        self.conv1 = theirs.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = theirs.BatchNorm2d(channels)
        self.relu = theirs.ReLU(inplace=True)
        self.conv2 = theirs.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = theirs.BatchNorm2d(channels)
        self.downsample = None
        if down:
            self.downsample = theirs.Sequential(
                theirs.Conv2d(channels, channels, 1, bias=False), theirs.BatchNorm2d(channels)
            )
        self.functional = functional

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = F.relu(self.bn1(out)) if self.functional else self.relu(self.bn1(out))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        if self.functional:
            return torch.relu(identity + out)
        out += identity
        return self.relu(out)


class Network(theirs.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = theirs.Conv2d(3, 4, 3)
        self.bn1 = theirs.BatchNorm2d(4)
        self.act = theirs.LeakyReLU(0.2)
        self.layers = theirs.Sequential(Block(4), Block(4, down=True), Block(4, functional=True))
        self.head = theirs.Sequential(theirs.Linear(4, 5), theirs.BatchNorm1d(5), theirs.GELU())

    def forward(self, x):
        x = self.layers(self.act(self.bn1(self.conv1(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def network():
    torch.manual_seed(0)
    model = Network()
    for m in model.modules():
        if isinstance(m, theirs.modules.batchnorm._BatchNorm):
            theirs.init.normal_(m.weight, 1, 0.2)
            theirs.init.normal_(m.bias, 0, 0.2)
    return model.double()


def outcome(model, x):
    """Outputs, gradients and statistics of two steps in training and one in evaluation."""
    seen = []
    for step in range(2):
        given = (x + step).requires_grad_()
        y = model.train()(given)
        y.square().sum().backward()
        seen += [y.detach(), given.grad]
    seen += [p.grad for p in model.parameters()]
    return [*seen, *model.buffers(), model.eval()(x).detach()]


def test_a_residual_network_is_the_same_model():
    reference, x = network(), torch.randn(6, 3, 10, 10, dtype=torch.float64)
    model = copy.deepcopy(reference)
    parameters = dict(model.named_parameters())
    keys = list(model.state_dict())
    report = fuse(model)
    assert [(e.name, e.became) for e in report] == [
        ("bn1", "BatchNorm2d → leaky_relu"),
        ("layers.0.bn1", "BatchNorm2d → relu"),
        ("layers.0.bn2", "BatchNorm2d → add → relu"),
        ("layers.1.bn1", "BatchNorm2d → relu"),
        ("layers.1.bn2", "BatchNorm2d → add → relu"),
        ("layers.1.downsample.1", "BatchNorm2d"),
        ("layers.2.bn1", "BatchNorm2d → relu"),
        ("layers.2.bn2", "BatchNorm2d → add → relu"),
        ("head.1", "BatchNorm1d → gelu"),
    ]
    assert str(report).startswith("9 of 9 batch norms replaced\n")
    assert not report.left
    assert list(model.state_dict()) == keys
    assert isinstance(model, Network)
    now = dict(model.named_parameters())
    assert now.keys() == parameters.keys()
    assert all(now[name] is p for name, p in parameters.items())
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for got in (outcome(m, x) for m in (model, *copies)):
        for a, b in zip(got, outcome(copy.deepcopy(reference), x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert len(fuse(model)) == 0
    reference.load_state_dict(model.state_dict())


@pytest.mark.filterwarnings("ignore")
def test_a_fused_model_compiles_as_one_graph():
    model = network()
    fuse(model)
    twin, x = copy.deepcopy(model), torch.randn(6, 3, 10, 10, dtype=torch.float64)
    torch._dynamo.reset()
    y = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(y, twin(x))
    torch._dynamo.reset()


def test_an_optimizer_made_before_goes_on():
    model = theirs.Sequential(theirs.Linear(3, 4), theirs.BatchNorm1d(4), theirs.ReLU())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fuse(model)
    before = model[1].weight.clone()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight, before)


def test_a_sequential_takes_its_dropout_along():
    model = theirs.Sequential(
        theirs.BatchNorm1d(4), theirs.ELU(0.5), theirs.Dropout(0.25), theirs.BatchNorm1d(4),
        theirs.Dropout(1.0),
    )  # fmt: skip
    reference = copy.deepcopy(model).eval()
    fuse(model)
    assert [type(m).__name__ for m in model] == ["BatchNorm1d", "Identity", "DropoutBefore",
                                                 "BatchNorm1d", "DropoutBefore"]  # fmt: skip
    assert (model[0].activation, model[0].dropout) == (("elu", {"alpha": 0.5}), 0.25)
    x = torch.randn(5, 4)
    assert not model(x).any()
    reference.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(x), reference(x))


class Training(Block):
    def forward(self, x):
        return self.relu(self.bn1(x)) if self.training else self.bn1(x)


class Branching(Block):
    def forward(self, x):
        return self.bn1(x) if x.sum() > 0 else x


class Twice(Block):
    def forward(self, x):
        return self.relu(self.bn1(self.relu(self.bn1(x))))


class Kept(Block):
    """The residual is written to, and read again: an addition that is not the norm's."""

    def forward(self, x):
        identity = x * 1
        identity += self.bn1(x)
        return identity, self.bn2(x) + 1


class Between(Block):
    """What the norm reads changes before the addition."""

    def forward(self, x):
        h = x * 1
        out = self.bn1(h)
        other = h.relu_()
        return out + other


class Own(theirs.BatchNorm2d):
    pass


def shared():
    norm = theirs.BatchNorm2d(4)
    return theirs.Sequential(norm, theirs.ReLU(), norm)


def hooked():
    model = theirs.Sequential(theirs.BatchNorm2d(4))
    model[0].register_forward_hook(lambda *_: None)
    return model


def parametrized():
    model = theirs.Sequential(theirs.BatchNorm2d(4))
    theirs.utils.parametrize.register_parametrization(model[0], "weight", theirs.ReLU())
    return model


def twins():
    block = theirs.Sequential(theirs.BatchNorm2d(4), theirs.ReLU())
    return theirs.Sequential(block, block)


def named(name):
    """With an attribute of the user that the norm in its place has for itself."""
    model = theirs.Sequential(theirs.BatchNorm2d(4), theirs.ReLU())
    setattr(model[0], name, "mine")
    return model


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        *(
            (
                lambda name=name: named(name),
                "0",
                f"an attribute '{name}', which the norm in its place",
            )
            for name in ("dropout", "activation", "kind", "_kernel", "_add", "_drops_for")
        ),
        (shared, "0", "used at two places"),
        (hooked, "0", "has hooks"),
        (parametrized, "0", "is not one of torch.nn's|has parametrizations"),
        (twins, "0.0", "used at two places"),
        (lambda: theirs.Sequential(Own(4)), "0", "Own is not one of torch.nn's"),
        (lambda: Training(4), "bn1", "depends on 'training'"),
        (lambda: Branching(4), "bn1", "torch.fx cannot trace the forward of Branching"),
        (lambda: Twice(4), "bn1", "used in another way"),
        (lambda: Between(4), "bn1", "used in another way"),
    ],
)
def test_what_cannot_be_fused_is_left_alone_and_said(make, name, why):
    model = make()
    before = copy.deepcopy(model)
    report = fuse(model)
    (entry,) = [e for e in report.left if e.name == name]
    assert re.search(why, entry.why)
    assert f"  {name}: left alone: " in str(report)
    x = torch.randn(3, 4, 5, 5).abs()
    torch.testing.assert_close(model(x), before(x))


def test_an_addition_in_place_of_the_residual_stays():
    model = Kept(4)
    before = copy.deepcopy(model)
    assert {e.name: e.became for e in fuse(model)} == {"bn1": "BatchNorm2d", "bn2": "BatchNorm2d"}
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(model(x), before(x))


def test_activations_with_hooks_are_not_absorbed():
    model = theirs.Sequential(theirs.BatchNorm1d(2), theirs.ReLU())
    seen = []
    model[1].register_forward_hook(lambda *_: seen.append(1))
    assert fuse(model)[0].became == "BatchNorm1d"
    model(torch.randn(3, 2))
    assert seen
    assert isinstance(model[0], nn.BatchNorm1d)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="'model' is int"):
        fuse(3)
    with pytest.raises(ValueError, match="is a BatchNorm1d itself"):
        fuse(theirs.BatchNorm1d(3))


class Functions(torch.nn.Module):
    """Calls its activation as a function."""

    def __init__(self, call):
        super().__init__()
        self.bn, self.call = torch.nn.BatchNorm1d(4), call

    def forward(self, x):
        return self.call(self.bn(x))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (torch.relu, "BatchNorm1d → relu"),
        (torch.nn.functional.gelu, "BatchNorm1d (gelu stays a pass of its own; GELU() would not)"),
        (torch.sigmoid, "BatchNorm1d (sigmoid stays a pass of its own; Sigmoid() would not)"),
        (lambda y: y.tanh_(), "BatchNorm1d (tanh stays a pass of its own; Tanh() would not)"),
        (lambda y: torch.nn.functional.leaky_relu(y, 0.3) + 1,
         "BatchNorm1d (leaky_relu stays a pass of its own; LeakyReLU() would not)"),
        (lambda y: torch.nn.functional.silu(y + y.sum()), "BatchNorm1d"),
        (torch.exp, "BatchNorm1d"),
    ],
)  # fmt: skip
def test_the_report_says_which_activation_is_not_fused(call, said):
    plain = Functions(call)
    fused = copy.deepcopy(plain)
    report = fuse(fused)
    assert report[0].became == said
    assert f"  bn: {said}" in str(report)
    x = torch.randn(5, 4)
    torch.testing.assert_close(fused(x), plain(x))


class Gated(torch.nn.Module):
    """Adds what is not like the norm's output."""

    def __init__(self, what):
        super().__init__()
        self.bn, self.act = torch.nn.BatchNorm2d(3), torch.nn.ReLU()
        self.what = what

    def forward(self, x):
        if self.what == "size":
            other = x.size(0)
        else:
            other = x.mean((2, 3), keepdim=True) if self.what == "pooled" else x.double()
        return self.act(self.bn(x) + other)


@pytest.mark.parametrize("what", ["size", "pooled", "double"])
def test_what_is_added_need_not_be_like_the_norm(what):
    plain = Gated(what)
    fused = copy.deepcopy(plain)
    assert fuse(fused)[0].became == "BatchNorm2d → add → relu"
    x = torch.randn(4, 3, 5, 5)
    for training in (True, False):
        want, got = plain.train(training)(x), fused.train(training)(x)
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("what", ["size", "pooled", "double"])
def test_what_is_set_on_a_norm_with_an_addition_holds_for_all_that_is_added(what):
    """An activation or dropout that a user gives it later, by another pass where it must."""
    model = Gated(what)
    fuse(model)
    assert type(model.bn).__name__ == "AddingBatchNorm2d"
    assert not hasattr(nn.BatchNorm2d(3), "_add")
    model.bn.dropout, model.bn.activation = 0.3, ("elu", {"alpha": 0.5})
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5)
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        y = twin.train()(x).detach()
        assert 0.2 < float((y == 0).float().mean()) < 0.4
        assert float(y.min()) < 0 or what == "size"
        assert float(y.min()) > -0.5 / 0.7
        assert not bool((twin.eval()(x) == 0).any())


class InPlace(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(4)

    def forward(self, x, z):
        y = self.bn(x)
        y += z
        return torch.relu(y)


def test_an_addition_in_place_keeps_dtype_and_shape():
    plain, fused = InPlace(), InPlace()
    assert len(fuse(fused).replaced) == 1
    x = torch.randn(5, 4)
    for z in (torch.randn(5, 4).double(), torch.randn(4), torch.randn(5, 1)):
        want, got = plain(x, z), fused(x, z)
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    for model in (plain, fused):
        with pytest.raises(RuntimeError):
            model(x, torch.randn(3, 5, 4))


class Aliased(torch.nn.Module):
    """Writes to what is added, by another name."""

    def __init__(self):
        super().__init__()
        self.lin, self.bn = torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)

    def forward(self, x):
        i = self.lin(x)
        k = i.view(-1, 4)
        y = self.bn(x) + i
        k.mul_(0)
        return torch.relu(y)


def test_a_write_by_another_name_is_not_moved_before():
    plain = Aliased()
    fused = copy.deepcopy(plain)
    fuse(fused)
    x = torch.randn(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)
