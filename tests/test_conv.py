"""Conv2d and the pools: against torch in both memory orders, gradients, fusion, threads, errors."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading

import numpy as np
import pytest
from onepass import _C, nn, ops
from onepass.nn import _convolution
from onepass.nn._group import unfuse
from small_models import assert_same, grads, normal, run

# PyTorch computes in float64. Sums have at most 200 products of numbers of size 1, so float32
# rounds 200 times at a size of up to 10; float16 stores a result of size up to 16 to 1/128.
CLOSE = {
    "float64": {"rtol": 1e-10, "atol": 1e-11},
    "float32": {"rtol": 1e-4, "atol": 1e-4},
    "float16": {"rtol": 2e-3, "atol": 1e-2},
}
each_order = pytest.mark.parametrize("last", [False, True], ids=["C", "last"])


def lying(x, last):
    """The same array with the channels last in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x


def lies_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def compare(ours, theirs, shape, dtype="float64", last=False, seed=1, x=None):
    """Output and all gradients of a layer and of torch's in float64."""
    torch = pytest.importorskip("torch")
    theirs = theirs.double()
    state = {k: torch.from_numpy(v.astype(float)) for k, v in ours.state_dict().items()}
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict(state)
    x = normal(shape, dtype, seed) if x is None else x
    xt = torch.from_numpy(x.astype(float)).requires_grad_()
    y, yt = ours(lying(x, last)), theirs(xt)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, yt.detach().numpy(), **CLOSE[dtype])
    assert lies_last(y) if last else y.flags.c_contiguous
    for other in (False, True):  # dy may lie in the other order
        dy = normal(y.shape, dtype, seed + 1)
        theirs.zero_grad()
        ours.zero_grad()
        xt.grad = None
        yt.backward(torch.from_numpy(dy.astype(float)), retain_graph=True)
        dx = ours.backward(lying(dy, other))
        assert dx.dtype == dtype
        np.testing.assert_allclose(dx, xt.grad.numpy(), **CLOSE[dtype])
        for p, pt in zip(ours.parameters(), theirs.parameters(), strict=True):
            scale = max(1, np.abs(pt.grad.numpy()).max())
            np.testing.assert_allclose(p.grad / scale, pt.grad.numpy() / scale, **CLOSE[dtype])


# Pairwise: each value of an option meets each of the others at least in one row.
OPTIONS = [
    {"kernel_size": k, "stride": s, "padding": p, "dilation": d, "groups": g}
    for i, (k, s, p, d, g) in enumerate(
        itertools.product([1, (3, 2), 3], [1, (2, 1), 3], [0, (1, 2), 3], [1, (1, 2)], [1, 2, 4])
    )
    if i % 5 == 0 or (k == 1 and (s, p, d) == (1, 0, 1))
]
OPTIONS += [{"kernel_size": k, "padding": how, "dilation": d}
            for k in (3, (2, 4)) for d in (1, (2, 1)) for how in ("same", "valid")]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@each_order
@pytest.mark.parametrize("dtype", CLOSE)
def test_convolutions_match_torch(dtype, last):
    torch = pytest.importorskip("torch")
    for i, options in enumerate(OPTIONS):
        if dtype != "float64" and i % 4:
            continue
        out = 4 if i % 2 else 8
        bias = bool(i % 3)
        width = "float64" if dtype == "float64" else "float32"
        ours = nn.Conv2d(4, out, **options, bias=bias, dtype=width)
        theirs = torch.nn.Conv2d(4, out, **options, bias=bias)
        for shape in ((3, 4, 7, 9), (1, 4, 8, 5)):
            compare(ours, theirs, shape, dtype, last, seed=i)


def test_a_network_takes_the_state_of_pytorchs_and_gives_it_back():
    torch = pytest.importorskip("torch")

    def build(n):
        return n.Sequential(
            n.Conv2d(1, 4, 3, padding=1, bias=False), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2),
            n.Sequential(n.Conv2d(4, 6, 3, groups=2), n.BatchNorm2d(6), n.AdaptiveAvgPool2d(1)),
            n.Flatten(), n.Linear(6, 5),
        )  # fmt: skip

    torch.manual_seed(0)
    theirs, ours, again = build(torch.nn), build(nn), build(torch.nn)
    for _ in range(3):
        theirs(torch.randn(8, 1, 6, 6) + 1)  # so that running statistics differ from fresh ones
    state = theirs.state_dict()
    ours.load_state_dict({name: value.numpy() for name, value in state.items()})
    again.load_state_dict({name: torch.from_numpy(v) for name, v in ours.state_dict().items()})
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), name
    x = normal((3, 1, 6, 6), "float32")
    want = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x), want, rtol=1e-5, atol=1e-5)


@each_order
def test_an_image_larger_than_a_piece_is_done_by_rows(monkeypatch, last):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_convolution, "PIECE", 64)
    for kernel, stride, padding, dilation, groups in (
        (3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (5, 3, 2, 1, 2), (3, 1, 2, 2, 1), (3, 1, 1, 1, 4),
        (1, 2, 0, 1, 1), (2, 1, 5, 1, 1), (11, 1, 5, 1, 1),
    ):  # fmt: skip
        arguments = (4, 4, kernel, stride, padding, dilation, groups)
        ours = nn.Conv2d(*arguments, dtype="float64")
        compare(ours, torch.nn.Conv2d(*arguments), (3, 4, 11, 6), last=last)


@each_order
def test_no_samples(last):
    layer = nn.Conv2d(3, 5, 3)
    y = layer(lying(np.zeros((0, 3, 6, 7), np.float32), last))
    assert y.shape == (0, 5, 4, 5)
    assert layer.backward(y).shape == (0, 3, 6, 7)
    assert not layer.weight.grad.any()
    assert layer.weight.grad.shape == layer.weight.shape


def test_the_memory_that_a_thread_keeps_serves_every_dtype():
    for dtype in ("float32", "float64", "float32"):
        for size in (4, 9, 5):
            layer = nn.Conv2d(1, 1, 1, 2, dtype=dtype)
            x = normal((1, 1, size, size), dtype)
            want = x[:, :, ::2, ::2] * layer.weight.data + layer.bias.data
            np.testing.assert_allclose(layer(x), want, rtol=1e-6)


POOLS = [
    lambda n: n.MaxPool2d(2),
    lambda n: n.MaxPool2d(3, 2, 1),
    lambda n: n.MaxPool2d((2, 3), (3, 1), (1, 0), (2, 1), ceil_mode=True),
    lambda n: n.AvgPool2d(2),
    lambda n: n.AvgPool2d(3, 2, 1, count_include_pad=False),
    lambda n: n.AvgPool2d((3, 2), 2, (1, 1), ceil_mode=True),
    lambda n: n.AdaptiveAvgPool2d(1),
    lambda n: n.AdaptiveAvgPool2d(3),
    lambda n: n.AdaptiveAvgPool2d((None, 4)),
    lambda n: n.AdaptiveAvgPool2d((7, 2)),
]


@each_order
@pytest.mark.parametrize("dtype", CLOSE)
def test_pools_match_torch(dtype, last):
    torch = pytest.importorskip("torch")
    for pool in POOLS:
        for shape in ((2, 3, 7, 10), (3, 17, 6, 9)):
            compare(pool(nn), pool(torch.nn), shape, dtype, last)


@each_order
@pytest.mark.parametrize("size", [1, 3, (2, 5), 7])
def test_adaptive_means_of_both_orders_agree(size, last):
    torch = pytest.importorskip("torch")
    x = normal((2, 3, 6, 10))
    want = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
    np.testing.assert_allclose(nn.AdaptiveAvgPool2d(size)(lying(x, last)), want, rtol=1e-12)


@each_order
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_an_odd_element_reaches_the_windows_over_it_alone(size, odd, last):
    torch = pytest.importorskip("torch")
    x = np.ones((2, 3, 7, 7), np.float32)
    x[0, 1, 2, 5] = odd
    want = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
    layer = nn.AdaptiveAvgPool2d(size)
    np.testing.assert_array_equal(layer(lying(x, last)), want)
    dy = np.ones_like(want)
    dy[1, 2, 0, 0] = odd
    dx = layer.backward(lying(dy, last))
    assert np.isfinite(dx[0]).all()
    assert np.isfinite(dx[1, 2, -(7 // size) :] if size > 1 else dx[1, :2]).all()


@each_order
def test_means_of_large_windows_are_exact_to_some_roundings(last):
    x = np.full((1, 2, 1024, 1024), 0.1, np.float32)
    y = nn.AdaptiveAvgPool2d(1)(lying(x, last))
    np.testing.assert_allclose(y, np.float32(0.1), rtol=2e-4)


@each_order
@pytest.mark.parametrize("rows", [1, 2])
def test_rows_below_the_last_window_have_no_gradient(monkeypatch, rows, last):
    """Of an image larger than a piece; new memory holds something else."""
    monkeypatch.setattr(_convolution, "PIECE", 64)
    plain = _convolution.empty

    def spoilt(shape, dtype, like):
        made = plain(shape, dtype, like)
        made[...] = np.nan
        return made

    monkeypatch.setattr(_convolution, "empty", spoilt)
    layer = nn.Conv2d(3, 2, 4, stride=4, dtype="float64")
    y = layer(lying(normal((2, 3, 4 * rows + 3, 19)), last))
    dx = layer.backward(np.ones_like(y))
    assert np.isfinite(dx).all()
    assert (dx[:, :, 4 * rows :] == 0).all()


def test_sizes_that_no_memory_holds_are_refused():
    for n in (2**31 - 1, 2**30):
        with pytest.raises(ValueError, match=r"more than 2\*\*63 elements"):
            ops.im2col(np.ones((1, 4, 2, 2), np.float32), 1, padding=n)
    with pytest.raises(ValueError, match=r"expected at most 2\*\*24"):
        ops.max_pool2d(np.ones((1, 1, 4100, 4100), np.float32), 4100)


@each_order
def test_gradients_by_central_differences(last):
    k = {"dtype": "float64"}
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, channels_last=last or None, **k),
        nn.BatchNorm2d(4, **k),
        nn.SiLU(),
        nn.Residual(
            nn.Conv2d(4, 4, (3, 1), 2, (1, 0), groups=4, **k),
            nn.Conv2d(4, 6, 1, bias=False, **k),
            nn.BatchNorm2d(6, **k),
            shortcut=nn.Conv2d(4, 6, 1, 2, groups=2, **k),
        ),
        nn.Tanh(),
        nn.AvgPool2d(2, 1),
        nn.MaxPool2d(2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    nn.gradcheck(model, normal((3, 2, 7, 7)))


def network(last, p=0.3, dtype="float32"):
    k = {"dtype": dtype}
    nn.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, channels_last=last or None, **k),
        nn.ReLU(),
        nn.Dropout(p),
        nn.MaxPool2d(2),
        nn.Residual(
            nn.Conv2d(6, 6, 3, padding=1, bias=False, **k),
            nn.BatchNorm2d(6, **k),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Conv2d(6, 6, 3, padding=1, bias=False, **k),
            nn.BatchNorm2d(6, **k),
        ),
        nn.ReLU(),
        nn.Dropout(p),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4, **k),
    )


@each_order
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_layers_give_the_bits_of_plain_ones(dtype, last):
    fused = network(last, dtype=dtype)
    plain = copy.deepcopy(fused)
    unfuse(plain)
    assert "fused" in repr(fused)
    assert "fused" not in repr(plain)
    x = normal((5, 3, 8, 6), dtype)
    assert_same(run(fused, x), run(plain, x))


def test_both_orders_have_the_same_masks():
    x = normal((5, 3, 8, 6), "float64")
    one, two = (run(network(last, dtype="float64"), x) for last in (False, True))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.BatchRenorm])
def test_a_batch_norm_keeps_the_order_of_its_input(norm):
    x, dy = normal((4, 5, 3, 6)), normal((4, 5, 3, 6), seed=2)
    results = []
    for last in (False, True):
        layer = norm(5, dtype="float64")
        y = layer(lying(x, last))
        dx = layer.backward(lying(dy, last))
        assert lies_last(y) == lies_last(dx) == last
        results.append((y, dx, layer.weight.grad, layer.running_var))
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-12)


def test_a_pickled_model_goes_on():
    model, x = network(True), normal((5, 3, 8, 6), "float32")
    run(model, x, 1)
    model.zero_grad()
    other = pickle.loads(pickle.dumps(model))
    assert_same(run(model, x), run(other, x))


@each_order
def test_threads_share_a_model_in_evaluation(last):
    model = network(last).eval()
    inputs = [normal((4, 3, 8, 6), "float32", seed) for seed in range(4)]
    want = [(model(x), model.backward(np.ones((4, 4), np.float32))) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(20):
            y = model(inputs[i])
            dx = model.backward(np.ones((4, 4), np.float32))
            if not (np.array_equal(y, want[i][0]) and np.array_equal(dx, want[i][1])):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_not_wanted_is_not_computed():
    layer = nn.Conv2d(2, 3, 3)
    y = layer(normal((2, 2, 5, 5), "float32"))
    assert layer.backward(y, need_input_grad=False) is None
    layer.zero_grad()
    layer.freeze()
    assert layer.backward(y).shape == (2, 2, 5, 5)
    assert grads(layer) == {"weight": None, "bias": None}


def test_it_starts_as_torch_does_and_prints_its_options():
    layer = nn.Conv2d(8, 64, (3, 5), groups=2)
    bound = 1 / np.sqrt(4 * 15)
    for p in layer.parameters():
        assert 0.9 * bound < np.abs(p.data).max() <= bound
    assert repr(nn.Conv2d(1, 2, 3, 2, 1, groups=1, bias=False)) == (
        "Conv2d(1, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)"
    )
    assert "count_include_pad=True" in repr(nn.AvgPool2d(2))
    assert "output_size=(1, None)" in repr(nn.AdaptiveAvgPool2d((1, None)))
    assert copy.deepcopy(layer).kernel_size == (3, 5)


X = np.zeros((2, 3, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: nn.Conv2d(0, 3, 3), ValueError, "'in_channels' is 0"),
        (lambda: nn.Conv2d(3, 3, 0), ValueError, "'kernel_size' is 0"),
        (lambda: nn.Conv2d(3, 3, (3, 3, 3)), ValueError, r"'kernel_size' is \(3, 3, 3\)"),
        (lambda: nn.Conv2d(3, 3, 1.5), TypeError, "'kernel_size' is 1.5"),
        (lambda: nn.Conv2d(3, 3, 3, 0), ValueError, "'stride' is 0"),
        (lambda: nn.Conv2d(3, 3, 3, 1, -1), ValueError, "'padding' is -1"),
        (lambda: nn.Conv2d(3, 3, 3, 1, "some"), ValueError, "'padding' is 'some'"),
        (lambda: nn.Conv2d(3, 3, 3, 2, "same"), ValueError, "a stride of 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "'groups' is 2, expected a divisor of"),
        (lambda: nn.Conv2d(3, 3, 3, dtype="float16"), ValueError, "'dtype' is 'float16'"),
        (lambda: nn.Conv2d(3, 3, 3, channels_last=2), TypeError, "'channels_last' is 2"),
        (lambda: nn.Conv2d(4, 3, 3)(X), ValueError, r"expected \(N, 4, H, W\)"),
        (lambda: nn.Conv2d(3, 3, 3)(X[0]), ValueError, r"x has shape \(3, 6, 6\)"),
        (lambda: nn.Conv2d(3, 3, 7)(X), ValueError, "smaller than the kernel"),
        (lambda: nn.Conv2d(3, 3, 3)(X.astype(float)), TypeError, "x is float64 and the param"),
        (lambda: nn.Conv2d(3, 3, 3)(X.tolist()), TypeError, "x is a list"),
        (lambda: nn.Conv2d(3, 3, 3, padding=2)(X[:, :, :0]), ValueError, "expected rows and col"),
        (lambda: nn.Conv2d(3, 3, 3, 1, 2, 1, 3)(X[..., :0]), ValueError, "expected rows and col"),
        (lambda: nn.MaxPool2d(2, padding=2), ValueError, r"'padding' is \(2, 2\)"),
        (lambda: nn.MaxPool2d(2, ceil_mode="no"), TypeError, "'ceil_mode' is 'no'"),
        (lambda: nn.AvgPool2d(7)(X), ValueError, "smaller than a window"),
        (lambda: nn.AvgPool2d(2)(X.astype(int)), TypeError, "has dtype int64"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "'output_size' is 0"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "a whole number or two"),
    ],
)
def test_errors_name_what_is_wrong(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_a_gradient_of_another_shape_changes_nothing(layer):
    y = layer(X)
    with pytest.raises(ValueError, match=r"backward: dy has shape"):
        layer.backward(y[:, :, 1:])
    with pytest.raises(TypeError, match=r"backward: dy is"):
        layer.backward(y.astype(np.float64))
    assert all(p.grad is None for p in layer.parameters())


def spoilt(rng, x):
    """Some elements are infinite or NaN."""
    x = x.copy()
    for odd in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.02] = odd
    return x


@each_order
@pytest.mark.parametrize("dtype", CLOSE)
def test_pools_of_ties_and_odd_values(dtype, last):
    """The first of equal elements and of several NaN is the largest; averages take all in."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for pool in POOLS[:6]:
        for shape in ((2, 3, 7, 10), (3, 17, 6, 9)):
            ties = rng.integers(0, 4, shape).astype(dtype)
            compare(pool(nn), pool(torch.nn), shape, dtype, last, x=ties)
            x = spoilt(rng, ties)
            y = pool(nn)(lying(x, last))
            want = pool(torch.nn)(torch.from_numpy(x.astype(float))).numpy()
            np.testing.assert_allclose(y, want, rtol=CLOSE[dtype]["rtol"])


@each_order
def test_of_several_nan_the_first_has_the_gradient(last):
    x = np.float32([[[[0, np.nan, 1, 2], [np.nan, 3, 4, 4]]]])
    layer = nn.MaxPool2d(2)
    y = layer(lying(x, last))
    assert np.isnan(y[0, 0, 0, 0])
    dx = layer.backward(np.ones_like(y))
    assert dx[0, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


@each_order
def test_windows_of_padding_alone(last):
    """Of dilated taps: -Inf, and nothing goes back."""
    x = np.float32([[[[5.0]]]])
    options = {"stride": 1, "padding": (0, 2), "dilation": (1, 3), "channels_last": last}
    y, taps = ops.max_pool2d(x, (1, 2), **options)
    assert (y == -np.inf).sum() == (taps == -1).sum() > 0
    dx = ops.max_pool2d_backward(np.ones_like(y), taps, (1, 1), (1, 2), **options)
    assert dx.item() == (taps >= 0).sum()


@each_order
@pytest.mark.parametrize("kernel", [(1, 4), (4, 3), (5, 5)])
def test_the_only_window_may_reach_beyond_a_small_image(kernel, last):
    torch = pytest.importorskip("torch")
    for stride in (2, 3, 4):
        for name in ("MaxPool2d", "AvgPool2d"):
            arguments = (kernel, stride, 0)
            options = {"ceil_mode": True}
            if any(k - 3 >= stride for k in kernel):
                with pytest.raises(ValueError, match="smaller than a window"):
                    getattr(nn, name)(*arguments, **options)(np.ones((1, 2, 3, 3), np.float32))
                continue
            ours, theirs = (getattr(n, name)(*arguments, **options) for n in (nn, torch.nn))
            compare(ours, theirs, (1, 2, 3, 3), last=last)


@each_order
def test_padding_beyond_the_kernel_is_cut_by_rows_too(monkeypatch, last):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_convolution, "PIECE", 32)
    for kernel, stride, padding, dilation in ((1, 1, 2, 1), (2, 1, 5, 1), (2, 3, 6, 2)):
        arguments = (3, 4, kernel, stride, padding, dilation)
        ours = nn.Conv2d(*arguments, dtype="float64")
        compare(ours, torch.nn.Conv2d(*arguments), (2, 3, 5, 6), last=last)


def test_a_pool_goes_back_as_it_went_forward():
    layer = nn.MaxPool2d(2)
    y = layer(X)
    layer.kernel_size = layer.stride = (3, 3)
    assert layer.backward(np.ones_like(y)).shape == X.shape


@each_order
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_of_depthwise_weights_keep_their_digits(kernel, stride, last):
    x = np.full((32, 4, 64, 64), 0.1, np.float32)
    dy = np.ones((32, 4, 64 // stride, 64 // stride), np.float32)
    dy, x = (lying(a, last) for a in (dy, x))
    given = (a.transpose(0, 2, 3, 1) if last else a for a in (dy, x))
    how = {"stride": stride, "padding": kernel // 2, "channels_last": last}
    got = ops.depthwise_conv2d_weight_backward(*given, kernel, **how)[..., kernel // 2, kernel // 2]
    np.testing.assert_allclose(got, np.float64(np.float32(0.1)) * dy[:, 0].size, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_depthwise_weights_see_no_neighbouring_row(stride):
    x, dy = np.ones((3, 2, 9, 13), np.float32), np.ones((3, 2, -(-9 // stride), 7), np.float32)
    if stride == 1:
        dy = np.ones_like(x)
    x[..., 0] = np.inf  # under no window's third tap, and next to those of the row above
    got = ops.depthwise_conv2d_weight_backward(dy, x, 3, stride=stride, padding=1)[:, 0, 1, 2]
    np.testing.assert_array_equal(got, 3 * dy.shape[2] * (12 if stride == 1 else 6))


@each_order
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_depthwise_results_do_not_depend_on_threads_or_levels(dtype, last):
    x = normal((3, 4, 37, 5), dtype) if not last else normal((3, 37, 5, 70), dtype)
    channels = x.shape[3] if last else 4
    weight = normal((channels, 1, 3, 3), dtype, 2)
    threads, level = _C.get_num_threads(), _C.cpu_level()

    def everything():
        found = []
        for stride in (1, 2):
            options = {"stride": stride, "padding": 1, "channels_last": last}
            y = ops.depthwise_conv2d(x, weight, **options)
            size = x.shape[1:3] if last else x.shape[2:]
            found += [
                y,
                ops.depthwise_conv2d_backward(y, weight, size, **options),
                ops.depthwise_conv2d_weight_backward(y, x, 3, **options),
            ]
        return found

    want = everything()
    try:
        for count, name in itertools.product((1, 2, 3, 7), _C.cpu_levels()):
            _C.set_num_threads(count)
            _C.set_cpu_level(name)
            for a, b in zip(everything(), want, strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        _C.set_num_threads(threads)
        _C.set_cpu_level(level)
