"""onepass.torch.nn against torch.nn: values, gradients, states, memory, and what is refused."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")

import onepass.nn  # noqa: E402
from onepass import ops  # noqa: E402
from onepass.torch import nn  # noqa: E402

theirs = torch.nn
# name, arguments, shape
NORMS = [
    ("BatchNorm1d", (5,), (7, 5)),
    ("BatchNorm1d", (5,), (3, 5, 9)),
    ("BatchNorm2d", (3,), (4, 3, 5, 7)),
    ("BatchNorm3d", (2,), (2, 2, 3, 4, 5)),
    ("LayerNorm", (9,), (3, 5, 9)),
    ("LayerNorm", ((5, 9),), (3, 5, 9)),
    ("RMSNorm", (9,), (3, 5, 9)),
    ("GroupNorm", (2, 6), (3, 6, 9)),
    ("InstanceNorm1d", (5, 1e-5, 0.1, True, True), (3, 5, 9)),
    ("InstanceNorm2d", (5,), (3, 5, 3, 9)),
    ("InstanceNorm3d", (2,), (2, 2, 3, 4, 5)),
]
ACTIVATIONS = [
    "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "GELU", "SiLU", "SELU", "Mish", "ELU", "CELU",
    "Softplus", "Hardtanh", "ReLU6", "Hardsigmoid", "Hardswish", "Softsign", "GLU",
]  # fmt: skip
PLAIN = [(name, (), (3, 17, 4)) for name in ACTIVATIONS] + [
    ("GELU", ("tanh",), (33,)),
    ("LeakyReLU", (0.3,), (33,)),
    ("Softmax", (1,), (3, 17, 4)),
    ("LogSoftmax", (-1,), (3, 17)),
]
LOSSES = ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss",
          "KLDivLoss"]  # fmt: skip
BOUND = {torch.float64: 1e-12, torch.float32: 4e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
each_dtype = pytest.mark.parametrize("dtype", list(BOUND), ids=lambda d: str(d)[6:])
each_norm = pytest.mark.parametrize(("name", "arguments", "shape"), NORMS)


def test_every_module_of_one_kernel_is_here_and_compared():
    """An activation or loss of elements of onepass.nn that is in torch.nn too."""
    compared = {name for name, _, _ in PLAIN} | {*LOSSES}
    kernels = {*onepass.nn._activation.__all__, *onepass.nn._pointwise_loss.__all__}
    for name in sorted(kernels & set(dir(theirs)) - {"Identity"}):
        assert name in nn.__all__, (
            f"python/onepass/torch/nn has no {name}: add its class before torch's, and its name to "
            "the imports and __all__ of __init__.py"
        )
        assert name in compared, (
            f"tests/test_torch_nn.py compares no {name}: add it to ACTIVATIONS, PLAIN or LOSSES"
        )


def randn(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def modules(name, arguments, dtype=torch.float32, **epilogue):
    """Ours in ``dtype`` and torch's in float64, with the same numbers that are not 0 and 1."""
    ours, reference = getattr(nn, name)(*arguments, **epilogue), getattr(theirs, name)(*arguments)
    for i, p in enumerate(reference.parameters()):
        p.data = (1 + randn(p.shape, i) / 3).to(dtype)
    ours = ours.to(dtype)
    ours.load_state_dict(reference.state_dict())
    reference = reference.double()
    return ours, reference


def near(ours, reference, bound):
    """Within ``bound`` of the largest value of the reference, however small that is."""
    assert ours.shape == reference.shape
    if not reference.numel():
        return
    ours, reference = ours.detach().double(), reference.detach().double()
    scale = float(reference.abs().max())
    worst = float((ours - reference).abs().max())
    assert worst <= bound * scale, (worst, scale, worst / scale if scale else "of zeros")


def compare(ours, reference, x, bound, *more):
    a, b = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = ours(a, *more), reference(b)
    assert y.dtype == x.dtype
    near(y, expected, bound)
    dy = randn(y.shape, 9, x.dtype)
    y.backward(dy)
    expected.backward(dy.double())
    near(a.grad, b.grad, 3 * bound)
    for p, q in zip(ours.parameters(), reference.parameters(), strict=True):
        assert p.grad.dtype == p.dtype
        near(p.grad, q.grad, 4 * bound)
    for p, q in zip(ours.buffers(), reference.buffers(), strict=True):
        near(p, q, bound)


@each_dtype
@each_norm
def test_norms_are_torchs_in_training_and_evaluation(name, arguments, shape, dtype):
    ours, reference = modules(name, arguments, dtype)
    for step in range(2):
        for p in (*ours.parameters(), *reference.parameters()):
            p.grad = None
        compare(ours, reference, randn(shape, step, dtype), BOUND[dtype])
    for p in (*ours.parameters(), *reference.parameters()):
        p.grad = None
    compare(ours.eval(), reference.eval(), randn(shape, 5, dtype), BOUND[dtype])


@each_dtype
@pytest.mark.parametrize(("name", "arguments", "shape"), PLAIN)
def test_activations_and_softmax_are_torchs(name, arguments, shape, dtype):
    # torch's Hardsigmoid has 1/6 in float32, in float64 too
    bound = max(BOUND[dtype], 1e-7 if name == "Hardsigmoid" else 0)
    compare(*modules(name, arguments, dtype), randn(shape, 1, dtype), bound)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore:reduction")
def test_pointwise_losses_are_torchs(name, reduction):
    x, target = randn((5, 7), 1, torch.float64), randn((5, 7), 2, torch.float64).sigmoid()
    x = x.sigmoid() if name == "BCELoss" else x
    results = []
    for library in (nn, theirs):
        a = x.clone().requires_grad_()
        t = target.clone().requires_grad_(name in LOSSES[:4])
        loss = getattr(library, name)(reduction=reduction)(a, t)
        loss.backward(randn(loss.shape, 3, torch.float64))
        results.append([v for v in (loss.detach(), a.grad, t.grad) if v is not None])
    for one, other in zip(*results, strict=True):
        near(one, other, 1e-12)


@pytest.mark.parametrize("name", ["BCELoss", "BCEWithLogitsLoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_of_elements(name, reduction):
    x, target, weight = (randn((5, 7), i, torch.float64).sigmoid() for i in range(3))
    near(getattr(nn, name)(weight, reduction=reduction)(x, target),
         getattr(theirs, name)(weight, reduction=reduction)(x, target), 1e-12)  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (4,)], ids=str)
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_losses_of_classes_are_torchs(name, shape, reduction):
    x = randn(shape, 1, torch.float64)
    places = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = torch.randint(0, 4, places, generator=torch.Generator().manual_seed(2))
    weight = torch.arange(1.0, 5.0, dtype=torch.float64)
    results = []
    for library in (nn, theirs):
        a = x.clone().requires_grad_()
        loss = getattr(library, name)(weight=weight, reduction=reduction)(a, target)
        loss.backward(randn(loss.shape, 3, torch.float64))
        results.append((loss.detach(), a.grad))
    for one, other in zip(*results, strict=True):
        near(one, other, 1e-12)


@each_norm
def test_gradients_are_those_of_differences(name, arguments, shape):
    """Of every argument, and of each alone; with residual and activation."""
    ours, _ = modules(name, arguments, torch.float64, activation="tanh")
    x, residual = randn(shape, 1, torch.float64), randn(shape, 2, torch.float64)
    names = [key for key, _ in ours.named_parameters()]
    given = [x, residual, *(p.detach().clone() for p in ours.parameters())]

    def function(x, residual, *parameters):
        return torch.func.functional_call(
            ours, dict(zip(names, parameters, strict=True)), (x, residual)
        )

    for wanted in [range(len(given)), *([i] for i in range(len(given)))]:
        inputs = [t.clone().requires_grad_(i in wanted) for i, t in enumerate(given)]
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("name", "shape", "layout"),
    [("BatchNorm2d", (4, 3, 5, 7), torch.channels_last),
     ("BatchNorm3d", (2, 3, 3, 4, 5), torch.channels_last_3d)],
)  # fmt: skip
def test_channels_last_stays_so_and_takes_no_copy(name, shape, layout, monkeypatch):
    from onepass import _C
    from onepass.torch.nn import _norm_function

    ours, reference = modules(name, (3,))
    x = randn(shape, 1).to(memory_format=layout)
    seen = []
    watched = _norm_function._KINDS["batch_norm"]._replace(
        forward=_norm_function._channel_norm(
            lambda x, *r: seen.append((x, r[6])) or _C.batch_norm(x, *r)
        )
    )
    monkeypatch.setitem(_norm_function._KINDS, "batch_norm", watched)
    a = x.clone(memory_format=torch.preserve_format).requires_grad_()
    r = randn(shape, 2).to(memory_format=layout).requires_grad_()
    y = ours(a, r)
    assert seen[0][0].data_ptr() == a.data_ptr()
    assert seen[0][0].is_contiguous()
    assert seen[0][1] == -1
    b, s = (t.detach().double().requires_grad_() for t in (a, r))
    expected = reference(b) + s
    dy = randn(shape, 3)
    y.backward(dy)
    expected.backward(dy.double())
    for t in (y, a.grad, r.grad):
        assert t.is_contiguous(memory_format=layout)
    for one, other in zip((y, a.grad, r.grad), (expected, b.grad, s.grad), strict=True):
        near(one, other, 1e-5)
    for p, q in zip(ours.parameters(), reference.parameters(), strict=True):
        near(p.grad, q.grad, 1e-5)


@pytest.mark.parametrize("name", ["BatchNorm2d", "BatchRenorm"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_dropped_residual_has_no_gradient(name, layout):
    """Where nothing else decides it, its gradient is made of the mask alone."""
    x, r = (randn((4, 3, 5, 7), i).to(memory_format=layout).requires_grad_() for i in range(2))
    y = getattr(nn, name)(3, dropout=0.5)(x, r)
    dy = randn(y.shape, 3)
    y.backward(dy)
    assert torch.equal(r.grad, torch.where(y == 0, 0, 2 * dy))
    assert 0.3 < float((y == 0).double().mean()) < 0.7


def test_what_is_kept_is_less_than_torchs():
    """Input and statistics; a mask of dropout is a seed, an activation's input nothing."""

    def kept(model, x):
        storages = {}

        def pack(t):
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = model(x)
        del y
        return sum(storages.values())

    x = randn((64, 32, 8, 8)).requires_grad_()
    size = x.numel() * 4
    fused = nn.BatchNorm2d(32, activation="silu", dropout=0.2)
    parts = theirs.Sequential(theirs.BatchNorm2d(32), theirs.SiLU(), theirs.Dropout(0.2))
    assert kept(fused, x) < size * 1.01
    assert kept(parts, x) > size * 2.2
    assert kept(nn.Dropout(0.2), x) == 8


@each_norm
def test_states_go_both_ways_and_copies_are_whole(name, arguments, shape):
    ours, reference = modules(name, arguments, activation="relu", dropout=0.1)
    reference = reference.float()
    assert list(ours.state_dict()) == list(reference.state_dict())
    reference.load_state_dict(ours.state_dict())
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert repr(twin) == repr(ours)
        twin.eval(), ours.eval()
        assert torch.equal(twin(randn(shape)), ours(randn(shape)))


def test_a_state_of_old_torch_without_the_batch_count():
    old = {k: v for k, v in theirs.BatchNorm1d(2).state_dict().items() if k[:3] != "num"}
    nn.BatchNorm1d(2).load_state_dict(old)


def test_changed_inputs_are_noticed_and_graphs_run_twice():
    m = nn.BatchNorm1d(3, activation="gelu")
    x = randn((5, 3)).requires_grad_()
    h = x * 1
    y = m(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    first, second = m(x), m(x + 1)
    (a,) = torch.autograd.grad(second.square().sum(), x, retain_graph=True)
    (b,) = torch.autograd.grad(second.square().sum(), x)
    assert torch.equal(a, b)
    first.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        first.sum().backward()
    (g,) = torch.autograd.grad(m(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="onepass's norm is differentiable once"):
        g.sum().backward()


def test_dropout_follows_torchs_generator():
    x = torch.ones(1000, requires_grad=True)
    m = nn.Dropout(0.25)
    torch.manual_seed(3)
    first, second = m(x), m(x)
    torch.manual_seed(3)
    assert torch.equal(first, m(x))
    assert not torch.equal(first, second)
    (dx,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(dx, first)
    assert 0.2 < float((first == 0).float().mean()) < 0.3
    assert m.eval()(x) is x
    from torch.utils.checkpoint import checkpoint

    model = nn.Linear(1000, 50, activation="relu", dropout=0.5)
    torch.manual_seed(4)
    (a,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.manual_seed(4)
    (b,) = torch.autograd.grad(checkpoint(model, x, use_reentrant=False).square().sum(), x)
    assert torch.equal(a, b)


IMAGES = (4, 5, 3, 7)
MASKED = [
    (nn.Dropout(0.5), IMAGES), (nn.AlphaDropout(0.5), IMAGES),
    (nn.GroupNorm(5, 5, dropout=0.5), IMAGES),
    (nn.BatchNorm2d(5, dropout=0.5), IMAGES), (nn.BatchNorm3d(5, dropout=0.5), (4, 5, 3, 2, 7)),
    (nn.BatchRenorm(5, dropout=0.5), IMAGES), (nn.InstanceNorm2d(5, dropout=0.5), IMAGES),
    (nn.LayerNorm(7, dropout=0.5), IMAGES), (nn.RMSNorm(7, dropout=0.5), IMAGES),
]  # fmt: skip


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("model", "shape"), MASKED, ids=lambda v: type(v).__name__)
def test_a_mask_is_that_of_elements_wherever_they_lie(model, shape, residual):
    """`ops.dropout_mask` of the shape, for the seed that torch's generator gives."""
    torch.manual_seed(3)
    seed = int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64))
    mask = torch.from_numpy(ops.dropout_mask(shape, 0.5, seed=seed))
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    for layout in (torch.contiguous_format, last, None):
        x = randn(shape).to(memory_format=layout) if layout else randn(shape[::-1]).permute(
            *reversed(range(len(shape))))  # fmt: skip
        x = x.requires_grad_()
        r = randn(shape, 1).requires_grad_()
        if residual and isinstance(model, theirs.modules.dropout._DropoutNd):
            continue
        torch.manual_seed(3)
        y = model(x, r) if residual else model(x)
        dropped = y.detach() == 0
        if isinstance(model, nn.AlphaDropout):
            (dx,) = torch.autograd.grad(y.sum(), x)
            dropped = dx == 0
        elif residual:
            (dr,) = torch.autograd.grad(y.sum(), r)
            assert torch.equal(dr == 0, dropped)
        assert torch.equal(dropped, ~mask)


def renorm(x, norm, residual):
    """The formula, in float64, where autograd takes r and d for constants."""
    axes = (0, *range(2, x.dim()))
    form = (1, -1, *(1 for _ in axes[1:]))
    mean, var = x.mean(axes), x.var(axes, correction=0)
    sigma, run = (var + norm.eps).sqrt(), (norm.running_var.double() + norm.eps).sqrt()
    r = (sigma / run).clamp(1 / norm.rmax, norm.rmax).detach()
    d = ((mean - norm.running_mean.double()) / run).clamp(-norm.dmax, norm.dmax).detach()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    shaped = [t.view(form) for t in (mean, sigma, r, d, weight, bias)]
    mean, sigma, r, d, w, b = shaped
    return torch.relu(((x - mean) / sigma * r + d) * w + b + residual), weight, bias


@each_dtype
@pytest.mark.parametrize("shape", [(9, 3), (4, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("limits", [(1.0, 0.0), (1.1, 0.3), (3.0, 5.0)])
def test_batch_renorm_follows_its_formula(shape, limits, dtype):
    norm = nn.BatchRenorm(3, rmax=limits[0], dmax=limits[1], activation="relu").to(dtype)
    theirs_norm = theirs.BatchNorm1d(3).double()
    for i, p in enumerate(norm.parameters()):
        p.data = (1 + randn(p.shape, i) / 3).to(dtype)
    for step in range(2):
        x = (randn(shape, step) * 2 + 1).to(dtype).requires_grad_()
        residual = randn(shape, 7, dtype)
        wide = x.detach().double().requires_grad_()
        expected, weight, bias = renorm(wide, norm, residual.double())
        y = norm(x, residual)
        dy = randn(shape, 9, dtype)
        norm.zero_grad()
        y.backward(dy)
        expected.backward(dy.double())
        near(y, expected, 3 * BOUND[dtype])
        near(x.grad, wide.grad, 9 * BOUND[dtype])
        near(norm.weight.grad, weight.grad, 9 * BOUND[dtype])
        near(norm.bias.grad, bias.grad, 9 * BOUND[dtype])
        theirs_norm(wide.detach().movedim(1, -1).reshape(-1, 3))
    near(norm.running_mean, theirs_norm.running_mean, 3 * BOUND[dtype])
    near(norm.running_var, theirs_norm.running_var, 3 * BOUND[dtype])
    assert list(norm.state_dict()) == list(theirs_norm.state_dict())
    norm.eval()
    evaluated = theirs.BatchNorm1d(3).double().eval()
    evaluated.load_state_dict(norm.state_dict())
    flat = x.detach().double().movedim(1, -1).reshape(-1, 3)
    got = norm(x).detach().movedim(1, -1).reshape(-1, 3)
    near(got, torch.relu(evaluated(flat)), 3 * BOUND[dtype])


@each_dtype
@pytest.mark.parametrize("name", ["abs", "sin"])
def test_activations_that_torch_has_as_functions_alone(name, dtype):
    x = randn((33,), 1, dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    for function, given in ((getattr(nn, name.title())(), x), (getattr(torch, name), wide)):
        function(given).backward(randn((33,), 2, given.dtype))
    near(getattr(nn, name.title())()(x), getattr(torch, name)(wide), BOUND[dtype])
    near(x.grad, wide.grad, 3 * BOUND[dtype])


# name, shape, axes of a map
DROPOUTS = [
    ("Dropout", (1200,), ()), ("AlphaDropout", (40, 30), ()),
    ("Dropout1d", (40, 30, 4), (2,)), ("Dropout1d", (999, 4), (1,)),
    ("Dropout2d", (40, 30, 4, 3), (2, 3)), ("Dropout2d", (40, 30, 4), (2,)),
    ("Dropout3d", (40, 30, 2, 3, 2), (2, 3, 4)), ("Dropout3d", (999, 2, 3, 2), (1, 2, 3)),
    ("FeatureAlphaDropout", (40, 30, 4), (2,)), ("FeatureAlphaDropout", (40, 30), ()),
]  # fmt: skip
SELU_FLOOR = -1.7580993408473766


@each_dtype
@pytest.mark.parametrize("p", [0.0, 0.375, 1.0])
@pytest.mark.parametrize(("name", "shape", "axes"), DROPOUTS)
def test_every_dropout_follows_its_formula(name, shape, axes, p, dtype):
    """Values and gradients, where the mask is read from the gradient; maps are dropped whole."""
    ours = getattr(nn, name)(p)
    x = (randn(shape, 1).abs() + 0.5).to(dtype).requires_grad_()
    y = ours(x)
    y.backward(torch.ones_like(y))
    kept = x.grad != 0
    scale, floor = 1 / (1 - p) if p < 1 else 0.0, 0.0
    if "Alpha" in name:
        scale, floor = ((1 - p) * (1 + p * SELU_FLOOR**2)) ** -0.5 if p < 1 else 0.0, SELU_FLOOR
    value = scale * (torch.where(kept, x.detach().double(), floor) - p * floor)
    assert y.dtype == x.grad.dtype == dtype
    near(y, value, BOUND[dtype])
    near(x.grad, kept.double() * scale, BOUND[dtype])
    assert abs(float(kept.double().mean()) - (1 - p)) < 0.06
    if axes:
        assert bool((kept.all(axes) | ~kept.any(axes)).all())
    assert ours.eval()(x) is x
    assert repr(ours) == repr(getattr(theirs, name)(p))


@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_with_its_epilogue(bias, activation):
    model = nn.Linear(4, 3, bias=bias, activation=activation, dtype=torch.float64)
    x = randn((2, 5, 4), 1, torch.float64).requires_grad_()
    linear = theirs.functional.linear(x, model.weight, model.bias)
    expected = getattr(theirs.functional, activation)(linear)
    near(model(x), expected, 1e-12)
    assert torch.autograd.gradcheck(lambda x, *_: model(x), (x, *model.parameters()))


@pytest.mark.parametrize("momentum", [None, 0.3, 0.0])
@pytest.mark.parametrize("tracked", [True, False])
def test_momentum_and_statistics_of_batch_norm(momentum, tracked):
    arguments = (3, 1e-3, momentum, False, tracked)
    ours, reference = modules("BatchNorm1d", arguments)
    for step in range(3):
        compare(ours, reference, randn((6, 3), step), 1e-5)
    compare(ours.eval(), reference.eval(), randn((6, 3), 7), 1e-5)


def test_what_cannot_be_done_is_said():
    x = torch.ones(2, 3)
    for call, match in [
        (lambda: nn.BatchNorm2d(3)(x), "2 axes, expected 4"),
        (lambda: nn.BatchNorm1d(4)(x), "3 channels, expected num_features, 4"),
        (lambda: nn.BatchNorm1d(3)(x[:1]), "value"),
        (lambda: nn.GroupNorm(1, 4)(x), r"expected \(N, 4, …\)"),
        (lambda: nn.GroupNorm(3, 3)(x[:1]), "one value per group has no variance; use fewer"),
        (lambda: nn.GroupNorm(3, 3).eval()(x[:1, :, None]), "one value per group"),
        (lambda: nn.InstanceNorm1d(3)(x[:, :, None]), "one value per channel of a sample"),
        (lambda: nn.Softmax()(x), "'dim' is None"),
        (lambda: nn.BCELoss()(x, x.clone().requires_grad_()), "'target' requires a gradient"),
        (lambda: nn.BatchNorm1d(3, activation="rleu"), "'activation' is 'rleu'"),
        (lambda: nn.LayerNorm(3, dropout=2.0), "'dropout'"),
        (lambda: nn.BatchNorm1d(3)(x, x[:1]), "residual"),
        (lambda: nn.Dropout1d(0.5)(x[0]), "1 axes, expected 2 or 3"),
        (lambda: nn.Dropout2d(0.5)(x), "2 axes, expected 3 or 4"),
        (lambda: nn.FeatureAlphaDropout(0.5)(x[0]), "1 axis|1-d|axes"),
        (lambda: nn.AlphaDropout(1.5), "1.5"),
        (lambda: nn.BatchRenorm(3, rmax=0.5), "'rmax' is 0.5"),
        (lambda: nn.BatchRenorm(3, dmax=-1.0), "'dmax' is -1.0"),
    ]:
        with pytest.raises((ValueError, RuntimeError), match=match):
            call()


ONE_VALUE = [
    ("BatchNorm1d", (3,), (1, 3)), ("BatchNorm1d", (3,), (1, 3, 1)),
    ("BatchNorm2d", (3,), (1, 3, 1, 1)), ("BatchNorm3d", (3,), (1, 3, 1, 1, 1)),
    ("InstanceNorm1d", (3,), (2, 3, 1)), ("InstanceNorm2d", (3,), (2, 3, 1, 1)),
    ("InstanceNorm1d", (3, 1e-5, 0.1, True, True), (1, 3, 1)),
    ("InstanceNorm3d", (3,), (1, 3, 1, 1, 1)), ("GroupNorm", (3, 3), (1, 3)),
    ("GroupNorm", (3, 3), (1, 3, 1)), ("GroupNorm", (3, 3), (2, 3)),
    ("LayerNorm", (1,), (1, 1)), ("LayerNorm", (1,), (4, 1)), ("RMSNorm", (1,), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "arguments", "shape"), ONE_VALUE)
def test_one_value_has_no_variance_where_torch_says_so(name, arguments, shape, training):
    """Refused where torch refuses it, in onepass.nn too; else the bias, torch's to rounding."""
    x = randn(shape)
    reference = getattr(theirs, name)(*arguments).train(training)
    ours = getattr(nn, name)(*arguments).train(training)
    arrays = getattr(onepass.nn, name)(*arguments)
    arrays.train() if training else arrays.eval()
    before = copy.deepcopy(ours.state_dict())
    try:
        expected = reference(x).detach()
    except ValueError:
        with pytest.raises(ValueError, match="one value per"):
            ours(x)
        with pytest.raises(ValueError, match="one value per"):
            arrays(x.numpy())
        for key, value in ours.state_dict().items():
            assert "tracked" in key or torch.equal(value, before[key])
        return
    if name in ("GroupNorm", "LayerNorm"):
        assert float(expected.abs().max()) < 1e-3
        expected = torch.zeros(shape)
    near(ours(x), expected, 1e-5)
    near(torch.from_numpy(arrays(x.numpy())), expected, 1e-5)


def test_conversion_to_sync_batch_norm_drops_nothing():
    convert = theirs.SyncBatchNorm.convert_sync_batchnorm
    for norm, said in [
        (nn.BatchNorm1d(3, activation="relu"), "activation='relu'"),
        (nn.BatchNorm1d(3, dropout=0.2), "dropout=0.2"),
        (nn.BatchRenorm(3), "rmax=3.0, dmax=5.0"),
    ]:
        with pytest.raises(RuntimeError, match=rf"would drop {said}.*before"):
            convert(theirs.Sequential(norm))
    plain = theirs.Sequential(nn.BatchNorm1d(3))
    assert type(convert(plain)[0]) is theirs.SyncBatchNorm


def test_merging_into_a_convolution_drops_no_activation():
    merge = theirs.utils.fuse_conv_bn_eval
    conv, x = theirs.Conv2d(2, 3, 3).eval(), randn((2, 2, 5, 5))
    norm = nn.BatchNorm2d(3, activation="relu").eval()
    with pytest.raises(RuntimeError, match=r"would drop activation='relu'.*behind"):
        merge(conv, norm)
    linear, flat = theirs.Linear(2, 3).eval(), nn.BatchNorm1d(3, activation="relu").eval()
    with pytest.raises(RuntimeError, match=r"fuse_linear_bn_eval would drop activation"):
        theirs.utils.fuse_linear_bn_eval(linear, flat)
    norm.activation = None
    near(merge(conv, norm)(x), norm(conv(x)), 1e-6)


@pytest.mark.parametrize("name", ["convert_frozen_batchnorm", "replace_logs", "fold_bn", "to_sync"])
@pytest.mark.parametrize("project", ["detectron2.layers.batch_norm", "__main__", "my.detectron2"])
def test_eps_asks_who_reads_it_and_not_what_he_is_called(name, project):
    """A function of a project that is known to replace norms; a user's own may have any name."""
    names = {"__name__": project}
    exec(f"def {name}(norm):\n    return norm.eps", names)
    if project.startswith("detectron2") and name != "to_sync":
        with pytest.raises(RuntimeError, match=f"{name} would drop activation='relu'"):
            names[name](nn.BatchNorm2d(3, activation="relu"))
    else:
        assert names[name](nn.BatchNorm2d(3, activation="relu", dropout=0.1)) == 1e-5
    assert names[name](nn.BatchNorm2d(3)) == 1e-5


def test_what_looks_for_torchs_norms_finds_these():
    model = theirs.Sequential(theirs.Linear(4, 8), nn.BatchNorm1d(8, activation="relu"))
    batches = [torch.randn(16, 4) for _ in range(4)]
    torch.optim.swa_utils.update_bn(batches, model)
    assert int(model[1].num_batches_tracked) == 4
    assert bool((model[1].running_mean != 0).all())
    assert isinstance(nn.BatchNorm2d(3), theirs.BatchNorm2d)
    assert isinstance(nn.InstanceNorm3d(3), theirs.InstanceNorm3d)


def test_autocast_widens_losses_and_leaves_norms():
    x = randn((4, 3), 1, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.BatchNorm1d(3)(x).dtype == torch.bfloat16
        assert nn.CrossEntropyLoss()(x, torch.tensor([0, 1, 2, 0])).dtype == torch.float32
        assert nn.MSELoss()(x, x).dtype == torch.float32
        squares = nn.MSELoss(reduction="none")(x, torch.zeros_like(x))
    torch.testing.assert_close(squares, x.float() ** 2, rtol=0, atol=0)  # not rounded to 16 bits


@each_dtype
@pytest.mark.parametrize("shape", [(3, 5), (2048, 512), (40001, 3)], ids=str)
@pytest.mark.parametrize("name", [*LOSSES, "CrossEntropyLoss", "NLLLoss"])
def test_losses_of_long_batches_and_a_loss_scale(name, shape, dtype):
    """A gradient with 1/n in it is subnormal in float16, or 0, until the scale reaches it."""
    classes = shape[1]
    x = randn(shape, 1).sigmoid().to(dtype)
    target = randn(shape, 2).sigmoid().to(dtype)
    options = {"log_target": True, "reduction": "batchmean"} if name == "KLDivLoss" else {}
    weights = torch.linspace(0.5, 1, classes).to(dtype)
    if name in ("CrossEntropyLoss", "NLLLoss"):
        target = torch.arange(shape[0]) % classes
        options = {"weight": weights}
    if name == "BCEWithLogitsLoss":
        options = {"pos_weight": weights}
    a, b = x.clone().requires_grad_(), x.double().requires_grad_()
    loss = getattr(nn, name)(**options)(a, target)
    assert loss.dtype == dtype
    scale = 2.0**12
    loss.backward(torch.tensor(scale, dtype=dtype))
    assert a.grad.dtype == dtype
    options = {k: v.double() if torch.is_tensor(v) else v for k, v in options.items()}
    wide = target.double() if target.is_floating_point() else target
    want = getattr(theirs, name)(**options)(b, wide)
    want.backward(torch.tensor(scale, dtype=torch.float64))
    # one rounding of the format at the end: of bfloat16, whose range needs no float32, two
    bound = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}.get(dtype, BOUND[dtype])
    near(loss, want, bound)
    near(a.grad, b.grad, bound)


@each_dtype
@pytest.mark.parametrize("activation", [None, "silu", "relu"])
@pytest.mark.parametrize("name", ["BatchNorm2d", "BatchNorm3d", "BatchRenorm"])
def test_fused_norms_with_the_channels_last(name, activation, dtype):
    """Value, all gradients and strides, of norm, residual and activation in one pass."""
    shape = (4, 3, 2, 5, 7) if name == "BatchNorm3d" else (4, 3, 5, 7)
    x, r, dy = (randn(shape, i, dtype).movedim(1, -1).contiguous().movedim(-1, 1) for i in range(3))
    ours = getattr(nn, name)(3, activation=activation).to(dtype)
    if name == "BatchRenorm":
        ours.rmax, ours.dmax = 1.0, 0.0  # which is batch norm
    reference = theirs.BatchNorm3d(3).double() if x.dim() == 5 else theirs.BatchNorm2d(3).double()
    for i, (p, q) in enumerate(zip(ours.parameters(), reference.parameters(), strict=True)):
        p.data = (1 + randn(p.shape, i) / 3).to(dtype)
        q.data = p.data.double()
    a, s = x.clone().requires_grad_(), r.clone().requires_grad_()
    b, t = x.double().requires_grad_(), r.double().requires_grad_()
    y = ours(a, s)
    expected = reference(b) + t
    expected = expected if activation is None else getattr(theirs.functional, activation)(expected)
    y.backward(dy)
    expected.backward(dy.double())
    bound = BOUND[dtype]
    for one, other in ((y, expected), (a.grad, b.grad), (s.grad, t.grad)):
        near(one, other, 4 * bound)
        assert one.stride() == x.stride()
    for p, q in zip(ours.parameters(), reference.parameters(), strict=True):
        near(p.grad, q.grad, 4 * bound)


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_running_statistics_of_instance_norm(momentum):
    options = {"momentum": momentum, "track_running_stats": True, "affine": True}
    ours, theirs = nn.InstanceNorm1d(3, **options), torch.nn.InstanceNorm1d(3, **options)
    for _ in range(3):
        x = torch.randn(4, 3, 9) + 2
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_gradients_of_parameters_are_ordinary_tensors():
    """Their memory comes from PyTorch through the border, which asks for no storage of its own."""
    layer = nn.LayerNorm(5)
    x = randn((3, 5))
    layer(x).sum().backward()
    grad = layer.weight.grad
    assert (grad.dtype, grad.is_contiguous(), grad.data_ptr() % 64) == (torch.float32, True, 0)
    before = grad.clone()
    layer(x).sum().backward()  # adds to it in place
    assert torch.equal(grad, 2 * before)
    file = io.BytesIO()
    torch.save(grad, file)
    file.seek(0)
    for same in (torch.load(file), copy.deepcopy(grad), grad.share_memory_()):
        assert torch.equal(same, 2 * before)
