"""`to_onnx`: ONNX's own evaluation and ONNX Runtime compute what the model does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from onepass import nn
from onepass.ops._fused import resolve
from small_layers import ALL, layer
from small_models import assert_same, perturb, residual_model

onnx = pytest.importorskip("onnx")

# Whose float64 ONNX Runtime has not, and ONNX's own evaluation rounds in erf.
SINGLE = {
    *("conv", "conv same", "conv groups", "conv valid", "weight norm of a conv", "residual"),
    *("avg pool", "avg pool ceil", "avg pool of the image", "gelu"),
}
CLOSE = {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12}}


def by_reference(path, x):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(path)).run(None, {"x": x})[0]


def by_runtime(path, x):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def batches(name, x):
    """One more sample, and one alone, where the layer takes that."""
    if name == "flatten the batch":
        return [x]
    if "track" in name or name == "batch norm 3d":  # by the batch
        return [x, np.concatenate([x, x[:1]])]
    return [x, np.concatenate([x, x[:1]]), x[:1]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the reference, which overflows
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ALL)
def test_every_layer_is_the_same_in_onnx(name, dtype, tmp_path):
    model, x = layer(name, dtype)
    if not list(model.parameters()):
        model = nn.Sequential(nn.LayerNorm(x.shape[-1:], dtype=dtype), model)
    before, random, mode = model.state_dict(), nn.get_rng_state(model), model.training
    path = tmp_path / "m.onnx"
    model.to_onnx(path, (None, *x.shape[1:]))
    assert_same(model.state_dict(), before)
    assert nn.get_rng_state(model) == random
    assert model.training == mode
    made = onnx.load(str(path))
    assert [o.version for o in made.opset_import] == [17]
    model.eval()
    for values in batches(name, x):
        want = model(values)
        got = by_reference(path, values)
        close = CLOSE["float32" if name == "gelu" else dtype]
        np.testing.assert_allclose(got, want, strict=True, **close)
        if dtype == "float32" or name not in SINGLE:
            got = by_runtime(path, values)
            np.testing.assert_allclose(got, want, strict=True, **close)


ACTIVATIONS = [name for name in ALL if isinstance(layer(name)[0], nn.Activation)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_its_limit_at_infinity(name, tmp_path):
    model, _ = layer(name, "float32")
    model.to_onnx(tmp_path / "m.onnx", (None, 3))
    x = np.array([[np.inf, -np.inf, np.nan], [-3e38, 3e38, 1]], np.float32)
    if name == "sin":
        x[0, :2] = 0
    for run in (by_reference, by_runtime):
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=2e-5, atol=2e-5)


def test_a_network_in_float64_runs(tmp_path):
    model = residual_model()
    model[5].shortcut[1] = nn.GELU("tanh")
    perturb(model).eval()
    model.to_onnx(tmp_path / "m.onnx", (1, 6))
    x = np.random.default_rng(0).standard_normal((7, 6))
    for run in (by_reference, by_runtime):
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), **CLOSE["float64"])


def test_statistics_alone_say_the_dtype(tmp_path):
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(6, affine=False, dtype="float64"))
    perturb(model).eval().to_onnx(tmp_path / "m.onnx", (None, 6))
    x = np.random.default_rng(0).standard_normal((7, 6))
    for run in (by_reference, by_runtime):
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), **CLOSE["float64"])


def test_a_network_of_images(tmp_path):
    model = nn.Sequential(
        nn.Rescaling(1 / 255), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(2), nn.Residual(nn.Conv2d(8, 8, 3, padding="same"), nn.GroupNorm(2, 8)),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4),
    )  # fmt: skip
    perturb(model).eval().to_onnx(tmp_path / "m.onnx", (None, 3, 16, 12))
    x = 255 * np.random.default_rng(0).random((5, 3, 16, 12), np.float32)
    for run in (by_reference, by_runtime):
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=1e-4, atol=1e-4)
    made = onnx.load(str(tmp_path / "m.onnx"))
    shape = made.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["N", 3, 16, 12]


class Own(nn.Module):
    def forward(self, x):
        return x


def test_what_has_no_form_is_refused_by_name(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=r"to_onnx: layer '1\.body\.0' is a Own, which is"):
        nn.Sequential(nn.ReLU(), nn.Residual(Own())).to_onnx(path, (None, 3))
    with pytest.raises(ValueError, match="layer '0' is a ModuleList, which has no form"):
        nn.Sequential(nn.ModuleList([nn.ReLU()])).to_onnx(path, (None, 3))
    with pytest.raises(ValueError, match=r"to_onnx: layer '1': Linear: x has shape \(2, 3\)"):
        nn.Sequential(nn.ReLU(), nn.Linear(4, 2)).to_onnx(path, (None, 3))
    mixed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, dtype="float64"))
    with pytest.raises(ValueError, match="the parameters are of float32, float64, expected all"):
        mixed.to_onnx(path, (None, 3))
    half = nn.Linear(3, 3)
    half.weight.data = half.weight.data.astype("float16")
    half.bias.data = half.bias.data.astype("float16")
    with pytest.raises(ValueError, match="the parameters are of float16"):
        half.to_onnx(path, (None, 3))
    kernel = nn.Sequential(nn.GLU(activation=resolve("a test", "gelu")))
    with pytest.raises(ValueError, match="to_onnx: the activation of a GLU is a kernel, not a na"):
        kernel.to_onnx(path, (None, 4))
    for given in (None, 3, "ab", (), (None, None), (None, "a"), (None, 2.5)):
        with pytest.raises((TypeError, ValueError), match="to_onnx: 'input_shape' is "):
            nn.ReLU().to_onnx(path, given)
    assert not path.exists()


def test_without_onnx(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from onepass import nn\n"
        "try: nn.ReLU().to_onnx('m.onnx', (1, 2))\n"
        "except ModuleNotFoundError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "pip install 'onepass[onnx]'" in done.stdout, done.stderr
