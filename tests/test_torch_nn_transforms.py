"""onepass.torch.nn under torch.func, torch.export, make_fx and Inductor, and without memory."""

import copy

import pytest

torch = pytest.importorskip("torch")

from onepass.torch import nn  # noqa: E402
from test_torch_nn import LOSSES, NORMS, PLAIN, modules, near, randn  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.func import functional_call, grad, vmap  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own machinery
MAPS = {"Dropout1d": (3, 4, 5), "Dropout2d": (3, 4, 5, 6), "Dropout3d": (3, 4, 5, 6, 7),
        "Dropout": (5, 7), "AlphaDropout": (5, 7), "FeatureAlphaDropout": (3, 4, 5)}  # fmt: skip
ROW_NORMS = [norm for norm in NORMS if norm[0] in ("LayerNorm", "RMSNorm", "GroupNorm")]


def of_each_kind():
    """(module with an epilogue where it has one, its inputs)."""
    for name, arguments, shape in NORMS:
        yield getattr(nn, name)(*arguments, activation="silu", dropout=0.3), (randn(shape),) * 2
    yield nn.BatchRenorm(5, activation="silu", dropout=0.3), (randn((7, 5)),) * 2
    for name, arguments, shape in PLAIN:
        yield getattr(nn, name)(*arguments), (randn(shape),)
    for name, shape in MAPS.items():
        yield getattr(nn, name)(0.3), (randn(shape),)
    yield nn.Linear(7, 3, activation="gelu", dropout=0.3), (randn((5, 7)),)
    yield nn.Linear(7, 3, activation="relu", dropout=0.3), (randn((5, 7)),)
    yield nn.Maxout(4), (randn((5, 8)),)
    yield nn.DecorrelatedBatchNorm(4, 2), (randn((5, 4, 7)),)
    yield nn.WeightNorm(nn.Linear(7, 3)), (randn((5, 7)),)
    for name in LOSSES:
        yield getattr(nn, name)(), (randn((5, 7)).sigmoid(), randn((5, 7), 2).sigmoid())
    for name in ("CrossEntropyLoss", "NLLLoss"):
        yield getattr(nn, name)(), (randn((5, 7)), torch.tensor([0, 1, 2, 0, 6]))


EACH = [pytest.param(*each, id=str(i) + type(each[0]).__name__)
        for i, each in enumerate(of_each_kind())]  # fmt: skip
each_module = pytest.mark.parametrize(("model", "inputs"), EACH)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def called(function, inputs, seed=0):
    torch.manual_seed(seed)
    return function(*inputs)


@pytest.mark.parametrize(("name", "arguments", "shape"), ROW_NORMS + PLAIN)
def test_vmap_gives_what_single_calls_give(name, arguments, shape):
    ours, reference = modules(name, arguments)
    x = torch.stack([randn(shape, i) for i in range(3)], 1)
    near(vmap(ours, in_dims=1)(x), vmap(reference, in_dims=1)(x.double()), 1e-5)


@each_module
def test_no_samples_have_no_results(model, inputs):
    """vmap, vmap of grad and grad of vmap over none: the shapes that torch gives, zeros as
    gradient of parameters."""
    model = without_statistics(model)
    none = tuple(torch.empty((0, *t.shape), dtype=t.dtype) for t in inputs)
    one = called(model, inputs)

    def loss(*inputs):
        return model(*inputs).double().sum()

    over = {"randomness": "different"}
    y = vmap(model, **over)(*none)
    assert (y.shape, y.dtype) == ((0, *one.shape), one.dtype)
    assert vmap(vmap(model, **over), **over)(*(t[None] for t in none)).shape == (1, *y.shape)
    of_samples = vmap(grad(loss), **over)(*none)
    of_all = grad(lambda *inputs: vmap(model, **over)(*inputs).double().sum())(*none)
    for dx in (of_samples, of_all):
        assert (dx.shape, dx.dtype) == (none[0].shape, none[0].dtype)
    parameters = dict(model.named_parameters())
    if parameters:
        grads = grad(lambda p: vmap(lambda *x: functional_call(model, p, x), **over)(*none).sum())
        for key, value in grads(parameters).items():
            assert torch.equal(value, torch.zeros_like(parameters[key]))


def without_statistics(model):
    """That of a batch norm which has none: to move them under vmap is an error, in torch too."""
    model = copy.deepcopy(model)
    if isinstance(model, (nn.BatchRenorm, nn.DecorrelatedBatchNorm)):
        return model.eval()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        if name in model._buffers:
            model._buffers[name] = None
    if hasattr(model, "track_running_stats"):
        model.track_running_stats = False
    return model


@pytest.mark.parametrize(("name", "arguments", "shape"), NORMS)
def test_gradients_of_samples_are_torchs(name, arguments, shape):
    """vmap of grad, of input and parameters; statistics of a batch are each sample's own here."""
    if name.startswith("Batch"):
        arguments = (*arguments, 1e-5, 0.1, True, False)
    if name == "InstanceNorm1d":
        arguments = (5, 1e-5, 0.1, True, False)
    ours, reference = modules(name, arguments)
    x = torch.stack([randn(shape, i) for i in range(3)])
    weights = randn(shape, 9)

    def per_sample(model, x, weights):
        parameters = dict(model.named_parameters())

        def loss(parameters, x):
            return (functional_call(model, parameters, (x,)) * weights).sum()

        return vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0))(parameters, x)

    (got, dx), (expected, want) = (
        per_sample(ours, x, weights), per_sample(reference, x.double(), weights.double()),
    )  # fmt: skip
    near(dx, want, 1e-4)
    assert got.keys() == expected.keys()
    for key, value in got.items():
        near(value, expected[key], 1e-4)


@pytest.mark.parametrize("name", LOSSES[:4])
def test_gradients_of_losses_of_samples_are_torchs(name):
    x, target = randn((3, 7), 1, torch.float64), randn((3, 7), 2, torch.float64)
    for which in (0, 1):
        ours, want = (vmap(grad(getattr(library, name)(), which))(x, target)
                      for library in (nn, torch.nn))  # fmt: skip
        near(ours, want, 1e-12)


def test_gradients_of_cross_entropy_of_samples_are_torchs():
    x, labels = randn((6, 4), 1, torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    ours, want = (vmap(grad(library.CrossEntropyLoss(label_smoothing=0.1)))(x, labels)
                  for library in (nn, torch.nn))  # fmt: skip
    near(ours, want, 1e-12)


def test_an_ensemble_runs_under_vmap():
    members = [torch.nn.Sequential(nn.Linear(4, 5, activation="relu"), nn.LayerNorm(5)).double()
               for _ in range(3)]  # fmt: skip
    parameters, buffers = torch.func.stack_module_state(members)
    x = randn((6, 4)).double()
    got = vmap(lambda p, b: functional_call(members[0], (p, b), (x,)))(parameters, buffers)
    near(got, torch.stack([m(x) for m in members]), 1e-12)


@each_module
def test_meta_and_fake_tensors_have_the_shapes_of_real_ones(model, inputs):
    real = called(model, inputs)
    meta = copy.deepcopy(model).to("meta")(*[t.to("meta") for t in inputs])
    assert (meta.shape, meta.dtype, meta.stride()) == (real.shape, real.dtype, real.stride())
    assert meta.is_meta
    twin = copy.deepcopy(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = twin(*[mode.from_tensor(t) for t in inputs])
    assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


@each_module
def test_recorded_graphs_give_the_bits_of_eager_calls(model, inputs):
    """make_fx with the gradient in the graph, torch.export, and torch.jit.trace in evaluation."""

    def step_of(model):
        def step(x, *rest):
            y = model(x, *rest)
            return y, torch.autograd.grad(y.sum(), x)[0]

        return step

    given = (inputs[0].clone().requires_grad_(), *inputs[1:])
    recorded, twin = copy.deepcopy(model), copy.deepcopy(model)
    graph = make_fx(step_of(recorded))(*given)  # a step of its own
    step_of(twin)(*given)
    for one, other in zip(called(graph, given), called(step_of(twin), given), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(recorded.buffers(), twin.buffers(), strict=True):
        if one.is_floating_point():  # a graph has torch's own addition to the count of batches
            assert torch.equal(one, other)

    model = copy.deepcopy(model).eval()
    expected = model(*inputs)
    exported = torch.export.export(model, inputs).module()
    assert torch.equal(exported(*inputs), expected)
    assert torch.equal(torch.jit.trace(model, inputs)(*inputs), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_exported_network_takes_other_batches(layout):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, activation="relu"), torch.nn.Flatten(),
        nn.Linear(64, 5, activation="gelu"), nn.LayerNorm(5), nn.Softmax(-1),
    ).eval()  # fmt: skip
    batch = torch.export.Dim("batch", min=2, max=64)
    x = randn((4, 3, 6, 6)).to(memory_format=layout)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    other = randn((9, 3, 6, 6), 1).to(memory_format=layout)
    assert torch.equal(program.module()(other), model(other))
    decomposed = program.run_decompositions().module()
    assert torch.equal(decomposed(other), model(other))


def test_inductor_trains_as_eager_calls_do():
    """One graph; PyTorch's own layers are compiled otherwise, to rounding.

    No bias in front of a norm: its gradient would be nothing but rounding.
    """

    def build():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, activation="relu"),
            nn.Dropout2d(0.2), torch.nn.Flatten(), nn.Linear(64, 8, activation="gelu", dropout=0.1),
            nn.LayerNorm(8, activation="silu"), nn.AlphaDropout(0.1), torch.nn.Linear(8, 5),
        )  # fmt: skip

    x, labels = randn((6, 3, 6, 6)), torch.tensor([0, 1, 2, 3, 4, 0])
    model, twin = build(), build()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    # Inductor's own generator gives other masks than torch's.
    compiled = torch.compile(model, fullgraph=True, options={"fallback_random": True})
    compiled_loss = torch.compile(loss, fullgraph=True)
    for step in range(3):
        torch.manual_seed(step)
        one = compiled_loss(compiled(x), labels)
        one.backward()
        torch.manual_seed(step)
        other = loss(twin(x), labels)
        other.backward()
        near(one, other, 1e-5)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            near(p.grad, q.grad, 1e-4)
            with torch.no_grad():
                p -= 0.1 * p.grad
                q -= 0.1 * q.grad
            p.grad = q.grad = None
    for p, q in zip(model.buffers(), twin.buffers(), strict=True):
        near(p, q, 1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_inductor_drops_the_same_in_the_backward(name):
    """With its own generator too."""
    x = torch.ones(MAPS[name]).requires_grad_()
    model = getattr(nn, name)(0.5)
    compiled = torch.compile(model, fullgraph=True)
    masks = set()
    for _ in range(4):
        y = compiled(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        kept = y == y.max()
        assert torch.equal(dx, kept * dx.max())
        masks.add(str(kept))
    assert len(masks) > 1


def test_forward_mode_and_second_derivatives_are_refused():
    x = randn((5, 3))
    for call in (
        lambda: torch.func.jvp(nn.ReLU(), (x,), (x,)),
        lambda: torch.func.hessian(lambda x: nn.Tanh()(x).sum())(x),
        lambda: grad(lambda x: grad(lambda x: nn.Tanh()(x).sum())(x).sum())(x),
    ):
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|differentiable once"):
            call()


def test_statistics_of_a_batch_are_refused_as_torch_does():
    x = randn((5, 3))
    for library in (torch.nn, nn):
        model = library.BatchNorm1d(3)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(RuntimeError, match="would mutate a captured Tensor"):
            grad(lambda x, model=model: model(x).square().sum())(x)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])
