"""Warps, flips, crops and sizes against a plain loop in float64, pixel by pixel."""

import itertools
import math

import numpy as np
import pytest
from onepass.data import augment
from onepass.data.augment import _resize, _sample
from onepass.data.augment._draws import Draws
from small_augment import (
    call,
    check,
    draws,
    every,
    gaussian_mean,
    images,
)


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
