"""onepass.torch.fuse on models written to mislead it: the same results, left alone, or an error."""

import copy
import pickle
import random
import re
import threading

import pytest

torch = pytest.importorskip("torch")

from onepass.torch import fuse, nn  # noqa: E402

theirs = torch.nn
F = theirs.functional


class Base(theirs.Module):
    def __init__(self):
        super().__init__()
        self.conv = theirs.Conv2d(3, 3, 1)
        self.bn = theirs.BatchNorm2d(3)
        self.bn2 = theirs.BatchNorm2d(3)
        self.act = theirs.ReLU()
        self.drop = theirs.Dropout(0.0)
        self.block = theirs.Sequential(theirs.ReLU(inplace=True))
        self.flag, self.calls, self.config = True, 0, {"deep": True}
        self.register_buffer("count", torch.zeros(()))
        self.plain = [theirs.Identity()]


def module(forward, **more):
    return type("Hostile", (Base,), {"forward": forward, **more})()


def optional(self, x, skip=None):
    if skip is None:
        skip = x * 2
    return self.act(self.bn(x) + skip)


def required(self, x, skip):
    y = self.bn(x)
    return self.act(y + skip if skip is not None else y)


def typed(self, x):
    x = x if isinstance(x, torch.Tensor) else x[0]
    return self.act(self.bn(x))


def listed(self, x):
    x = x[0] if not torch.is_tensor(x) else x * 1
    return self.act(self.bn(x))


def without_grad(self, x):
    with torch.no_grad():
        x = self.conv(x)
    return self.act(self.bn(x))


@torch.no_grad()
def decorated(self, x):
    return self.act(self.bn(x))


def automatic(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        x = self.conv(x)
    return self.act(self.bn(x))


def asks_for_grad(self, x):
    return self.act(self.bn(x)) if torch.is_grad_enabled() else self.bn(x)


def python_random(self, x):
    return self.act(self.bn(x)) if random.random() < 2 else x


def torch_random(self, x):
    return self.act(self.bn(x)) if float(torch.rand(())) < 2 else x


def counts(self, x):
    self.calls += 1
    return self.act(self.bn(x)) * self.calls


def remembers(self, x):
    y = self.act(self.bn(x))
    self.last = y
    return y


def moves_a_buffer(self, x):
    self.count += 1
    return self.act(self.bn(x))


def moves_a_buffer_in_place(self, x):
    self.count.add_(1)
    return self.act(self.bn(x))


def asks_a_layer(self, x):
    return F.dropout(self.act(self.bn(x)), self.drop.p)


def asks_the_mode_of_a_layer(self, x):
    y = self.bn(x)
    return self.act(y) if self.training and not self.bn.training else y


def reads_a_dict(self, x):
    y = self.bn(x)
    return self.act(y) if self.config["deep"] else y


def tags(self, x):
    y = self.act(self.bn(x))
    y.tag = 3
    return y


def aliased_layer(self, x):
    x = x * 1
    view = x.view(x.shape)
    y = self.bn(x)
    return self.act(y + self.block(view))


def aliased_function(self, x):
    x = x * 1
    view = x.view(x.shape)
    y = self.bn(x)
    return self.act(y + F.relu(view, True))


def aliased_power(self, x):
    x = x * 1
    view = x.view(x.shape)
    y = self.bn(x)
    view **= 2
    return self.act(y + view)


def before_the_activation(self, x, skip):
    y = self.bn(x) + skip
    alias = skip.view(skip.shape)
    self.block(alias)
    return self.act(y)


def list_of_layers(self, x):
    for layer in self.plain:
        x = layer(x)
    return self.act(self.bn(x))


REFUSED = [
    (optional, "'skip' is None"), (required, "'skip' is None"), (typed, "type of its input"),
    (listed, "type of its input"), (without_grad, "switches gradients"),
    (decorated, "switches gradients"), (automatic, "autocast"),
    (asks_for_grad, "whether gradients are computed"), (python_random, "random"),
    (torch_random, "random"), (counts, "sets attributes"), (remembers, "sets attributes"),
    (moves_a_buffer, "tensors of the module|sets"),
    (moves_a_buffer_in_place, "tensors of the module"), (asks_a_layer, "reads 'p' of a layer"),
    (asks_the_mode_of_a_layer, "reads 'training' of a layer"), (reads_a_dict, "reads 'config'"),
    (tags, "sets 'tag' of a tensor"), (aliased_layer, "in another way"),
    (aliased_function, "in another way"), (aliased_power, "in another way"),
    (before_the_activation, "in another way"), (list_of_layers, "reads 'plain'"),
]  # fmt: skip


@pytest.mark.parametrize(("forward", "why"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_what_a_recording_would_settle_is_left_alone(forward, why):
    model = module(forward)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    own = {k: v for k, v in vars(model).items() if k[0] != "_"}
    (entry,) = [e for e in fuse(model) if e.name == "bn"]
    assert entry.became is None
    assert re.search(why, entry.why), entry.why
    # the model is as it was
    assert torch.equal(torch.get_rng_state(), state)
    assert own == {k: v for k, v in vars(model).items() if k[0] != "_"}
    assert float(model.count) == 0
    x = torch.randn(2, 3, 4, 4)
    given = (x, torch.randn(2, 3, 4, 4)) if "skip" in forward.__code__.co_varnames[:3] else (x,)
    for _ in range(2):
        results = [m(*(t.clone() for t in given)) for m in (model, before)]
        torch.testing.assert_close(*results)
        assert results[0].requires_grad == results[1].requires_grad


def convolved(self, x):
    y = self.conv(x)
    shortcut = self.block(x * 1)
    return self.act(self.bn(y) + shortcut)


def unwritable(self, x, *, scale=2.0, skip):
    return self.act(self.bn(x) + skip) * scale


def keyword(self, x, *, skip, scale=2.0):
    return self.act(self.bn(self.conv(x)) + skip) * scale


def private(self, x):
    h = self.bn(self.conv(x))
    side = self.user(x)
    return self.act(h + side)


class User(theirs.Module):
    def forward(self, x):
        return x.clone().relu_()


def test_a_forward_that_cannot_be_written_leaves_the_model():
    model = module(unwritable)
    before = copy.deepcopy(model)
    assert "torch.fx cannot write the forward" in fuse(model)[0].why
    x, skip = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(model(x, skip=skip), before(x, skip=skip))


@pytest.mark.parametrize("training", [True, False])
def test_what_is_one_graph_is_fused_and_the_same(training):
    x, skip = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for forward, given, more in (
        (convolved, (x,), {}), (keyword, (x,), {"skip": skip}), (private, (x,), {}),
        (keyword, (x,), {"skip": skip, "scale": 3.0}),
    ):  # fmt: skip
        model = module(forward)
        model.user = User()
        model.train(training)
        before = copy.deepcopy(model)
        assert fuse(model)[0].became == "BatchNorm2d → add → relu"
        for m in (model, copy.deepcopy(model)):
            torch.testing.assert_close(m(*given, **more), before(*given, **more))


def decides(self, x):
    y = self.act(self.bn(x))
    y = y * 2 if self.flag else y
    return y + 1 if getattr(self, "extra", None) else y


def runs_through(self, x):
    for layer in self.layers:
        x = layer(x)
    return self.act(self.bn(x))


def change_flag(m):
    m.flag = False


def set_extra(m):
    m.extra = True


def other_activation(m):
    m.act = theirs.GELU()


def other_norm(m):
    m.bn = theirs.BatchNorm2d(3)


def longer(m):
    m.layers.append(theirs.ReLU())


@pytest.mark.parametrize(
    ("forward", "change", "name"),
    [(decides, change_flag, "flag"), (decides, set_extra, "extra"),
     (decides, other_activation, "act"), (decides, other_norm, "bn"),
     (runs_through, longer, "layers._modules")],
)  # fmt: skip
def test_changes_that_a_recording_does_not_see_are_errors(forward, change, name):
    model = module(forward)
    model.layers = theirs.ModuleList([theirs.Identity()])
    before = copy.deepcopy(model)
    assert fuse(model)[0].became == "BatchNorm2d → relu"
    x = torch.randn(2, 3, 4, 4)
    for m in (model, copy.deepcopy(model)):
        torch.testing.assert_close(m(x), before(x))
        change(m)
        with pytest.raises(RuntimeError, match=rf"Hostile.{name} is .* fuse the model after"):
            m(x)


def added(self, x, skip):
    return self.act(self.bn(x) + skip)


def test_an_addition_of_nothing_is_the_error_that_it_was():
    plain = module(added)
    model = copy.deepcopy(plain)
    assert fuse(model)[0].became == "BatchNorm2d → add → relu"
    for m in (plain, model):
        with pytest.raises(TypeError, match="NoneType"):
            m(torch.randn(2, 3, 4, 4), None)


def test_classes_that_copy_themselves_are_left_alone():
    for name in ("__reduce__", "__reduce_ex__", "__deepcopy__"):
        model = module(decides, **{name: lambda self, *_: (Base, ())})
        assert f"has a {name} of its own" in fuse(model)[0].why
    recorded = torch.fx.symbolic_trace(theirs.Sequential(theirs.BatchNorm1d(3), theirs.ReLU()))
    x = torch.randn(4, 3)
    want = copy.deepcopy(recorded)(x)
    fuse(recorded)
    torch.testing.assert_close(recorded(x), want)
    recorded.recompile()
    torch.testing.assert_close(recorded(x), want)


def test_compiled_norms_are_left_alone():
    model = theirs.Sequential(theirs.BatchNorm1d(3), theirs.ReLU())
    model[0].compile(backend="eager")
    assert fuse(model)[0].why == "it is compiled"


def test_tied_parameters_stay_tied():
    model = theirs.Sequential(theirs.BatchNorm1d(3), theirs.ReLU(), theirs.BatchNorm1d(3))
    model[2].weight = model[0].weight
    plain = copy.deepcopy(model)
    fuse(model)
    assert model[0].weight is model[2].weight
    x = torch.randn(5, 3)
    for m in (model, plain):
        m(x).square().sum().backward()
    torch.testing.assert_close(model[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-5)


class ByIndex(theirs.Module):
    """Reads what stands between the layers of a Sequential."""

    def __init__(self):
        super().__init__()
        self.inner = theirs.Sequential(theirs.BatchNorm1d(3), theirs.ReLU())

    def forward(self, x):
        seen = []
        for layer in self.inner:
            x = layer(x)
            seen.append(x)
        return seen


class Backwards(theirs.Sequential):
    def forward(self, x):
        return self[0](self[1](x))


class Named(theirs.Sequential):
    """As torchvision's blocks of convolution, norm and activation."""


def test_sequentials_that_are_used_by_parts_are_left_alone():
    x = torch.randn(5, 3)
    for make in (ByIndex, lambda: theirs.Sequential(ByIndex())):
        model = make()
        before = copy.deepcopy(model)
        assert "called one by one" in fuse(model)[0].why
        for one, other in zip(model(x), before(x), strict=True):
            torch.testing.assert_close(one, other)


def test_sequentials_that_do_other_things_are_traced_or_left_alone():
    x = torch.randn(5, 3)
    layers = theirs.BatchNorm1d(3), theirs.ReLU()
    replaced = theirs.Sequential(*copy.deepcopy(layers))
    replaced.forward = lambda x: replaced[1](replaced[0](x)) + 1
    for model, became in (
        (Backwards(*copy.deepcopy(layers)), "BatchNorm1d"),
        (Named(*copy.deepcopy(layers)), "BatchNorm1d → relu"),
        (replaced, None),
    ):
        before = copy.deepcopy(model)
        before.forward = replaced.forward if model is replaced else before.forward
        want = model(x)
        assert fuse(model)[0].became == became
        torch.testing.assert_close(model(x), want)
        if became is not None:
            assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def dropping():
    model = theirs.Sequential(theirs.BatchNorm1d(40), theirs.ReLU(), theirs.Dropout(0.5))
    fuse(model)
    return model, torch.randn(50, 40).abs() + 1


def dropped(model, x, p=0.5):
    """The share of zeros beside those of the activation."""
    y = model(x)
    norm = copy.deepcopy(model[0])
    norm.dropout = 0.0
    positive = norm(x) > 0
    kept = (y > 0) & positive
    if p < 1:
        torch.testing.assert_close(y[kept], (norm(x) / (1 - p))[kept], rtol=1e-4, atol=1e-5)
    return 1 - float(kept.sum() / positive.sum())


def test_dropouts_keep_their_mode_and_probability():
    model, x = dropping()
    assert 0.4 < dropped(model, x) < 0.6
    assert dropped(model.eval(), x, 0) == 0
    # Monte Carlo dropout
    for m in model.modules():
        if isinstance(m, theirs.Dropout) or type(m).__name__.startswith("Dropout"):
            m.train()
    assert 0.4 < dropped(model, x) < 0.6
    # a frozen norm in training
    model.train()[0].eval()
    assert 0.4 < dropped(model, x) < 0.6
    model.train()[2].eval()
    assert dropped(model, x, 0) == 0
    # a schedule of probabilities
    model.train()
    model[2].p = 0.9
    assert 0.85 < dropped(model, x, 0.9) < 0.95
    model[2].p = 0.0
    assert dropped(model, x, 0) == 0


def test_copies_of_models_with_dropout_follow_their_own_layers():
    model, x = dropping()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[2]._norm[0] is twin[0]
        assert twin[0]._drops_for[0] is twin[2]
        twin[2].eval()
        assert dropped(twin, x, 0) == 0
        assert 0.4 < dropped(model, x) < 0.6


def test_a_cut_behind_the_norm_drops_nothing_in_evaluation():
    model, x = dropping()
    assert dropped(model[:2].eval(), x, 0) == 0


def test_gradients_of_frozen_norms_in_a_block():
    """In training with a norm in evaluation, as in fine-tuning."""
    plain = module(convolved)
    model = copy.deepcopy(plain)
    fuse(model)
    x = torch.randn(4, 3, 5, 5)
    for m in (plain, model):
        m.train()
        m.bn.eval()
        m.bn.running_mean.fill_(0.3)
        m(x).square().sum().backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)
    assert isinstance(model.bn, nn.BatchNorm2d)
    assert int(model.bn.num_batches_tracked) == int(plain.bn.num_batches_tracked) == 0


def test_a_recording_leaves_other_tools_and_threads_alone():
    """It looks at attributes of all modules meanwhile: those of other threads pass, and what
    another tool has put there is called, and back when it ends."""
    cls, seen = theirs.Module, []

    def others(self, name):
        seen.append(name)
        return object.__getattribute__(self, name)

    recording, other = threading.Event(), threading.Event()
    busy = theirs.BatchNorm1d(3)
    found = []

    def waits(self, x):
        recording.set()
        assert other.wait(10)
        return self.act(self.bn(x))

    def reads():
        recording.wait(10)
        found.append((busy.training, busy.eps, hasattr(busy, "none")))
        found.append(busy(torch.ones(4, 3)).sum().isfinite())
        other.set()

    model = module(waits)
    cls.__getattribute__ = others
    try:
        thread = threading.Thread(target=reads)
        thread.start()
        entry, _ = fuse(model)
        thread.join()
        assert vars(cls)["__getattribute__"] is others
    finally:
        del cls.__getattribute__
    assert entry.became == "BatchNorm2d → relu"
    assert found == [(True, 1e-5, False), True]
    assert {"act", "eps", "none"} <= set(seen)


def test_recordings_at_once_are_one_after_the_other():
    models = [module(convolved) for _ in range(8)]
    threads = [threading.Thread(target=fuse, args=(m,)) for m in models]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert "__getattribute__" not in vars(theirs.Module)
    assert all(isinstance(m.bn, nn.BatchNorm2d) for m in models)
