"""train.regularizers: gradients by differences, values in the history, and resumes bit for bit."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
import small_training
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, Diagnosis, EarlyStopping, Trainer, find_lr
from onepass.train import regularizers as module
from onepass.train.regularizers import (
    L1,
    L2,
    ActivationSparsity,
    Jacobian,
    ParameterRegularizer,
    Regularizer,
    SoftOrthogonality,
)
from small_training import KilledError, StopAt, everything, fit, make

RNG = np.random.default_rng(3)
X = RNG.standard_normal((22, 4))
Y = RNG.standard_normal((22, 3))
BASES = (Regularizer, ParameterRegularizer)
CLASSES = [
    cls
    for cls in vars(module).values()
    if inspect.isclass(cls) and issubclass(cls, Regularizer) and cls not in BASES
]
NAMES = [cls.__name__ for cls in CLASSES]
each = pytest.mark.parametrize("cls", CLASSES, ids=NAMES)


def network(kind="batch"):
    nn.manual_seed(1)
    f8 = {"dtype": "float64"}
    if kind == "conv":
        return nn.Sequential(
            Images(), nn.Conv2d(1, 3, 3, padding=1, **f8), nn.BatchNorm2d(3, **f8), nn.GELU(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 3, **f8), nn.LogSoftmax(1),
        )  # fmt: skip
    norm = nn.BatchNorm1d(6, **f8) if kind == "batch" else nn.LayerNorm(6, **f8)
    return nn.Sequential(
        nn.Linear(4, 6, **f8), norm, nn.Tanh(), nn.Dropout(0.3),
        nn.Residual(nn.Linear(6, 6, **f8), nn.SiLU()), nn.Linear(6, 3, **f8),
    )  # fmt: skip


class Images(nn.Module):
    """(N, 4) → (N, 1, 2, 2)."""

    def forward(self, x):
        self.saved = x.shape
        return x.reshape(-1, 1, 2, 2)

    def backward(self, dy, *, need_input_grad=True):
        return dy.reshape(self.recall())


def nothing(y, target):
    """A loss without a gradient: what is left is that of the penalty."""
    return 0.0, np.zeros_like(y)


class Gradients(Callback):
    def on_before_step(self, run):
        self.found = {
            name: None if p.grad is None else p.grad / run.grad_scale
            for name, p in run.model.named_parameters()
        }


def one_step(model, regularizers, loss=nothing, lr=0.0, sample_weight=None, **options):
    """The value of each penalty at the model's parameters, and their gradient."""
    seen = Gradients()
    options = {"batch_size": len(X), **options}
    size = options.pop("batch_size")
    trainer = Trainer(
        model, loss, optim.SGD(model.parameters(), lr=lr), regularizers=regularizers,
        callbacks=[seen], progress=False, **options,
    )  # fmt: skip
    history = trainer.fit(X, Y, max_epochs=1, batch_size=size, sample_weight=sample_weight)
    names = [r.name for r in regularizers] + (["loss"] if loss is not nothing else [])
    return {name: history[name][0] for name in names}, seen.found


@each
@pytest.mark.parametrize("kind", ["batch", "layer", "conv"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_gradient_is_that_of_the_value_in_the_history(cls, kind, accumulate) -> None:
    size = math.ceil(len(X) / accumulate)

    def values(model):
        return one_step(
            model, [cls(0.7)], batch_size=size, accumulate=accumulate, last_batch="keep"
        )

    _, gradients = values(network(kind))
    moved = 0
    for name, parameter in network(kind).named_parameters():
        for index in RNG.permutation(parameter.size)[:6]:
            ends = []
            for step in (1e-5, -1e-5):
                model = network(kind)
                dict(model.named_parameters())[name].data.flat[index] += step
                ends.extend(values(model)[0].values())
            expected = (ends[0] - ends[1]) / 2e-5
            found = gradients[name]
            found = 0.0 if found is None else found.flat[index]
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-8, err_msg=name)
            moved += expected != 0
    assert moved > 10


@pytest.mark.parametrize("accumulate", [1, 3])
def test_several_penalties_with_weights_of_samples_are_the_gradient_of_the_sum(accumulate) -> None:
    """Weighted batches count by their sums of weights, in the loss and in penalties of batches."""
    weights = RNG.uniform(0.1, 4.0, len(X))
    options = {
        "loss": nn.MSELoss(), "sample_weight": weights, "accumulate": accumulate,
        "batch_size": math.ceil(len(X) / accumulate), "last_batch": "keep",
    }  # fmt: skip

    def values(model):
        penalties = [ActivationSparsity(0.3), Jacobian(0.7), L2(0.2)]
        return one_step(model, penalties, **options)

    at_first, gradients = values(network())
    assert all(value > 0 for value in at_first.values())
    for name, parameter in network().named_parameters():
        for index in RNG.permutation(parameter.size)[:4]:
            ends = []
            for step in (1e-5, -1e-5):
                model = network()
                dict(model.named_parameters())[name].data.flat[index] += step
                ends.append(sum(values(model)[0].values()))
            found = gradients[name].flat[index]
            expected = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-8, err_msg=name)


def test_the_values_are_those_of_the_formulas() -> None:
    model = network()
    weights = [p.data.copy() for name, p in model.named_parameters() if p.ndim == 2]
    found, _ = one_step(model, [L2(0.5), L1(0.25), SoftOrthogonality(2.0)])
    grams = [w @ w.T if len(w) <= w.shape[1] else w.T @ w for w in weights]
    np.testing.assert_allclose(found["l2"], 0.25 * sum((w**2).sum() for w in weights), 1e-13)
    np.testing.assert_allclose(found["l1"], 0.25 * sum(abs(w).sum() for w in weights), 1e-13)
    expected = 2 * sum(((g - np.eye(len(g))) ** 2).sum() for g in grams)
    np.testing.assert_allclose(found["soft_orthogonality"], expected, 1e-12)
    for penalty, size in ((L2(1.0), 1e200), (SoftOrthogonality(1.0), 1e90)):
        assert penalty.penalty([np.array([[size], [1.0]])])[0] == np.inf


def test_activation_sparsity_is_the_mean_size_of_the_outputs_of_its_layers() -> None:
    nn.manual_seed(0)
    f8 = {"dtype": "float64"}
    model = nn.Sequential(nn.Linear(4, 6, **f8), nn.ReLU(), nn.Linear(6, 3, **f8))
    hidden = nn.Sequential(*model.layers[:2])(X)
    outputs = model(X)
    found, _ = one_step(model, [ActivationSparsity(0.5)])
    np.testing.assert_allclose(found["activation_sparsity"], 0.5 * hidden.sum() / len(X), 1e-13)
    found, _ = one_step(model, [ActivationSparsity(0.5, layers=["1", "2"])])
    both = 0.5 * (hidden.sum() + abs(outputs).sum()) / len(X)
    np.testing.assert_allclose(found["activation_sparsity"], both, 1e-13)


def test_jacobian_estimates_the_squared_norm_of_the_jacobian() -> None:
    nn.manual_seed(0)
    f8 = {"dtype": "float64"}
    model = nn.Sequential(nn.Linear(4, 6, **f8), nn.Tanh(), nn.Linear(6, 3, **f8))
    first, _, last = model.layers
    slopes = 1 - np.tanh(X @ first.weight.data.T + first.bias.data) ** 2
    jacobians = np.einsum("oh,nh,hi->noi", last.weight.data, slopes, first.weight.data)
    found, _ = one_step(model, [Jacobian(2.0, projections=4000, eps=1e-4)])
    exact = 2 * (jacobians**2).sum() / len(X)
    assert abs(found["jacobian"] / exact - 1) < 0.02  # 88000 draws
    linear = nn.Sequential(nn.Linear(4, 3, **f8))
    near, far = (one_step(linear, [Jacobian(1.0, eps=eps)])[0]["jacobian"] for eps in (1e-3, 10))
    np.testing.assert_allclose(near, far, 1e-9)  # J·v whatever eps, where f is linear


def test_l2_trains_as_weight_decay_of_the_same_groups() -> None:
    def trained(weight_decay, regularizers):
        model = small_training.network()
        groups = optim.param_groups(model, lr=0.05, weight_decay=weight_decay)
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optim.SGD(groups, lr=0.05, momentum=0.9),
            regularizers=regularizers, accumulate=2, progress=False,
        )  # fmt: skip
        history = fit(trainer)
        return model.state_dict(), history

    decayed, plain = trained(0.1, [])
    penalised, history = trained(0.0, [L2(0.1)])
    for name, value in decayed.items():
        np.testing.assert_allclose(penalised[name], value, rtol=2e-4, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-5)  # of the data alone
    assert history["l2"][-1] > 0
    assert "l2" not in plain


def test_clipping_and_hooks_see_the_gradient_of_the_sum() -> None:
    model = network()
    _, gradients = one_step(model, [L2(100.0)])
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values() if g is not None))
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    seen = Gradients()
    trainer = Trainer(
        model, nothing, optim.SGD(model.parameters(), lr=1.0), regularizers=[L2(100.0)],
        callbacks=[seen], max_norm=0.5, progress=False,
    )  # fmt: skip
    history = trainer.fit(X, Y, max_epochs=1, batch_size=len(X))
    np.testing.assert_allclose(history["grad_norm"][0], norm, 1e-12)
    moves = [p.data - before[name] for name, p in model.named_parameters()]
    np.testing.assert_allclose(math.sqrt(sum(float((m**2).sum()) for m in moves)), 0.5, 1e-5)


def test_frozen_parameters_and_those_of_no_optimizer_are_in_no_penalty() -> None:
    model = network()
    model.layers[0].freeze()
    rest = [p.data for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith("0.")]
    found, gradients = one_step(model, [L2(1.0)])
    np.testing.assert_allclose(found["l2"], 0.5 * sum((w**2).sum() for w in rest), 1e-13)
    assert gradients["0.weight"] is None
    model.layers[0].unfreeze()
    last = model.layers[-1]
    trainer = Trainer(
        model, nothing, optim.SGD(last.parameters(), lr=0.0), regularizers=[L2(1.0)],
        progress=False,
    )  # fmt: skip
    history = trainer.fit(X, Y, max_epochs=1, batch_size=22)
    np.testing.assert_allclose(history["l2"][0], 0.5 * (last.weight.data**2).sum(), 1e-13)
    assert not model.layers[0].weight.grad.any()


def test_exclude_says_which_parameters() -> None:
    model = network()
    everything_ = sum((p.data**2).sum() for p in model.parameters())
    found, _ = one_step(model, [L2(2.0, exclude=())])
    np.testing.assert_allclose(found["l2"], everything_, 1e-13)
    found, gradients = one_step(network(), [L2(2.0, exclude=["body", "0."])])
    assert gradients["4.body.0.weight"].any() == 0
    assert gradients["5.bias"].any()


def test_running_statistics_and_masks_are_those_of_the_data_alone() -> None:
    def trained(*regularizers):
        model = network()
        one_step(model, list(regularizers), loss=nn.MSELoss())
        return model.state_dict()

    plain, watched = trained(), trained(Jacobian(0.0), ActivationSparsity(0.0))
    penalised = trained(Jacobian(0.5), ActivationSparsity(0.5))
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert np.array_equal(plain[name], penalised[name]), name
    assert all(np.array_equal(plain[n], watched[n]) for n in plain)


@pytest.mark.parametrize("projections", [1, 2])
def test_a_penalty_of_next_to_nothing_changes_nothing(projections) -> None:
    """The masks of dropout in the batches that follow, too, are those without a penalty."""

    def trained(*regularizers):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(model, nn.MSELoss(), optimizer, regularizers=regularizers, progress=False)
        trainer.fit(X, Y, max_epochs=2, batch_size=8)
        return model.state_dict()

    plain, watched = trained(), trained(Jacobian(1e-30, projections=projections))
    for name, value in plain.items():
        np.testing.assert_allclose(watched[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


def test_two_regularizers_of_activations_do_not_disturb_each_other() -> None:
    def found(*regularizers):
        return one_step(network("layer"), list(regularizers))

    values, gradients = found(Jacobian(0.3), ActivationSparsity(0.2), ActivationSparsity(0.1, "b"))
    swapped, _ = found(ActivationSparsity(0.2), Jacobian(0.3))
    (_, of_j), (a, of_a) = found(Jacobian(0.3)), found(ActivationSparsity(0.3))
    np.testing.assert_allclose(values["activation_sparsity"] * 1.5, a["activation_sparsity"], 1e-13)
    assert values["activation_sparsity"] == swapped["activation_sparsity"]
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, of_j[name] + of_a[name], rtol=1e-9, atol=1e-12)


def test_the_model_is_as_it_was_after_a_fit_and_after_one_that_fails() -> None:
    for hooks in ([], [StopAt(step=2)]):
        model = small_training.network()
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
            regularizers=[ActivationSparsity(0.1), ActivationSparsity(0.1, "second")],
            callbacks=[Diagnosis(), *hooks], progress=False,
        )  # fmt: skip
        try:
            fit(trainer)
        except KilledError:
            assert hooks
        for layer in model.modules():
            assert not {"forward", "backward"} & vars(layer).keys()


def test_diagnosis_sees_the_same_with_and_without_a_tap() -> None:
    seen = []
    for regularizers in ([], [ActivationSparsity(0.0)]):
        diagnosis = Diagnosis()
        fit(make([diagnosis], regularizers=regularizers))
        seen.append(diagnosis.history)
    assert repr(seen[0]) == repr(seen[1])


ALL = [L2(0.01), L1(0.001), SoftOrthogonality(0.01), Jacobian(0.02), ActivationSparsity(0.01)]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("step", [1, 4, 5, 7])
def test_a_resume_gives_the_same_bits(tmp_path, step, accumulate) -> None:
    options = {"regularizers": ALL, "accumulate": accumulate, "max_norm": 1.0}
    whole = make(**options)
    fit(whole, max_epochs=6)
    expected = everything(whole)
    steps = Checkpoint(tmp_path, every_n_steps=1)
    with pytest.raises(KilledError):
        fit(make([steps, StopAt(step=step)], **options), max_epochs=6)
    again = make([steps], **options)
    fit(again, max_epochs=6, ckpt_path=tmp_path)
    assert everything(again) == expected
    assert set(again.history) >= {r.name for r in ALL}


def test_a_resume_with_other_penalties_is_told(tmp_path) -> None:
    first = make(regularizers=[L2(0.1)])
    fit(first, max_epochs=1)
    first.save(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"had regularizers=\[\"L2\(weight=0.1"):
        fit(make(regularizers=[L2(0.2)]), ckpt_path=tmp_path)
    inside = tmp_path / "inside"
    steps = Checkpoint(inside, every_n_steps=1)
    with pytest.raises(KilledError):
        fit(make([steps, StopAt(step=2)], regularizers=[L2(0.1)]))
    with pytest.raises(ValueError, match=r"'regularizers' is \[\], expected regularizers=\[\"L"):
        fit(make(), ckpt_path=inside)


def test_a_penalty_may_be_monitored_and_changed_between_epochs() -> None:
    stopping = EarlyStopping(monitor="l2", mode="min", patience=50)
    trainer = make([stopping], regularizers=[L2(0.1)])
    fit(trainer)
    assert stopping.best == min(trainer.history["l2"])
    trainer.regularizers = [*trainer.regularizers, L1(0.1)]
    history = fit(trainer, max_epochs=EPOCHS_MORE)
    assert math.isnan(history["l1"][0])
    assert history["l1"][-1] > 0
    trainer.regularizers[0].weight = 0.0
    assert fit(trainer, max_epochs=EPOCHS_MORE + 1)["l2"][-1] == 0


EPOCHS_MORE = small_training.EPOCHS + 1


def test_one_regularizer_in_two_fits_at_once_is_refused() -> None:
    shared = ActivationSparsity(0.1)
    said = []

    class Inside(Callback):
        def on_epoch_end(self, run):
            copied = copy.deepcopy(shared)
            fit(make(regularizers=[copied]), max_epochs=1)
            try:
                fit(make(regularizers=[L2(0.1), shared]), max_epochs=1)
            except RuntimeError as error:
                said.append(str(error))

    trainer = make([Inside()], regularizers=[shared])
    fit(trainer)
    assert len(said) == small_training.EPOCHS
    assert said[0].startswith("fit: another fit uses ActivationSparsity(weight=0.1")
    assert trainer.history["activation_sparsity"][-1] > 0
    fit(make(regularizers=[shared]), max_epochs=1)


def test_a_hook_may_set_them() -> None:
    class Later(Callback):
        def on_epoch_begin(self, run):
            if run.epoch == 1:
                run.regularizers = [ActivationSparsity(0.1), L2(0.1)]

    trainer = make([Diagnosis(), Later()])
    history = fit(trainer)
    assert math.isnan(history["l2"][0])
    assert history["activation_sparsity"][-1] > 0
    assert not any({"forward", "backward"} & vars(m).keys() for m in trainer.model.modules())


def test_find_lr_trains_with_the_penalties() -> None:
    rates = [
        find_lr(make(scheduled=False, regularizers=r), small_training.X, small_training.Y, steps=20)
        for r in ([], [L2(50.0)])
    ]
    assert rates[0].losses != rates[1].losses


def test_a_penalty_that_is_not_finite() -> None:
    class Endless(ParameterRegularizer):
        def __init__(self, weight, name="endless"):
            self._set(weight, name)

        def penalty(self, arrays):
            return math.inf, [np.full_like(p, np.inf) for p in arrays]

    with pytest.raises(FloatingPointError, match="Endless: the penalty is inf in epoch 1, batch 4"):
        fit(make(regularizers=[Endless(1.0)], accumulate=4))
    trainer = make(regularizers=[Endless(1.0)], nonfinite="skip")
    before = trainer.model.state_dict()["0.weight"].copy()
    fit(trainer)
    assert trainer.skipped_steps == trainer.step == small_training.STEPS
    assert np.array_equal(trainer.model.state_dict()["0.weight"], before)
    assert "endless" not in trainer.history


def test_sparse_activations_of_float32_and_fused_layers_train_as_unfused() -> None:
    kept = []
    for fuse in (True, False):
        nn.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2),
            fuse=fuse,
        )  # fmt: skip
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()),
            regularizers=[ActivationSparsity(0.1)], progress=False,
        )  # fmt: skip
        fit(trainer)
        kept.append(everything_of(model))
    assert kept[0] == kept[1]


def everything_of(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def test_pickled_and_copied_regularizers_go_on() -> None:
    for regularizer in ALL:
        fit(make(regularizers=[regularizer]))
        for other in (copy.deepcopy(regularizer), pickle.loads(pickle.dumps(regularizer))):
            assert repr(other) == repr(regularizer)
            fit(make(regularizers=[other]), max_epochs=1)


class Kept(L1):
    """A class of one's own: all that it must have is a name and ``penalty``."""

    name = "kept"
    transient = ("taken",)


def test_a_regularizer_of_ones_own_has_the_constructor_and_leaves_out_what_is_of_a_fit() -> None:
    ours = Kept(0.1)
    assert repr(ours) == "Kept(weight=0.1, name='kept', exclude=('bias', 'norm'))"
    assert Kept(0.1, "other").name == "other"
    assert Kept.name == "kept"
    ours.taken = ours._chosen = ours._fit = lambda: None  # which cannot be pickled
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert repr(other) == repr(ours)
        assert vars(other).keys() == {"weight", "name", "exclude"}
    with pytest.raises(TypeError, match="Kept: unknown keyword 'nam'; did you mean 'name'"):
        Kept(0.1, nam="a")
    with pytest.raises(TypeError, match=r"Kept: 'weight' is missing, expected Kept\(weight, …\)"):
        Kept()
    with pytest.raises(TypeError, match="ParameterRegularizer: 'name' is None, expected a name"):
        ParameterRegularizer(0.1)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: L2(-1), ValueError, "L2: 'weight' is -1, expected a number >= 0"),
        (lambda: L1(math.nan), ValueError, "L1: 'weight' is nan"),
        (lambda: L2("much"), TypeError, "L2: 'weight' is 'much'"),
        (lambda: L2(1, ""), TypeError, "L2: 'name' is '', expected a name"),
        (lambda: L2(1, exclude="bias"), TypeError, "L2: 'exclude' is 'bias', expected a list"),
        (lambda: L2(1, weigth=2), TypeError, "L2: unknown keyword 'weigth'; did you mean 'weight'"),
        (lambda: Jacobian(1, eps=0), ValueError, "Jacobian: 'eps' is 0, expected a number > 0"),
        (lambda: Jacobian(1, projections=0), ValueError, "Jacobian: 'projections' is 0"),
        (lambda: Jacobian(1, seed=-1), ValueError, "Jacobian: 'seed' is -1"),
        (lambda: ActivationSparsity(1, layers="1"), TypeError, "'layers' is '1', expected a list"),
        (lambda: make(regularizers=L2(1)), TypeError, "'regularizers' is L2.*expected a list"),
        (lambda: make(regularizers=[L2]), TypeError, r"'regularizers\[0\]' is L2, expected a reg"),
        (lambda: make(regularizers=["l2"]), TypeError, r"'regularizers\[0\]' is 'l2', expected"),
        (lambda: make(regularizers=[L2(1), L2(2)]), ValueError, "has the name 'l2', expected one"),
        (lambda: make(regularizer=[]), TypeError, "did you mean 'regularizers'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        wrong()


@pytest.mark.parametrize(
    ("regularizer", "message"),
    [
        (L2(1, "loss"), "a regularizer has the name 'loss', expected one that"),
        (L2(1, "val_accuracy"), "has the name 'val_accuracy'"),
        (L2(1, exclude=("weight", "bias")), "which leaves no parameter of the optimizer"),
        (ActivationSparsity(1, layers=["9"]), "'layers' has '9', expected names of layers: 0, 1"),
        (ActivationSparsity(1, layers=[]), r"'layers' is \(\), which names no activation"),
    ],
)
def test_what_does_not_suit_the_model_is_refused_before_the_first_batch(
    regularizer, message
) -> None:
    trainer = make(regularizers=[L1(1.0), regularizer])
    before = everything_of(trainer.model)
    with pytest.raises(ValueError, match=message):
        fit(trainer)
    assert everything_of(trainer.model) == before
    assert trainer.step == 0
    trainer.regularizers = []
    fit(trainer)


def test_a_network_of_numbers_without_derivative_is_refused() -> None:
    class Rows(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones((5, 2), np.float32))

        def forward(self, x):
            self.saved = x
            return self.weight.data[x]

        def backward(self, dy, *, need_input_grad=True):
            dw = np.zeros_like(self.weight.data)
            np.add.at(dw, self.recall(), dy)
            self.weight.accumulate(dw)

    model = Rows()
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        regularizers=[Jacobian(1.0)], progress=False,
    )  # fmt: skip
    before = model.weight.data.copy()
    with pytest.raises(TypeError, match="'X' has dtype int64, expected floats"):
        trainer.fit(np.arange(4), np.array([0, 1, 0, 1]), max_epochs=1, batch_size=4)
    assert np.array_equal(model.weight.data, before)


def test_soft_orthogonality_makes_singular_values_1() -> None:
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16, bias=False, dtype="float64"))
    trainer = Trainer(
        model, nothing, optim.SGD(model.parameters(), lr=0.01),
        regularizers=[SoftOrthogonality(1.0)], progress=False,
    )  # fmt: skip
    trainer.fit(RNG.standard_normal((2, 16)), np.zeros((2, 16)), max_epochs=3000, batch_size=2)
    np.testing.assert_allclose(np.linalg.svd(model.layers[0].weight.data)[1], 1, atol=1e-6)


def test_a_schedule_and_penalties_in_the_middle_of_an_epoch(tmp_path) -> None:
    def trainer(*callbacks):
        made = make(callbacks, scheduled=False, regularizers=ALL)
        made.scheduler = lr_scheduler.OneCycleLR(made.optimizer, 0.1, total_steps=24)
        return made

    whole = trainer()
    fit(whole, max_epochs=6)
    expected = everything(whole)
    with pytest.raises(KilledError):
        fit(trainer(Checkpoint(tmp_path, every_n_steps=1), StopAt(step=6)), max_epochs=6)
    again = trainer()
    fit(again, max_epochs=6, ckpt_path=tmp_path)
    assert everything(again) == expected
