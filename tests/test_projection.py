"""`data.PCA` and `data.Whiten`: against eigenvectors, scikit-learn, and their own inverse."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from onepass.data import PCA, MinMax, Standardize, Whiten, load
from onepass.data._projection import _signed

try:
    import sklearn.decomposition as THEIRS
except ImportError:
    THEIRS = None

RNG = np.random.default_rng(0)
MIX = RNG.standard_normal((5, 5))
X = RNG.standard_normal((40, 5)) @ MIX + [5.0, -300.0, 0.0, 1e3, 1.0]
SHORT = X[:4]  # fewer samples than features


def directions(x):
    """Variances and directions from the covariance, in float64."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    vectors = vectors.T[::-1]
    signs = np.sign(np.take_along_axis(vectors, abs(vectors).argmax(axis=1)[:, None], 1))
    return values[::-1], vectors * signs


@pytest.mark.parametrize("count", [None, 1, 3, 5])
@pytest.mark.parametrize("whiten", [False, True])
def test_pca_is_the_eigenvectors_of_the_covariance(count, whiten):
    pca = PCA(count, whiten)
    y = pca.fit_transform(X)
    values, vectors = (a[:count] for a in directions(X))
    np.testing.assert_allclose(pca.mean, X.mean(axis=0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(pca.components, vectors, atol=1e-10)
    np.testing.assert_allclose(pca.explained_variance, values, rtol=1e-10)
    total = np.trace(np.cov(X.T))
    np.testing.assert_allclose(pca.explained_variance_ratio, values / total, rtol=1e-10)
    want = (X - X.mean(axis=0)) @ vectors.T / (np.sqrt(values) if whiten else 1)
    np.testing.assert_allclose(y, want, atol=1e-9)
    np.testing.assert_array_equal(pca.transform(X[3:9]), pca.transform(X)[3:9])
    back = want * (np.sqrt(values) if whiten else 1) @ vectors + X.mean(axis=0)
    np.testing.assert_allclose(pca.inverse_transform(y), back, atol=1e-9)
    if count in (None, 5):
        np.testing.assert_allclose(pca.inverse_transform(y), X, rtol=1e-12)


@pytest.mark.parametrize("data", [X, SHORT, X[:, :1], load("wine").X[:, :6]], ids="abcd")
@pytest.mark.parametrize("count", [None, 1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("whiten", [False, True])
def test_it_is_scikit_learns(data, count, whiten):
    if THEIRS is None:
        pytest.skip("scikit-learn is not installed")
    want = THEIRS.PCA(count, whiten=whiten, svd_solver="full").fit(data)
    got = PCA(count, whiten).fit(data)
    full = want.explained_variance_ > 1e-12 * want.explained_variance_[0]
    assert got.components.shape == want.components_.shape
    np.testing.assert_allclose(got.components[full], want.components_[full], atol=1e-9)
    np.testing.assert_allclose(got.explained_variance, want.explained_variance_, atol=1e-12)
    np.testing.assert_allclose(
        got.explained_variance_ratio, want.explained_variance_ratio_, atol=1e-12
    )
    new = data[::-1] * 1.5
    np.testing.assert_allclose(
        got.transform(new)[:, full], want.transform(new)[:, full], rtol=1e-9, atol=1e-8
    )
    y = want.transform(new)
    np.testing.assert_allclose(
        got.inverse_transform(y * full), want.inverse_transform(y * full), rtol=1e-9, atol=1e-8
    )


def test_signs_do_not_hang_on_rounding():
    half = np.sqrt(0.5)
    rows = np.array([[-half, half * (1 + 1e-15)], [half * (1 - 1e-15), -half], [0.1, -1.0]])
    np.testing.assert_array_equal(_signed(rows), rows * [[-1.0], [1.0], [-1.0]])
    a = RNG.standard_normal(300)
    data = np.c_[a, -a] + 1e-3 * RNG.standard_normal((300, 2))
    data = (data - data.mean(axis=0)) / data.std(axis=0)  # the directions are (1, ∓1)/√2
    assert (PCA().fit(data).components[:, 0] > 0).all()


@pytest.mark.parametrize("kind", ["pca", "zca"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("data", [X, SHORT], ids=["long", "short"])
def test_whitening(kind, eps, data):
    white = Whiten(kind, eps).fit(data)
    y = white.transform(data)
    values, vectors = directions(data)
    inverse = np.zeros(5)
    real = values > 1e-9 * values[0]
    inverse[real] = 1 / np.sqrt(values[real] + eps)
    if eps:
        inverse[~real] = 1 / np.sqrt(eps)
    new = data[:3] + RNG.standard_normal((3, 5))  # also where no sample of fit was
    want = (new - data.mean(axis=0)) @ vectors.T * inverse
    kept = np.arange(5) < min(data.shape)
    if kind == "zca":
        np.testing.assert_allclose(white.transform(new), want @ vectors, atol=1e-8)
    else:
        got = white.transform(new)
        assert got.shape == (3, min(data.shape))
        np.testing.assert_allclose(got[:, real[kept]], want[:, real], atol=1e-8)
        if not eps:
            assert (got[:, ~real[kept]] == 0).all()
    np.testing.assert_allclose(white.inverse_transform(y), data, rtol=1e-9, atol=1e-9)
    if eps and kind == "zca":
        np.testing.assert_allclose(white.inverse_transform(white.transform(new)), new, atol=1e-8)
    if data is X and not eps:
        np.testing.assert_allclose(np.cov(y.T), np.eye(5), atol=1e-10)
        assert np.linalg.cond(np.cov(y.T)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("make", [PCA, lambda: PCA(2, True), Whiten, lambda: Whiten("zca", 0.1)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_dtypes(make, dtype):
    data = (X[:, :3] > 0) if dtype == "bool" else X[:, :3].astype(dtype)
    fitted = make().fit(data)
    y = fitted.transform(data)
    assert y.dtype == fitted.inverse_transform(y).dtype == (
        np.float64 if dtype in ("int64", "bool") else np.dtype(dtype)
    )  # fmt: skip
    want = make().fit(data.astype(np.float64)).transform(data.astype(np.float64))
    np.testing.assert_array_equal(y, want.astype(y.dtype))


FLAT = [(make, 1) for make in (Standardize, MinMax, lambda: MinMax((-1, 2)))]
ROWS = [(make, 2) for make in (PCA, lambda: PCA(2, True), Whiten, lambda: Whiten("zca", 0.1))]


@pytest.mark.parametrize(("make", "axes"), FLAT + ROWS + [(make, 2) for make, _ in FLAT])
def test_float16_is_computed_in_float64(make, axes):
    """Before NumPy 2, a number without axes leaves it in float16; beside Python's it stays so."""
    data = (RNG.standard_normal((40, 3)) * [1.5e4, 1.0, 1e-3]).astype(np.float16)
    data = data[:, 0] if axes == 1 else data
    fitted = make().fit(data)
    y = fitted.transform(data)
    wide = fitted.transform(data.astype(np.float64))
    np.testing.assert_array_equal(y, wide.astype(np.float16))
    back = fitted.inverse_transform(y.astype(np.float64))
    np.testing.assert_array_equal(fitted.inverse_transform(y), back.astype(np.float16))


def test_images_keep_their_shape():
    images = RNG.standard_normal((30, 2, 3))
    zca, pca = Whiten("zca").fit(images), PCA(4).fit(images)
    assert zca.transform(images).shape == (30, 2, 3)
    assert zca.mean.shape == pca.mean.shape == (2, 3)
    assert pca.transform(images).shape == (30, 4)
    assert pca.inverse_transform(pca.transform(images)).shape == (30, 2, 3)
    flat = images.reshape(30, 6)
    np.testing.assert_array_equal(PCA(4).fit_transform(flat), pca.transform(images))
    assert zca.transform(images[:0]).shape == (0, 2, 3)
    assert pca.transform(images[:0]).shape == (0, 4)


def test_columns_that_are_constant_or_repeat_others_are_empty():
    data = np.c_[X[:, 0], np.full(40, 0.1), 2 * X[:, 0], X[:, 1], np.zeros(40)]
    for fitted in (PCA(whiten=True), Whiten(), Whiten("zca")):
        y = fitted.fit(data).transform(data)
        assert np.isfinite(y).all()
        assert np.abs(y).max() < 10  # no rounding is blown up
        assert fitted.rank == 2
        back = fitted.inverse_transform(y)
        np.testing.assert_allclose(back, data, rtol=1e-9, atol=1e-9)
    same = np.full((6, 3), 7.5)
    assert (PCA(0.5, whiten=True).fit_transform(same) == 0).all()
    assert (PCA().fit(same).explained_variance_ratio == 0).all()
    assert (Whiten("zca").fit(same).inverse_transform(np.zeros((1, 3))) == 7.5).all()


@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e200, 1e307])
def test_extreme_sizes(factor):
    near = np.clip((X - X.mean(axis=0)) / 100, -1, 1)
    y = Whiten().fit_transform(near * factor)
    tolerance = 1e-6 if factor < 1e-300 else 1e-9  # 1e-310 has few bits
    np.testing.assert_allclose(y, Whiten().fit_transform(near), atol=tolerance * np.abs(y).max())
    pca = PCA().fit(near * factor)
    back = pca.inverse_transform(pca.transform(near * factor))
    np.testing.assert_allclose(back, near * factor, rtol=1e-9, atol=1e-12 * factor + 1e-323)


@pytest.mark.parametrize(
    "make",
    [lambda: PCA(2), lambda: PCA(0.9, True), PCA, Whiten, lambda: Whiten("zca", 0.1),
     Standardize, MinMax, lambda: MinMax((-1, 2))],
)  # fmt: skip
def test_state_goes_through_json_and_npz(make, tmp_path):
    fitted = make().fit(X)
    stored = fitted.to_dict()
    assert stored["class"] == type(fitted).__name__
    text = json.dumps(stored, default=lambda array: array.tolist())
    arrays = {k: v for k, v in stored.items() if isinstance(v, np.ndarray)}
    np.savez(tmp_path / "state.npz", **arrays)
    read = {**stored, **np.load(tmp_path / "state.npz")}
    for other in (json.loads(text), read, stored):
        twin = type(fitted).from_dict(other)
        assert repr(twin) == repr(fitted)
        np.testing.assert_array_equal(twin.transform(X), fitted.transform(X))
        y = fitted.transform(X)
        np.testing.assert_array_equal(twin.inverse_transform(y), fitted.inverse_transform(y))
    with pytest.raises(RuntimeError, match="to_dict before fit"):
        make().to_dict()


def test_a_state_that_is_not_whole_is_refused():
    stored = PCA(2).fit(X).to_dict()
    for wrong, match in (
        ({**stored, "class": "Whiten"}, "PCA: the stored 'class' is 'Whiten'"),
        ({k: v for k, v in stored.items() if k != "spread"}, "'spread'"),
        ({**stored, "extra": 1}, "'extra'"),
        ({**stored, "spread": "abc"}, "PCA: the stored 'spread' is damaged"),
        ({**stored, "spread": stored["spread"][:1]}, "have shapes"),
        ({**stored, "shift": stored["shift"][:1]}, "have shapes"),
    ):
        with pytest.raises(ValueError, match=match):
            PCA.from_dict(wrong)
    with pytest.raises(TypeError, match=r"PCA\.from_dict: 'stored' is a NoneType, expected what"):
        PCA.from_dict(None)
    scale = Standardize().fit(X).to_dict()
    with pytest.raises(ValueError, match="have shapes"):
        Standardize.from_dict({**scale, "scale": scale["scale"][:2]})


ERRORS = [
    (lambda: PCA(0), ValueError, "PCA: 'n_components' is 0, expected a whole number >= 1"),
    (lambda: PCA(1.5), ValueError, "'n_components' is 1.5, expected a whole number >= 1, a share"),
    (lambda: PCA(np.nan), ValueError, "'n_components' is nan, expected"),
    (lambda: PCA("mle"), TypeError, "'n_components' is 'mle', expected a whole number"),
    (lambda: PCA(True), TypeError, "'n_components' is True, expected"),
    (lambda: PCA(2, whiten="yes"), TypeError, "'whiten' is 'yes', expected"),
    (lambda: PCA(6).fit(X), ValueError, "'n_components' is 6, expected at most 5; X has 40 sample"),
    (lambda: PCA(5).fit(SHORT), ValueError, "is 5, expected at most 4; X has 4 samples of 5 feat"),
    (lambda: Whiten("ica"), ValueError, "'kind' is 'ica', expected"),
    (lambda: Whiten(eps=-1), ValueError, "'eps' is -1, expected a number >= 0"),
    (lambda: PCA().fit(X[:1]), ValueError, r"'X' has shape \(1, 5\), expected \(N, features\) wit"),
    (lambda: PCA().fit(X[:, 0]), ValueError, r"'X' has shape \(40,\), expected \(N, features\)"),
    (lambda: PCA().fit(X[:, :0]), ValueError, r"'X' has shape \(40, 0\), expected"),
    (lambda: PCA().fit([[1.0], [2.0]]), TypeError, "'X' is a list, expected an array"),
    (lambda: Whiten().fit(np.where(X > 1000, np.nan, X)), ValueError, "'X' holds nan in sample"),
    (lambda: PCA().transform(X), RuntimeError, r"PCA: transform before fit; call fit\(X_train\)"),
    (lambda: Whiten().inverse_transform(X), RuntimeError, "Whiten: transform before fit"),
    (lambda: PCA().fit(X).transform(X[:, :4]), ValueError, r"of shape \(4,\), expected \(5,\) as"),
    (lambda: PCA(2).fit(X).inverse_transform(X), ValueError, r"of shape \(5,\), expected \(2,\)"),
]


@pytest.mark.parametrize(("call", "error", "match"), ERRORS)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("make", [PCA, lambda: PCA(2, True), Whiten, lambda: Whiten("zca", 0.1)])
def test_values_that_are_not_finite_spoil_their_own_rows_without_a_warning(make, recwarn):
    fitted = make().fit(X)
    bad = X.copy()
    bad[1, 2], bad[3, 0] = np.inf, np.nan
    y = fitted.transform(bad)
    assert not np.isfinite(y[[1, 3]]).any()
    whole = np.delete(np.arange(40), [1, 3])
    np.testing.assert_allclose(y[whole], fitted.transform(X)[whole], rtol=1e-10)
    assert not np.isfinite(fitted.inverse_transform(y)[[1, 3]]).any()
    assert np.isinf(PCA().fit(X * 1e200).explained_variance).any()
    assert not recwarn.list


def test_a_refused_fit_changes_nothing():
    pca = PCA(5).fit(X)
    before = pca.to_dict()
    with pytest.raises(ValueError, match="at most 4"):
        pca.fit(SHORT)
    for name, value in before.items():
        np.testing.assert_array_equal(pca.to_dict()[name], value)
    assert re.match(r"PCA\(n_components=5, whiten=False\)", repr(pca))
