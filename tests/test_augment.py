"""Each augmentation against a plain loop in float64, sample by sample, pixel by pixel."""

import colorsys
import inspect
import itertools
import math

import numpy as np
import pytest
from onepass import nn
from onepass.data import augment
from onepass.data.augment import _draws, _resize, _sample
from onepass.data.augment._draws import Draws, seed_of_part, whole

SIZES = [(8, 8), (5, 7), (1, 1), (1, 6), (9, 2)]
KINDS = ["uint8", "float16", "float32", "float64"]
CHANNELS = [1, 3, 7]


def images(size=(5, 7), channels=3, kind="float64", count=3, seed=0):
    values = np.random.default_rng(seed).random((count, channels, *size))
    return (values * 255).astype("u1") if kind == "uint8" else values.astype(kind)


def call(transform, X, y=None, seed=5, epoch=1, index=None):
    return transform(X, y, seed=seed, epoch=epoch, index=range(len(X)) if index is None else index)


def draws(name, count, seed=5, epoch=1):
    return Draws(name, seed, epoch, np.arange(count, dtype=np.uint64))


def check(got, want, kind, roundings=8):
    """``want`` in double; storing rounds once, so whole numbers may differ by one near a half."""
    assert got.shape == want.shape
    if kind == "uint8":
        near = np.abs(want - np.floor(want) - 0.5) < 1e-3
        exact = np.clip(np.floor(want + 0.5), 0, 255)
        assert (np.abs(got - exact) <= near).all()
        return
    worst = np.finfo("f4" if kind == "float16" else kind).eps * roundings
    worst += np.finfo("f2").eps if kind == "float16" else 0
    np.testing.assert_allclose(got.astype("f8"), want, rtol=worst, atol=worst)


CASES = [(s, k, c) for s, k, c in itertools.product(SIZES, KINDS, CHANNELS)
         if c == 3 or s == (5, 7)]  # fmt: skip


def every(name=None, values=(), only=lambda size, kind, channels, value: True):
    """Sizes, dtypes and channels, times the values of ``name``; of these, those of ``only``."""
    if name is None:
        return pytest.mark.parametrize(("size", "kind", "channels"), CASES)
    cases = [(*case, value) for case in CASES for value in values if only(*case, value)]
    return pytest.mark.parametrize(("size", "kind", "channels", name), cases)


# ------------------------------------------------------------------------------------ geometry


def pixel(image, x, y, fill):
    """The value at column x and row y, rounded to 1/32, of one channel; ``fill`` beyond it."""
    x, y = math.floor(x * 32 + 0.5) / 32, math.floor(y * 32 + 0.5) / 32
    i, j = math.floor(y), math.floor(x)
    total = 0.0
    for a, b in itertools.product((0, 1), repeat=2):
        weight = (1 - abs(y - i - a)) * (1 - abs(x - j - b))
        inside = 0 <= i + a < image.shape[0] and 0 <= j + b < image.shape[1]
        total += weight * (float(image[i + a, j + b]) if inside else fill)
    return total


def warped(X, source, fill):
    """``source(n, column, row)`` says where a pixel comes from; both from the middle."""
    out = np.zeros(X.shape)
    middle_x, middle_y = (X.shape[3] - 1) / 2, (X.shape[2] - 1) / 2
    for n, i, j in np.ndindex(len(X), *X.shape[2:]):
        x, y = source(n, j - middle_x, i - middle_y)
        for c in range(X.shape[1]):
            out[n, c, i, j] = pixel(X[n, c], x + middle_x, y + middle_y, fill)
    return out


def torchvision_matrix(angle, u, v):
    a, u, v = map(math.radians, (angle, u, v))
    return np.array([
        [math.cos(a - v) / math.cos(v), -math.cos(a - v) * math.tan(u) / math.cos(v) - math.sin(a)],
        [math.sin(a - v) / math.cos(v), -math.sin(a - v) * math.tan(u) / math.cos(v) + math.cos(a)],
    ])  # fmt: skip


AFFINE = {
    "rotation": {"degrees": 33.3},
    "scale": {"scale": 1.37},
    "stretch": {"stretch": 0.71},
    "shear": {"shear": (17.1, -9.3)},
    "all": {"degrees": -71.7, "scale": 0.77, "stretch": 1.31, "shear": (11.3, 5.9)},
}


@every("name", AFFINE, lambda size, kind, channels, name: name == "all" or kind != "float16")
def test_affine(size, kind, channels, name):
    want = {"degrees": 0.0, "scale": 1.0, "stretch": 1.0, "shear": (0.0, 0.0), **AFFINE[name]}
    u, v = want["shear"]
    fill = 77.0 if kind == "uint8" else 0.3
    transform = augment.RandomAffine(
        (want["degrees"],) * 2, None, (want["scale"],) * 2, (u, u, v, v), fill,
        stretch=(want["stretch"],) * 2,
    )  # fmt: skip
    root = math.sqrt(want["stretch"])
    forward = torchvision_matrix(want["degrees"], u, v) @ np.diag([root, 1 / root]) * want["scale"]
    back = np.linalg.inv(forward)
    X = images(size, channels, kind)
    result = warped(X, lambda n, x, y: back @ (x, y), fill)
    check(call(transform, X)[0], result, kind)


def test_affine_moves_by_whole_pixels_as_far_as_it_says():
    X = images((8, 10), 1, count=1)
    seen = set()
    for index in range(400):
        moved, _ = call(augment.RandomAffine(0, (0.2, 0.25)), X, index=[index])
        places = [
            (a, b) for a in range(-2, 3) for b in range(-2, 3)
            if (warped(X, lambda n, x, y, a=a, b=b: (x - a, y - b), 0.0) == moved).all()
        ] if len(seen) < 3 else [
            (a, b) for a in range(-2, 3) for b in range(-2, 3) if shifted(X, a, b, moved)
        ]  # fmt: skip
        assert len(places) == 1
        seen.update(places)
    assert seen == set(itertools.product(range(-2, 3), repeat=2))


def shifted(X, a, b, moved):
    want = np.zeros_like(X)
    h, w = X.shape[2:]
    want[..., max(b, 0) : h + min(b, 0), max(a, 0) : w + min(a, 0)] = X[
        ..., max(-b, 0) : h + min(-b, 0), max(-a, 0) : w + min(-a, 0)
    ]
    return (want == moved).all()


def test_affine_draws_all_of_its_ranges():
    """Corners of a known picture say which angle, scale and shear were drawn."""
    transform = augment.RandomAffine((10, 30), None, (0.5, 2), (-20, 20, 5, 15), stretch=(0.5, 2))
    found = []

    class Kept(Draws):
        def uniform(self, count, low=0.0, high=1.0):
            found.append(super().uniform(count, low, high))
            return found[-1]

    transform.images(images(count=500), Kept("RandomAffine", 0, 0, np.arange(500, dtype="u8")))
    assert found[0].shape == (500, 7)
    assert abs(found[0].mean(axis=0) - 0.5).max() < 0.06
    assert abs(np.corrcoef(found[0].T) - np.eye(7)).max() < 0.15


@every()
@pytest.mark.parametrize(("k1", "k2"), [(0.37, 0.0), (-0.23, 0.11)])
def test_lens(size, kind, channels, k1, k2):
    fill = 77.0 if kind == "uint8" else 0.3
    corner = max(((size[1] - 1) / 2) ** 2 + ((size[0] - 1) / 2) ** 2, 1e-9)

    def source(n, x, y):
        r2 = (x * x + y * y) / corner
        return np.array([x, y]) * (1 + k1 * r2 + k2 * r2**2)

    X = images(size, channels, kind)
    result, _ = call(augment.LensDistortion((k1, k1), (k2, k2), fill), X)
    check(result, warped(X, source, fill), kind)


@every()
def test_elastic(size, kind, channels):
    alpha, sigma, fill = (31.0, 17.0), (1.3, 0.7), 77.0 if kind == "uint8" else 0.3
    X = images(size, channels, kind)
    height, width = size
    noise = draws("ElasticDeformation", 3).uniform(2 * height * width, -1, 1)
    noise = noise.reshape(3, 2, height, width)
    field = np.zeros_like(noise)
    for n, d in np.ndindex(3, 2):
        field[n, d] = gaussian_mean(noise[n, d], *(2 * math.ceil(4 * s) + 1 for s in sigma), sigma)
    result, _ = call(augment.ElasticDeformation(alpha, sigma, fill), X)

    def source(n, x, y):
        i, j = round(y + (height - 1) / 2), round(x + (width - 1) / 2)
        return x + alpha[0] / 2 * field[n, 0, i, j], y + alpha[1] / 2 * field[n, 1, i, j]

    check(result, warped(X, source, fill), kind)


def mirrored(i, size):
    """Position i of an image that is mirrored without its outermost pixel, over and over."""
    if size == 1:
        return 0
    i %= 2 * (size - 1)
    return min(i, 2 * (size - 1) - i)


def gaussian_mean(image, across, down, sigma):
    def weights(size, s):
        w = [math.exp(-0.5 * ((k - size // 2) / s) ** 2) for k in range(size)]
        return [v / sum(w) for v in w]

    out = np.zeros(image.shape)
    one, two = weights(across, sigma[0]), weights(down, sigma[1])
    for i, j in np.ndindex(image.shape):
        for a, wa in enumerate(two):
            for b, wb in enumerate(one):
                row = mirrored(i + a - down // 2, image.shape[0])
                column = mirrored(j + b - across // 2, image.shape[1])
                out[i, j] += wa * wb * float(image[row, column])
    return out


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (19, 17), (40, 33)])
def test_opencv_gives_the_bits_of_numpy(kind, size, monkeypatch):
    pytest.importorskip("cv2")
    X = images(size, 7, kind)
    rng = np.random.default_rng(1)
    x, y = (rng.uniform(-3, s + 3, (3, 11, 13)) for s in (size[1], size[0]))
    x[0, 0, 0], y[0, 0, 1], x[0, 1] = 1e9, -1e9, np.round(x[0, 1])
    monkeypatch.setattr(_sample, "_has_opencv", lambda: False)
    want = _sample.warp(X, x, y, 0.3)
    monkeypatch.setattr(_sample, "_has_opencv", lambda: True)
    monkeypatch.setattr(_sample, "SMALL", 0)
    np.testing.assert_array_equal(_sample.warp(X, x, y, 0.3), want)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("opencv", [False, True])
def test_reading_between_pixels_agrees_with_scipy(kind, opencv, monkeypatch):
    ndimage = pytest.importorskip("scipy.ndimage")
    if opencv:
        pytest.importorskip("cv2")
    monkeypatch.setattr(_sample, "_has_opencv", lambda: opencv)
    X = images((19, 23), 2, kind)
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-96, 32 * s + 96, (3, 9, 8)) / 32 for s in (23, 19))
    got = _sample.warp(X, x, y, 0.3)
    for n, c in np.ndindex(3, 2):
        want = ndimage.map_coordinates(
            X[n, c].astype("f8"), (y[n], x[n]), order=1, mode="grid-constant", cval=0.3
        )
        np.testing.assert_allclose(got[n, c], want, rtol=0, atol=4 * np.finfo(kind).eps)


def test_opencv_is_used_where_it_pays(monkeypatch):
    used = []
    monkeypatch.setattr(_sample, "_has_opencv", lambda: True)
    monkeypatch.setattr(_sample, "_by_opencv", lambda *a: used.append("opencv") or a[0][..., :1])
    bend = augment.LensDistortion()
    call(bend, images((8, 8)))
    assert used == []
    call(bend, images((16, 16)))
    assert used == ["opencv"]
    call(bend, images((1, 33000), 1))
    assert used == ["opencv"]


# ------------------------------------------------------------------------------------ flips, crops


@every()
def test_flips_are_one_of_four_each_as_likely_as_p_says(size, kind, channels):
    X = np.repeat(images(size, channels, kind, 1), 200, axis=0)
    for mode, axes in (("horizontal", [3]), ("vertical", [2]), ("horizontal_and_vertical", [2, 3])):
        got, _ = call(augment.RandomFlip(mode, 0.3), X)
        assert got.dtype == kind
        options = [
            [a for a, on in zip(axes, chosen, strict=True) if on]
            for chosen in itertools.product((0, 1), repeat=len(axes))
        ]
        kept = [np.flip(X[0], [a - 1 for a in option]) if option else X[0] for option in options]
        match = np.array([[(image == k).all() for k in kept] for image in got])
        assert match.any(axis=1).all()
        if min(size) > 1:
            shares = match.mean(axis=0)
            want = [math.prod(0.3 if a in o else 0.7 for a in axes) for o in options]
            np.testing.assert_allclose(shares, want, atol=0.11)
    np.testing.assert_array_equal(call(augment.RandomFlip("vertical", 1), X)[0], X[:, :, ::-1])
    np.testing.assert_array_equal(call(augment.RandomFlip(p=0), X)[0], X)


@every(
    "mode",
    ["constant", "edge", "reflect", "symmetric"],
    lambda size, kind, channels, mode: mode == "constant" or kind == "float32",
)
def test_crops_are_uniform_over_all_places(size, kind, channels, mode):
    X = np.repeat(images(size, channels, kind, 1), 300, axis=0)
    fill = 7 if kind == "uint8" else 0.25
    height, width = size[0] + 1, max(size[1] - 1, 1)
    got, _ = call(augment.RandomCrop((height, width), (1, 0, 2, 3), False, fill, mode), X)
    assert got.dtype == kind
    more = {"constant_values": fill} if mode == "constant" else {}
    wide = np.pad(X[0], ((0, 0), (0, 3), (1, 2)), mode, **more)
    places = list(
        itertools.product(range(wide.shape[1] - height + 1), range(wide.shape[2] - width + 1))
    )
    options = [wide[:, i : i + height, j : j + width] for i, j in places]
    match = np.array([[(image == o).all() for o in options] for image in got])
    assert match.any(axis=1).all()
    if mode == "constant":
        assert (match.sum(axis=0) > 300 / len(places) / 3).all()


def test_crops_of_small_images():
    X = images((3, 9), 1)
    with pytest.raises(
        ValueError, match=r"has images of \(3, 9\) .* at least \(5, 5\).*pad_if_needed"
    ):
        call(augment.RandomCrop(5), X)
    got, _ = call(augment.RandomCrop(5, pad_if_needed=True), X)
    assert got.shape == (3, 1, 5, 5)
    assert (got[:, :, [0, -1]] == 0).sum() >= 2 * 3 * 5 - 10
    whole = {image.tobytes() for image in call(augment.RandomCrop((3, 9)), X)[0]}
    assert whole == {image.tobytes() for image in X}
    assert augment.RandomCrop(4, 1).padding == (1, 1, 1, 1)
    assert augment.RandomCrop(4, (1, 2)).padding == (1, 2, 1, 2)


# ------------------------------------------------------------------------------------ sizes


def resized(image, height, width, antialias):
    """Of one channel: the mean of the pixels, weighted by a triangle around each new middle."""
    for axis, size in ((1, width), (0, height)):
        old = image.shape[axis]
        scale = old / size
        reach = max(scale, 1.0) if antialias else 1.0
        rows = np.moveaxis(image, axis, 0)
        out = []
        for k in range(size):
            middle = (k + 0.5) * scale - 0.5
            weights = {}
            for i in range(-2, old + 2):
                w = max(1 - abs(i - middle) / reach, 0.0)
                if antialias and not 0 <= i < old:
                    continue
                i = min(max(i, 0), old - 1)
                weights[i] = weights.get(i, 0.0) + w
            total = sum(weights.values())
            out.append(sum(w / total * rows[i] for i, w in weights.items()))
        image = np.moveaxis(np.array(out), 0, axis)
    return image


@every(
    "target",
    [1, 3, 4, 13],
    lambda size, kind, channels, target: (size, target) != ((9, 2), 13) or kind == "float64",
)
@pytest.mark.parametrize("antialias", [True, False])
def test_short_side(size, kind, channels, target, antialias):
    X = images(size, channels, kind)
    got, _ = call(augment.ShortSideResize(target, antialias=antialias), X)
    short, long = sorted(size)
    shape = (target, int(target * long / short))
    shape = shape if size[0] <= size[1] else shape[::-1]
    want = np.array([[resized(c.astype("f8"), *shape, antialias) for c in x] for x in X])
    check(got, want, kind, roundings=8)


def test_the_longer_side_is_limited_as_in_torchvision():
    X = images((6, 12), 1)
    assert call(augment.ShortSideResize(4, 7), X)[0].shape == (3, 1, 3, 7)
    assert call(augment.ShortSideResize(4, 9), X)[0].shape == (3, 1, 4, 8)
    assert call(augment.ShortSideResize(4, 7), X.transpose(0, 1, 3, 2))[0].shape == (3, 1, 7, 3)
    assert call(augment.ShortSideResize(1, 2), images((1, 9)))[0].shape == (3, 3, 1, 2)
    with pytest.raises(ValueError, match="'max_size' is 4, expected a whole number >= 5"):
        augment.ShortSideResize(4, 4)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("old", "new"), [((9, 13), (4, 5)), ((5, 4), (9, 13)), ((7, 7), (7, 3)),
                                          ((64, 48), (5, 7)), ((1, 3), (4, 1))])  # fmt: skip
def test_sizes_agree_with_torch(old, new, antialias):
    torch = pytest.importorskip("torch")
    X = images(old, 3, "float64")
    want = torch.nn.functional.interpolate(
        torch.from_numpy(X), new, mode="bilinear", antialias=antialias, align_corners=False
    )
    got = _resize.resize(X, *new, antialias=antialias)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)


@every()
@pytest.mark.parametrize("antialias", [True, False])
def test_resized_crops(size, kind, channels, antialias):
    transform = augment.RandomResizedCrop((4, 6), antialias=antialias)
    X = images(size, channels, kind)
    boxes = transform._boxes(*size, draws("RandomResizedCrop", 3))
    want = np.array([
        [resized(c[i : i + h, j : j + w].astype("f8"), 4, 6, antialias) for c in x]
        for x, (i, j, h, w) in zip(X, boxes.tolist(), strict=True)
    ])  # fmt: skip
    check(call(transform, X)[0], want, kind)


@pytest.mark.parametrize("size", [(32, 32), (100, 40), (3, 30), (30, 3), (1, 1)])
def test_the_parts_have_the_area_and_the_ratio_that_were_asked_for(size):
    height, width = size
    transform = augment.RandomResizedCrop(4, (0.2, 0.6), (0.5, 2.0))
    i, j, h, w = transform._boxes(height, width, draws("RandomResizedCrop", 4000)).T
    assert ((i >= 0) & (j >= 0) & (h > 0) & (w > 0)).all()
    assert ((i + h <= height) & (j + w <= width)).all()
    if size in ((32, 32), (100, 40)):
        share, ratio = h * w / (height * width), w / h
        assert 0.18 < share.min() < 0.23
        assert 0.55 < share.max() < 0.63
        assert 0.44 < ratio.min() < 0.56
        assert 1.8 < ratio.max() < 2.2
        assert abs(np.log(ratio).mean()) < (0.05 if height == width else 0.3)
        free = (i / np.maximum(height - h, 1))[h < height]
        assert abs(free.mean() - 0.5) < 0.03
        assert free.min() == 0
        assert free.max() == 1


@pytest.mark.parametrize(("size", "box"), [((3, 30), (0, 12, 3, 6)), ((31, 4), (11, 0, 8, 4))])
def test_where_no_part_fits_it_is_the_largest_in_the_middle(size, box):
    transform = augment.RandomResizedCrop(4, (0.9, 1.0), (0.5, 2.0))
    boxes = transform._boxes(*size, draws("RandomResizedCrop", 20))
    assert {tuple(b) for b in boxes.tolist()} == {box}


# ------------------------------------------------------------------------------------ pixels


def grey_of(rgb):
    return 0.2989 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def jittered(x, kind, which, f):
    """One image from 0 to 1, changed by one of the four."""
    out = np.zeros(x.shape)
    grey = [grey_of(x[:, i, j]) for i, j in np.ndindex(x.shape[1:])] if len(x) == 3 else x.ravel()
    mean = sum(float(g) for g in grey) / len(grey)
    for c, i, j in np.ndindex(x.shape):
        v = float(x[c, i, j])
        if which == "brightness":
            v = f * v
        elif which == "contrast":
            v = f * v + (1 - f) * mean
        elif len(x) == 3 and which == "saturation":
            v = f * v + (1 - f) * grey_of(x[:, i, j])
        elif len(x) == 3:
            h, s, value = colorsys.rgb_to_hsv(*map(float, x[:, i, j]))
            v = colorsys.hsv_to_rgb((h + f) % 1, s, value)[c]
        out[c, i, j] = min(max(v, 0.0), 1.0)
    return out


FACTORS = [
    ("brightness", 0.6), ("brightness", 1.7), ("contrast", 0.3), ("contrast", 1.9),
    ("saturation", 0.2), ("saturation", 1.8), ("hue", 0.31), ("hue", -0.17),
]  # fmt: skip


@every(
    "change",
    FACTORS,
    lambda size, kind, channels, change: channels != 7 or change[0] in ("brightness", "contrast"),
)
def test_colours(size, kind, channels, change):
    which, f = change
    X = images(size, channels, kind)
    X[0, :, 0, 0] = X[0, 0, 0, 0]  # grey, which has no hue
    X[1, :, 0, 0] = 0
    top = 255 if kind == "uint8" else 1
    want = [top * jittered(x.astype("f8") / top, kind, which, f) for x in X]
    check(call(augment.ColorJitter(**{which: (f, f)}), X)[0], np.array(want), kind, roundings=32)


def test_the_four_changes_come_in_any_order():
    """Brightness up and limited, then contrast down, is another image than the reverse."""
    X = np.repeat(images((4, 4), 1, count=1), 64, axis=0)
    got, _ = call(augment.ColorJitter(brightness=(1.8, 1.8), contrast=(0.4, 0.4)), X)
    first = jittered(jittered(X[0], "", "brightness", 1.8), "", "contrast", 0.4)
    second = jittered(jittered(X[0], "", "contrast", 0.4), "", "brightness", 1.8)
    near = [[np.allclose(image, want, atol=1e-12) for want in (first, second)] for image in got]
    assert (np.sum(near, axis=1) == 1).all()
    assert 18 < np.sum(near, axis=0)[0] < 46


def test_factors_are_drawn_from_their_ranges():
    X = np.full((2000, 1, 1, 1), 0.4)
    f = call(augment.ColorJitter(brightness=0.5), X)[0].ravel() / 0.4
    assert 0.5 <= f.min() < 0.51
    assert 1.49 < f.max() <= 1.5
    assert abs(f.mean() - 1) < 0.03
    assert augment.ColorJitter(1.5).brightness == (0, 2.5)
    assert augment.ColorJitter(hue=0.2).hue == (-0.2, 0.2)


@pytest.mark.parametrize("transform", [augment.ColorJitter(0.1), augment.GaussianNoise()])
def test_images_beyond_0_to_1_are_refused_where_they_would_be_cut(transform):
    for bad in (images() * 255, images() - 0.5):
        with pytest.raises(ValueError, match=r"'X' lies within .* expected images from 0 to 1"):
            call(transform, bad)
    call(transform, images() * (1 + 1e-6))


@every()
@pytest.mark.parametrize("clip", [True, False])
def test_noise(size, kind, channels, clip):
    X = images(size, channels, kind)
    count, top = math.prod(X.shape[1:]), 255 if kind == "uint8" else 1
    z = draws("GaussianNoise", 3).normal(count).reshape(X.shape)
    want = X.astype("f8") + top * (0.05 + 0.3 * z)
    want = np.clip(want, 0, top) if clip else want
    # The logarithm of float32 near 1 has its rounding, in a radius of about a half.
    check(call(augment.GaussianNoise(0.05, 0.3, clip), X)[0], want, kind, roundings=2048)


def test_the_noise_is_normal_and_independent():
    stats = pytest.importorskip("scipy.stats")
    for kind in (np.float32, np.float64):
        z = draws("GaussianNoise", 4).normal(50001, kind)
        assert z.shape == (4, 50001)
        assert z.dtype == kind
        assert stats.kstest(z.ravel().astype("f8"), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(z) - np.eye(4)).max() < 0.02
        assert abs(np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]) < 0.01
        assert np.isfinite(z).all()


@every()
@pytest.mark.parametrize("kernel", [(3, 3), (5, 1), (1, 23)])
def test_blur(size, kind, channels, kernel):
    X = images(size, channels, kind)
    transform = augment.GaussianBlur(kernel, (0.4, 2.2))
    sigma = draws("GaussianBlur", 3).uniform(1, 0.4, 2.2)[:, 0]
    want = [[gaussian_mean(c, *kernel, (s, s)) for c in x] for x, s in zip(X, sigma, strict=True)]
    check(call(transform, X)[0], np.array(want), kind, roundings=16)


@every()
@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_holes(size, kind, channels, length):
    X = np.repeat(images(size, channels, kind, 1), 900, axis=0)
    fill = 9 if kind == "uint8" else 0.5
    got, _ = call(augment.Cutout(length, fill=fill), X)
    assert got.dtype == kind
    options = []
    for i, j in np.ndindex(size):
        image = X[0].copy()
        top, left = i - length // 2, j - length // 2
        image[:, max(top, 0) : top + length, max(left, 0) : left + length] = fill
        options.append(image)
    match = np.array([[(image == o).all() for o in options] for image in got])
    assert match.any(axis=1).all()
    assert match.any(axis=0).all()
    many, _ = call(augment.Cutout(1, n_holes=3, fill=fill), X)
    holes = (many != X).any(axis=1).sum(axis=(1, 2))
    assert holes.max() == min(3, size[0] * size[1])


BEYOND = {  # arguments with which the first pixel of most images lies beyond the image
    "Cutout": (20,),
    "ElasticDeformation": (1e4, 1),
    "LensDistortion": ((9, 9), 0),
    "RandomAffine": (0, None, (0.1, 0.1)),
    "RandomCrop": (8, 8),
}


def with_fill():
    classes = [getattr(augment, name) for name in augment.__all__]
    return [c.__name__ for c in classes if "fill" in inspect.signature(c).parameters]


@pytest.mark.parametrize("name", with_fill())
@pytest.mark.parametrize(("fill", "want"), [
    (0.5, 1), (2.5, 3), (3.49, 3), (-7, 0), (254.5, 255), (300, 255),
])  # fmt: skip
def test_a_fill_is_rounded_as_computed_pixels_are(name, fill, want):
    X = np.full((9, 1, 5, 7), 100, np.uint8)
    got, _ = call(getattr(augment, name)(*BEYOND[name], fill=fill), X)
    values, counts = np.unique(got[:, :, 0, 0], return_counts=True)
    assert values[counts.argmax()] == want
    for kind in ("float16", "float32", "float64"):
        got, _ = call(getattr(augment, name)(*BEYOND[name], fill=fill), X.astype(kind) / 100)
        assert np.isin(np.array(fill, kind), got)


# ------------------------------------------------------------------------------------ mixes


def partner_of(count, name, seed=5, epoch=1):
    words = draws(name, count, seed, epoch).words(1)[:, 0].tolist()
    order = sorted(range(count), key=words.__getitem__)
    return {i: order[(k + 1) % count] for k, i in enumerate(order)}


def taken(name, count, alpha):
    numbers = draws(name, count)
    numbers.words(1)
    return numbers, numbers.beta(alpha)


@every()
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup(size, kind, channels, alpha):
    X, y = images(size, channels, kind, 6), np.array([0, 3, 1, 1, 2, 0])
    got, targets = call(augment.Mixup(alpha, 4), X, y)
    partner, (_, kept) = partner_of(6, "Mixup"), taken("Mixup", 6, alpha)
    want, shares = np.zeros(X.shape), np.zeros((6, 4))
    for i, s in enumerate(kept):
        want[i] = s * X[i].astype("f8") + (1 - s) * X[partner[i]].astype("f8")
        shares[i, y[i]] += s
        shares[i, y[partner[i]]] += 1 - s
    check(got, want, kind, roundings=4)
    assert targets.dtype == ("float64" if kind == "float64" else "float32")
    np.testing.assert_allclose(targets, shares, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


@every()
def test_cutmix(size, kind, channels):
    X, y = images(size, channels, kind, 6), np.array([0.0, 3, 1, 1, 2, 0])
    got, targets = call(augment.CutMix(0.7), X, y)
    partner, (numbers, kept) = partner_of(6, "CutMix"), taken("CutMix", 6, 0.7)
    height, width = size
    u = numbers.uniform(2)
    row, column = whole(u[:, 0], height), whole(u[:, 1], width)
    want, shares = X.copy(), np.zeros(6)
    for n, s in enumerate(kept):
        half = [int(math.sqrt(1 - s) * side / 2) for side in size]
        area = 0
        for i, j in np.ndindex(size):
            if (row[n] - half[0] <= i < row[n] + half[0]
                    and column[n] - half[1] <= j < column[n] + half[1]):  # fmt: skip
                want[n, :, i, j] = X[partner[n], :, i, j]
                area += 1
        share = 1 - area / (height * width)
        shares[n] = share * y[n] + (1 - share) * y[partner[n]]
    assert got.dtype == kind
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(targets, shares, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    stats = pytest.importorskip("scipy.stats")
    kept = draws("Mixup", 4000).beta(alpha)
    assert ((kept >= 0) & (kept <= 1)).all()
    low = kept[kept < 0.5]  # numbers near 1 have few digits
    assert abs(len(low) / 4000 - 0.5) < 0.04
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3


@pytest.mark.parametrize("name", ["Mixup", "CutMix"])
def test_targets_of_every_kind_are_mixed(name):
    cls, X = getattr(augment, name), images(count=4)
    pairs = [
        call(cls(), X, np.float32([1, 0, 0, 0]))[1],
        call(cls(), X, np.float64([1, 0, 0, 0]))[1],
    ]
    assert [p.dtype for p in pairs] == ["float32", "float64"]
    np.testing.assert_allclose(*pairs, rtol=1e-6)
    classes = np.array([[0, 1], [1, 2], [2, 0], [1, 1]])  # two for each image
    shares = call(cls(num_classes=3), X, classes)[1]
    assert shares.shape == (4, 3, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    one_hot = np.moveaxis(np.eye(3)[classes], -1, 1)
    np.testing.assert_allclose(call(cls(), X, one_hot)[1], shares)
    truth = call(cls(num_classes=2), X, np.array([True, False, True, True]))[1]
    np.testing.assert_allclose(truth.sum(axis=1), 1)
    assert call(cls(), X)[1] is None
    alone, target = call(cls(num_classes=3), X[:1], np.array([2]))
    np.testing.assert_allclose(alone, X[:1], rtol=1e-12)
    np.testing.assert_allclose(target, [[0, 0, 1]])
    for y, words in (
        (np.array([0, 1, 2, 3]), "holds 3"),
        (np.array([0, -100, 1, 1]), "holds -100"),
    ):
        with pytest.raises(ValueError, match=f"{name}: 'y' {words}, expected classes from 0 to 2"):
            call(cls(num_classes=3), X, y)
    with pytest.raises(ValueError, match=f"{name}: 'y' holds classes.*num_classes="):
        call(cls(), X, np.array([0, 1, 2, 1]))
    with pytest.raises(TypeError, match=f"{name}: 'y' has dtype <U1"):
        call(cls(), X, np.array(["a"] * 4))


@pytest.mark.parametrize("name", ["Mixup", "CutMix"])
def test_cross_entropy_of_mixed_targets_is_the_mix_of_both(name):
    """The loss is linear in its target: λ times the loss of one class, 1 - λ times the other's."""
    y, partner = np.array([0, 2, 1, 1, 0]), partner_of(5, name)
    X = images(count=5)
    targets = call(getattr(augment, name)(num_classes=3), X, y)[1]
    logits = np.random.default_rng(0).normal(size=(5, 3))
    for options in ({}, {"label_smoothing": 0.1}, {"weight": [0.5, 1.0, 2.0], "reduction": "sum"}):
        each = nn.CrossEntropyLoss(**{**options, "reduction": "none"})
        loss, dy = nn.CrossEntropyLoss(**options)(logits, targets)
        want, dwant = 0.0, np.zeros((5, 3))
        others = y[[partner[i] for i in range(5)]]
        for i in range(5):
            share = targets[i, y[i]] if others[i] != y[i] else 1.0
            for c, s in ((y[i], share), (others[i], 1 - share)):
                value, gradient = each(logits[i : i + 1], np.array([c]))
                want += s * float(value[0])
                dwant[i] += s * gradient[0]
        divisor = 1 if options.get("reduction") == "sum" else 5
        assert float(loss) == pytest.approx(want / divisor, rel=1e-12)
        np.testing.assert_allclose(dy, dwant / divisor, atol=1e-12)


# ------------------------------------------------------------------------------------ randomness


@pytest.mark.parametrize("samples", [0, 1, 4, _draws.MANY - 1, _draws.MANY, 3 * _draws.MANY])
@pytest.mark.parametrize("key", [(7, 9), (2**64 - 1, 2**64 - 1), (0, 0)])
def test_words_are_philox_at_the_samples_own_counter(samples, key):
    index = np.array([0, 3, 2**63, 2**64 - 1, *range(9, 9 + samples)], np.uint64)[:samples]
    numbers = Draws("RandomFlip", *key, index)
    name = _draws.zlib.crc32(b"RandomFlip")
    key = np.array(key, np.uint64)
    for part, count in enumerate((5, 2, *range(1, 19))):
        got = numbers.words(count)
        assert got.shape == (samples, count)
        for row, place in zip(got, index, strict=True):
            counter = np.array([0, name + (part << 32), place, 1], np.uint64)
            want = np.random.Philox(key=key, counter=counter).random_raw(count)
            np.testing.assert_array_equal(row, want)


def test_numbers_stay_the_same_from_release_to_release():
    """These words make a run of today the run of tomorrow."""
    X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    got, _ = call(augment.RandomCrop(2), X, index=[4])
    assert got.ravel().tolist() == FIRST["crop"]
    words = Draws("A", 1, 2, np.array([3], np.uint64)).words(2)
    assert words.tolist() == FIRST["words"]
    assert seed_of_part(1, 2) == FIRST["part"]


FIRST = {
    "crop": [0.5625, 0.625, 0.8125, 0.875],
    "words": [[7999440801513473156, 17110412264858014688]],
    "part": 8522060295706411025,
}


def first_of(name):
    """Some pixels, as whole numbers: they tell which words a class takes, and in which order."""
    X = (np.arange(432) ** 2 % 251).reshape(3, 3, 6, 8).astype(np.uint8)
    transform = getattr(augment, name)(*ROWS[name][0])
    got, _ = call(transform, X, np.arange(3.0), index=[4, 9, 2**40])
    return got.ravel()[5::31].tolist()


@pytest.mark.parametrize("name", augment.__all__)
def test_every_class_takes_its_words_in_the_order_of_the_release_before(name):
    """Else a resumed run would go on with other numbers."""
    got, want = first_of(name), ROWS[name][1]
    assert np.abs(np.subtract(got, want)).max() <= 1  # a logarithm may round otherwise elsewhere


ROWS = {
    "ColorJitter": ((0.5, 0.5, 0.5, 0.3),
        [23, 28, 237, 23, 126, 106, 74, 175, 107, 209, 98, 129, 59, 47]),
    "Compose": (([augment.RandomFlip(), augment.RandomCrop(5, 1)],),
        [179, 197, 63, 0, 5, 164, 219, 122]),
    "CutMix": ((0.5,),
        [25, 41, 222, 66, 75, 249, 86, 88, 4, 85, 80, 101, 63, 51]),
    "Cutout": ((3, 2),
        [25, 41, 0, 66, 75, 249, 86, 88, 4, 0, 80, 240, 63, 51]),
    "ElasticDeformation": ((12, 1),
        [0, 133, 39, 0, 68, 145, 0, 129, 63, 121, 179, 100, 119, 0]),
    "GaussianBlur": ((3,),
        [97, 104, 146, 129, 107, 121, 171, 125, 41, 107, 117, 171, 78, 85]),
    "GaussianNoise": ((),
        [0, 2, 255, 50, 102, 238, 31, 90, 21, 119, 101, 249, 54, 38]),
    "LensDistortion": ((0.4, 0.2),
        [25, 41, 222, 66, 75, 0, 0, 73, 9, 56, 80, 211, 96, 122]),
    "Mixup": ((0.5,),
        [45, 36, 193, 69, 111, 83, 38, 158, 192, 184, 178, 147, 114, 79]),
    "RandomAffine": ((20, (0.2, 0.2), (0.7, 1.3), 10, 9),
        [203, 26, 140, 56, 45, 33, 106, 166, 43, 66, 162, 105, 63, 61]),
    "RandomCrop": ((5, 1),
        [73, 103, 105, 0, 121, 237, 195, 125]),
    "RandomFlip": ((),
        [25, 41, 222, 66, 75, 112, 211, 114, 174, 49, 124, 105, 117, 113]),
    "RandomResizedCrop": (((6, 8),),
        [9, 138, 141, 119, 161, 147, 243, 127, 100, 161, 109, 203, 71, 135]),
    "ShortSideResize": ((7,),
        [20, 55, 143, 119, 33, 90, 221, 113, 121, 133, 121, 47, 41, 105, 98, 55, 86, 129, 148]),
}  # fmt: skip


def test_a_class_of_another_name_keeps_its_numbers_by_stream():
    class Mirror(augment.RandomFlip):
        stream = "RandomFlip"

    class Renamed(augment.RandomFlip):
        pass

    X = images((8, 8), count=40)
    want = call(augment.RandomFlip(), X)[0]
    np.testing.assert_array_equal(call(Mirror(), X)[0], want)
    assert (call(Renamed(), X)[0] != want).any()


def test_parts_of_a_compose_have_seeds_of_their_own():
    X = np.full((50, 1, 8, 8), 0.5)
    noise = augment.GaussianNoise(sigma=0.05)
    twice, _ = call(augment.Compose([noise, noise]), X)
    one = call(noise, X, seed=seed_of_part(5, 0))[0]
    np.testing.assert_array_equal(twice, call(noise, one, seed=seed_of_part(5, 1))[0])
    assert (twice - 0.5).std() == pytest.approx(0.05 * math.sqrt(2), rel=0.05)
    seen = []
    augment.Compose([lambda X, y, **given: seen.append(given) or (X, y)])(
        X, None, seed=1, epoch=2, index=[3] * 50
    )
    assert seen == [{"seed": seed_of_part(1, 0), "epoch": 2, "index": [3] * 50}]


class Wider(augment.RandomCrop):
    """A class of a user's, which has its own name in messages."""

    def __init__(self, fill=0.0):
        super().__init__(9, fill=fill)


@pytest.mark.parametrize(("make", "kind", "words"), [
    (lambda: augment.Compose([]), ValueError, "'transforms' is empty"),
    (lambda: augment.Compose(3), TypeError, "'transforms' is 3, expected a list"),
    (lambda: augment.Compose([augment.RandomFlip]), TypeError, "'transforms' has .* RandomFlip"),
    (lambda: call(augment.Compose([lambda X, y, **_: X]), images()), TypeError, "expected a pair"),
    (lambda: augment.RandomFlip("sideways"), ValueError, "'mode' is 'sideways'"),
    (lambda: augment.RandomFlip(p=1.5), ValueError, "'p' is 1.5, expected a number >= 0 and <= 1"),
    (lambda: augment.RandomCrop(0), ValueError, "'size' is 0, expected a whole number >= 1"),
    (lambda: augment.RandomCrop((3, 3, 3)), ValueError, "'size' is"),
    (lambda: augment.RandomCrop(3, padding=(1, 2, 3)), ValueError, "'padding' is"),
    (lambda: augment.RandomCrop(3, padding=-1), ValueError, "'padding' is -1"),
    (lambda: augment.RandomCrop(3, padding_mode="wrap"), ValueError, "'padding_mode' is 'wrap'"),
    (lambda: augment.RandomCrop(3, fill=math.nan), ValueError, "'fill' is nan"),
    (lambda: augment.RandomResizedCrop(3, scale=(0.5, 1.5)), ValueError, "'scale' is 1.5"),
    (lambda: augment.RandomResizedCrop(3, scale=(0, 0)), ValueError, "expected shares above 0"),
    (lambda: Wider(fill=math.nan), ValueError, "Wider: 'fill' is nan"),
    (lambda: call(Wider(), images()), ValueError, "Wider: 'X' has images of"),
    (lambda: augment.RandomResizedCrop(3, ratio=(2, 1)), ValueError, "'ratio' is .* low <= high"),
    (lambda: augment.RandomResizedCrop(3, ratio=2), ValueError, "'ratio' is 2, expected a pair"),
    (lambda: augment.ColorJitter(hue=0.6), ValueError, "'hue' is 0.6"),
    (lambda: augment.ColorJitter(-0.5), ValueError, "'brightness' is -0.5"),
    (lambda: augment.ColorJitter(contrast=1e300), ValueError, "'contrast' is 1e.300"),
    (lambda: augment.ColorJitter((-0.5, 1)), ValueError, "'brightness' is -0.5"),
    (lambda: augment.RandomAffine(-3), ValueError, "'degrees' is -3"),
    (lambda: augment.RandomAffine(3, 0.1), ValueError, "'translate' is 0.1, expected a pair"),
    (lambda: augment.RandomAffine(3, (0.1, 1.5)), ValueError, "'translate' is 1.5"),
    (lambda: augment.RandomAffine(3, scale=(0, 1)), ValueError, "'scale' is 0, expected .* > 0"),
    (lambda: augment.RandomAffine(3, shear=90), ValueError, "'shear' is"),
    (lambda: augment.RandomAffine(3, shear=(1, 2, 3)), ValueError, "'shear' is .* 2 or 4"),
    (lambda: augment.RandomAffine(3, stretch=(0, 1)), ValueError, "'stretch' is"),
    (lambda: augment.RandomAffine("3"), TypeError, "'degrees' is '3'"),
    (lambda: augment.LensDistortion((1, 0)), ValueError, "'k1' is"),
    (lambda: augment.ElasticDeformation(sigma=0), ValueError, "'sigma' is 0, expected a"),
    (lambda: augment.ElasticDeformation(alpha=-1), ValueError, "'alpha' is -1"),
    (lambda: augment.ElasticDeformation((1, 2, 3)), ValueError, "'alpha' is"),
    (lambda: augment.GaussianNoise(sigma=-1), ValueError, "'sigma' is -1"),
    (lambda: augment.GaussianNoise(clip="no"), TypeError, "'clip' is 'no'"),
    (lambda: augment.GaussianBlur(4), ValueError, "'kernel_size' is 4, expected an odd"),
    (lambda: augment.GaussianBlur(3, 0), ValueError, "'sigma' is 0, expected a number > 0"),
    (lambda: augment.Cutout(0), ValueError, "'length' is 0"),
    (lambda: augment.Cutout(3, 0), ValueError, "'n_holes' is 0"),
    (lambda: augment.Mixup(0), ValueError, "'alpha' is 0, expected a number > 0"),
    (lambda: augment.CutMix(num_classes=1), ValueError, "'num_classes' is 1"),
])  # fmt: skip
def test_wrong_arguments_are_refused(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize("transform", [
    augment.RandomAffine(0, scale=(1e-320, 1e-320)), augment.RandomAffine(1e300),
    augment.RandomAffine(0, scale=(1e300, 1e308)), augment.LensDistortion((-1e308, -1e308), 1e308),
    augment.LensDistortion((1.7e308, 1.7e308), (1.7e308, 1.7e308)),
    augment.ElasticDeformation(1e300, 1), augment.GaussianBlur(3, 1e-300), augment.Mixup(1e-300),
    augment.GaussianBlur(3, 1e300), augment.Mixup(1e300), augment.CutMix(1e-9),
    augment.RandomResizedCrop(3, (1e-300, 1e-300)), augment.Cutout(10**9),
    augment.RandomResizedCrop(3, ratio=(1e-300, 1e300)), augment.GaussianNoise(sigma=1e300),
])  # fmt: skip
@pytest.mark.parametrize("opencv", [False, True])
def test_arguments_beyond_all_use_give_numbers_without_a_warning(transform, opencv, monkeypatch):
    if opencv:
        pytest.importorskip("cv2")
        monkeypatch.setattr(_sample, "SMALL", 0)
    monkeypatch.setattr(_sample, "_has_opencv", lambda: opencv)
    X = images((7, 7), kind="float32")  # with a pixel in the middle, which is 0 times infinity
    result, _ = call(transform, X)
    assert np.isfinite(result).all()
    assert ((result >= 0) & (result <= 1 + 1e-6)).all()
