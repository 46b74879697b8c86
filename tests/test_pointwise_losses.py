"""Losses of elements at the edges: nothing to average, values that are not finite, limits of
logarithms, what is refused, and sums that are the same on every level and number of threads."""

import itertools
import math

import numpy as np
import pytest
from cases import BFLOAT16, CASES, as_float64
from helpers import Layout, assert_all_same, each_dtype
from onepass import _C, config, nn, ops
from onepass.train._weights import WeightedLoss

NAMES = list(_C.pointwise_loss)
each_name = pytest.mark.parametrize("name", NAMES)
OPS = {name: getattr(ops, name) for name in NAMES}


@each_name
@each_dtype
def test_the_mean_over_nothing_is_nan_and_the_sum_zero(name, dtype):
    for shape in ((0,), (0, 3), (4, 0)):
        empty = np.zeros(shape, dtype)
        for reduction, want in (("mean", math.nan), ("sum", 0.0)):
            loss, gradient = OPS[name](empty, empty, reduction=reduction)
            np.testing.assert_array_equal(float(loss), want)
            assert gradient.shape == shape
        losses, _ = OPS[name](empty, empty, reduction="none")
        assert losses.shape == shape
        assert losses.dtype == dtype


@each_name
@each_dtype
@pytest.mark.parametrize("size", [1, 100, 3000])
def test_one_nan_spreads_to_the_loss_and_its_own_gradient(name, dtype, size):
    for where in (0, 1):
        arrays = [np.full(size, 0.5, dtype), np.full(size, 0.25, dtype)]
        arrays[where][size // 2] = math.nan
        loss, gradient = OPS[name](*arrays)
        assert math.isnan(float(loss)), where
        losses, each = OPS[name](*arrays, reduction="none")
        assert np.flatnonzero(np.isnan(as_float64(losses))).tolist() == [size // 2]
        for d in (gradient, each):
            wrong = np.flatnonzero(np.isnan(as_float64(d))).tolist()
            # The gradient of kl_div is minus the target.
            assert wrong == ([] if name == "kl_div" and where == 0 else [size // 2]), where


@each_dtype
def test_logits_of_any_size(dtype):
    """The right answer costs nothing, the wrong one its logit, also at infinity."""
    far = {2: 6e4, 4: 3e38, 8: 1e308}[dtype.itemsize]
    for size in (1e3, far, math.inf):
        x = np.array([size, -size, size, -size], dtype)
        t = np.array([1, 0, 0, 1], dtype)
        losses, gradient = ops.bce_with_logits(x, t, reduction="none")
        want = [0, 0, float(x[0]), float(x[0])]
        np.testing.assert_array_equal(as_float64(losses), want)
        np.testing.assert_array_equal(as_float64(gradient), [0, 0, 1, -1])
        weight = np.full(4, 2.0, dtype)
        losses, _ = ops.bce_with_logits(x, t, pos_weight=weight, reduction="none")
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(losses, np.array([0, 0, x[2], 2 * x[0]], dtype))


def test_logarithms_end_at_minus_one_hundred_as_in_pytorch():
    x, t = np.array([0.0, 1, 0, 1]), np.array([1.0, 0, 0, 1])
    losses, gradient = ops.bce_loss(x, t, reduction="none")
    assert losses.tolist() == [100, 100, 0, 0]
    np.testing.assert_allclose(gradient, [-1e12, 1e12, 0, 0])
    torch = pytest.importorskip("torch")
    p = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.binary_cross_entropy(p, torch.tensor(t), reduction="none")
    want.sum().backward()
    np.testing.assert_allclose(losses, want.detach().numpy())
    np.testing.assert_allclose(gradient, p.grad.numpy())


@each_dtype
@pytest.mark.parametrize("value", [-0.5, 1.5, math.inf, -math.inf])
@pytest.mark.parametrize("argument", ["input", "target"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2, 5, 1000), (9000, 3)])
def test_what_is_no_probability_is_refused_and_nothing_is_written(dtype, value, argument, shape):
    arrays = {"input": np.full(shape, 0.5, dtype), "target": np.full(shape, 1, dtype)}
    place = tuple(extent // 2 for extent in shape)
    arrays[argument][place] = value
    arrays[argument].flat[-1] = value  # the first one is named
    out = np.full(shape, 7, dtype)
    shown = "()" if not shape else f"({', '.join(map(str, place))}{',' * (len(place) == 1)})"
    with pytest.raises(ValueError, match=r"^bce_loss: ") as error:
        ops.bce_loss(**arrays, out=out)
    assert str(error.value) == (
        f"bce_loss: '{argument}' holds {value} at {shown}, expected probabilities from 0 to 1; "
        "bce_with_logits takes logits"
    )
    assert (out == 7).all()
    before = arrays["input"].copy()
    with pytest.raises(ValueError, match="bce_loss"):
        ops.bce_loss(**arrays, out=arrays["input"])
    assert_all_same([arrays["input"]], [before])


@each_name
def test_shapes_are_not_broadcast(name):
    """PyTorch warns and gives a loss of another shape."""
    x = np.full((4, 3), 0.5, np.float32)
    for shape in ((3,), (4, 1), (1, 3), (), (3, 4), (4, 3, 1)):
        with pytest.raises(ValueError, match=f"^{name}: ") as error:
            OPS[name](x, np.full(shape, 0.5, np.float32))
        assert str(error.value) == (
            f"{name}: 'target' has shape {shape}, expected (4, 3) like 'input'; nothing is "
            "broadcast, so reshape one of them, or expand it"
        )
    OPS[name](x, np.broadcast_to(np.float32(0.5), (4, 3)))


@each_name
@pytest.mark.parametrize("other", ["float64", "float16", "int64", "bool"])
def test_a_target_of_another_dtype_is_refused(name, other):
    x = np.full((4, 3), 0.5, np.float32)
    out = np.full_like(x, 7)
    with pytest.raises(TypeError, match=f"^{name}: 'target' has dtype {other}, expected float32"):
        OPS[name](x, x.astype(other), out=out)
    assert (out == 7).all()


def test_options_out_of_range_are_refused():
    x = np.zeros(3, np.float32)
    for call, message in [
        (lambda: ops.smooth_l1_loss(x, x, beta=-1), "'beta' is -1, expected a finite number >= 0"),
        (lambda: ops.smooth_l1_loss(x, x, beta=math.nan), "'beta' is nan, expected a finite"),
        (lambda: ops.huber_loss(x, x, delta=0.0), "'delta' is 0.0, expected a finite number > 0"),
        (lambda: ops.huber_loss(x, x, delta=-2), "'delta' is -2, expected a finite number"),
        (lambda: ops.mse_loss(x, x, reduction="batchmean"),
         "'reduction' is 'batchmean', expected 'none', 'mean' or 'sum'"),
        (lambda: ops.kl_div(x, x, reduction="avg"), "'none', 'mean', 'sum' or 'batchmean'"),
        (lambda: ops.kl_div(x[:1].reshape(()), x[:1].reshape(()), reduction="batchmean"),
         r"'input' has shape \(\), expected an axis of samples; use 'sum'"),
        (lambda: ops.bce_with_logits(x, x, pos_weight=np.ones(2, np.float32)),
         r"'pos_weight' has shape \(2,\), expected one that broadcasts to \(3,\) of 'input'"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="'log_target' is 'no'"):
        ops.kl_div(x, x, log_target="no")


ROWS = [case for case in CASES if case.name in NAMES]


@pytest.mark.parametrize("case", ROWS, ids=[case.name for case in ROWS])
@each_dtype
def test_bits_are_the_same_on_every_level_and_number_of_threads(case, dtype):
    level, threads = config.cpu_level(), config.get_num_threads()
    try:
        for shape, options in itertools.product([(65539,), (129, 33)], case.options):
            want = None
            for name, count in itertools.product(_C.cpu_levels(), (1, 2, 3)):
                config.set_cpu_level(name)
                config.set_num_threads(count)
                got = case.run(case.inputs(shape, dtype, options), options)
                want = got if want is None else want
                assert_all_same(map(np.asarray, got), map(np.asarray, want), f"{name} {count}")
    finally:
        config.set_cpu_level(level)
        config.set_num_threads(threads)


def test_losses_are_added_in_double():
    x = np.full(3_000_000, 0.1, np.float32)
    loss, _ = ops.l1_loss(x, np.zeros_like(x), reduction="sum")
    assert float(loss) == pytest.approx(float(np.float32(0.1)) * x.size, rel=1e-7)
    many = np.full(5000, 3e38, np.float32)  # their sum exceeds every float, their mean does not
    loss, _ = ops.l1_loss(many, np.zeros_like(many))
    assert float(loss) == pytest.approx(3e38, rel=1e-6)


@each_dtype
@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (3, 5), (1, 5), (3, 1), (2, 1, 5), (1, 1, 1), (2, 3, 5), (2, 3, 1)]
)
def test_weights_of_positives_broadcast_as_in_numpy(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5)).astype(dtype)
    t = rng.random((2, 3, 5)).astype(dtype)
    weight = rng.uniform(0.5, 2, shape).astype(dtype)
    full = np.broadcast_to(weight, x.shape).copy()
    for reduction in ("mean", "none"):
        want = ops.bce_with_logits(x, t, pos_weight=full, reduction=reduction)
        for layout in ("plain", "negative", "step", "fortran"):
            given = Layout(weight, layout).view if weight.ndim else weight
            got = ops.bce_with_logits(x, t, pos_weight=given, reduction=reduction)
            assert_all_same(map(np.asarray, got), map(np.asarray, want), layout)


@each_name
def test_modules_are_the_functions(name):
    classes = {cls.op: cls for cls in nn._pointwise_loss.PointwiseLoss.__subclasses__()}
    cls = classes[OPS[name]]
    y = np.random.default_rng(0).uniform(0.1, 0.9, (6, 3)).astype(np.float32)
    target = y > 0.5
    for reduction in cls.reductions:
        module = cls(reduction=reduction)
        loss, dy = module(y, target)
        want = OPS[name](y, target.astype(np.float32), reduction=reduction)
        assert_all_same([np.asarray(loss), dy], [np.asarray(want[0]), want[1]])
        divisor = {"mean": 18.0, "sum": None, "none": 18.0, "batchmean": 6.0}[reduction]
        assert module.divisor(target) == divisor
        if reduction != "sum":
            assert module.weights(target).sum() == pytest.approx(divisor)
        assert eval(repr(module), vars(nn)).reduction == reduction
    with pytest.raises(ValueError, match=f"{cls.__name__}: 'reduction' is 'avg', expected"):
        cls(reduction="avg")
    with pytest.raises(TypeError, match=f"{cls.__name__}.*reductoin.*reduction"):
        cls(reductoin="sum")
    assert BFLOAT16 is None or cls()(y.astype(BFLOAT16), target)[1].dtype == BFLOAT16


@pytest.mark.parametrize(
    ("name", "reduction"),
    [*itertools.product(OPS, ["mean", "sum"]), ("kl_div", "batchmean")],
)
def test_weights_of_samples_weigh_losses_and_gradients(name, reduction):
    """Σ w·l / Σ w with l the loss of a sample; a weight of 2 counts as the sample twice."""
    cls = next(c for c in nn._pointwise_loss.PointwiseLoss.__subclasses__() if c.op is OPS[name])
    rng = np.random.default_rng(0)
    y, target = rng.uniform(0.1, 0.9, (2, 4, 3))
    weight = np.array([1.0, 2, 0, 1])
    twice = [0, 1, 1, 3]
    loss, dy, divisor = WeightedLoss(cls(reduction=reduction))(y, target, weight)
    want, each = cls(reduction=reduction)(y[twice], target[twice])
    assert float(loss) == pytest.approx(float(want), rel=1e-12)
    want_dy = np.stack([each[0], each[1] + each[2], np.zeros(3), each[3]])
    np.testing.assert_allclose(dy, want_dy, rtol=1e-12, atol=1e-15)
    assert divisor == {"mean": 12, "sum": None, "batchmean": 4}[reduction]


def test_modules_with_options_match_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    y, t = rng.standard_normal((6, 3)), rng.random((6, 3))
    weight, labels = np.array([0.5, 1, 3]), np.array([0, 1, 2, 2, -100, 0])
    w = torch.tensor(weight)
    for ours, theirs, target in [
        (nn.BCEWithLogitsLoss(pos_weight=weight), torch.nn.BCEWithLogitsLoss(pos_weight=w), t),
        (nn.BCEWithLogitsLoss(pos_weight=[0.5, 1, 3]), torch.nn.BCEWithLogitsLoss(pos_weight=w), t),
        (nn.SmoothL1Loss(beta=0.3), torch.nn.SmoothL1Loss(beta=0.3), t),
        (nn.HuberLoss(delta=0.3), torch.nn.HuberLoss(delta=0.3), t),
        (nn.KLDivLoss(reduction="batchmean"), torch.nn.KLDivLoss(reduction="batchmean"), t),
        (nn.KLDivLoss(reduction="sum", log_target=True),
         torch.nn.KLDivLoss(reduction="sum", log_target=True), t),
        (nn.NLLLoss(weight), torch.nn.NLLLoss(w), labels),
        (nn.NLLLoss([1, 2, 3], ignore_index=2, reduction="sum"),
         torch.nn.NLLLoss(torch.tensor([1.0, 2, 3], dtype=torch.float64), ignore_index=2,
                          reduction="sum"), np.abs(labels) % 3),
    ]:  # fmt: skip
        x = torch.tensor(y, requires_grad=True)
        want = theirs(x, torch.tensor(target))
        want.backward()
        loss, dy = ours(y, target)
        assert float(loss) == pytest.approx(want.item(), rel=1e-12)
        np.testing.assert_allclose(dy, x.grad.numpy(), rtol=1e-12, atol=1e-15)
        for name in ("weight", "pos_weight"):
            if getattr(ours, name, None) is not None:
                with pytest.raises(TypeError, match=f"{name}' is a ndarray.*as a tensor"):
                    ours(torch.tensor(y, dtype=torch.bfloat16), torch.tensor(target))
                setattr(ours, name, torch.tensor(getattr(ours, name)))
        loss, dy = ours(torch.tensor(y), torch.tensor(target))
        assert float(loss) == pytest.approx(want.item(), rel=1e-12)
        assert isinstance(dy, torch.Tensor)


def test_the_distance_of_histograms_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(9), (2, 5))
    losses, _ = ops.wasserstein_1d(p, q, reduction="none")
    bins = np.arange(9)
    want = [stats.wasserstein_distance(bins, bins, a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(losses, want, rtol=1e-12)


def test_a_loss_of_rows_without_rows_or_with_a_nan():
    empty = np.zeros((0, 3), np.float32)
    for loss, gradient in (
        ops.wasserstein_1d(empty, empty),
        ops.nll_loss(empty, np.zeros(0, np.int64)),
    ):
        assert math.isnan(float(loss))
        assert gradient.shape == (0, 3)
    for classes in (3, 100):
        x = np.full((2, classes), 0.5, np.float32)
        x[1, 2] = math.nan
        losses, gradient = ops.wasserstein_1d(x, np.zeros_like(x), reduction="none")
        assert np.isnan(losses).tolist() == [False, True]
        assert np.isnan(gradient).any(axis=1).tolist() == [False, True]
        losses, _ = ops.nll_loss(x, np.array([2, 1]), reduction="none")  # nobody asks for the NaN
        assert losses.tolist() == [-0.5, -0.5]
        losses, _ = ops.nll_loss(x, np.array([1, 2]), reduction="none")
        assert np.isnan(losses).tolist() == [False, True]
    with pytest.raises(TypeError, match=r"nll_loss: 'target' has dtype float32, expected integer"):
        ops.nll_loss(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match=r"'input' has shape .*expected bins along the last"):
            ops.wasserstein_1d(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize(
    "weight", [[1.0, np.inf], np.float32([np.nan]), -0.5, np.float64([-np.inf])]
)
def test_weights_of_positives_that_are_none_are_refused(weight):
    """Inf gave a loss of NaN in the first batch."""
    with pytest.raises(
        ValueError, match=r"BCEWithLogitsLoss: 'pos_weight' has .*finite numbers >= 0"
    ):
        nn.BCEWithLogitsLoss(pos_weight=weight)
