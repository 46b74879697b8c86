"""EarlyStopping and Checkpoint know from a name which way it is better, or ask."""

import numpy as np
import pytest
from onepass.train import Callback, Checkpoint, EarlyStopping
from onepass.train._monitor import direction
from small_training import fit, make

LOWER = """
    loss f1_loss dice_loss accuracy_loss error mse rmse mae nll perplexity brier_score log_loss
    brier_score_loss mean_squared_error root_mean_squared_error mean_absolute_percentage_error
    max_error hamming_loss zero_one_loss mean_poisson_deviance davies_bouldin_score kl_divergence
    cross_entropy categorical_crossentropy error_rate word_error_rate top_1_error
    false_positive_rate neg_log_likelihood negative_log_likelihood MSELoss RMSE
    coverage_error discriminator_loss fpr_at_tpr95 FPR@TPR95 fpr_at_95_tpr eer_at_far miss_rate
    energy_score interval_score winkler_score
"""
HIGHER = """
    accuracy acc auc auroc roc_auc roc_auc_score f1 f1_score f1_macro r2 r2_score precision recall
    top_k top_5 top5 top_k_accuracy top5_accuracy balanced_accuracy matthews_corrcoef
    cohen_kappa_score average_precision mean_average_precision dice iou mIoU AUROC F1Score MacroF1
    BinaryAccuracy neg_mean_squared_error neg_root_mean_squared_error neg_log_loss neg_brier_score
    neg_negative_likelihood_ratio d2_absolute_error_score d2_log_loss_score explained_variance
    explained_variance_score log_likelihood ndcg@10 jaccard_score roc_auc_ovr_weighted
    true_positive_rate score fbeta_score R2 tpr_at_fpr tpr@fpr0.01 recall_at_fpr precision_at_k
    recall@loss
"""
ASKED = """
    quality speed grad_norm lr 1-accuracy one_minus_accuracy accuracy_gap accuracy_std
    loss_iou loss_dice loss_f1 loss_score mse_r2 false_accuracy error_score margin coverage
    my_value neg_quality time sharpness loss_ratio
"""


@pytest.mark.parametrize("prefix", ["", "val_"])
@pytest.mark.parametrize(("words", "expected"), [(LOWER, "min"), (HIGHER, "max")])
def test_known_names(prefix, words, expected):
    found = {name: direction("X", prefix + name, "auto") for name in words.split()}
    assert found == dict.fromkeys(found, expected)


@pytest.mark.parametrize("prefix", ["", "val_"])
@pytest.mark.parametrize("name", ASKED.split())
def test_a_name_that_settles_nothing_is_asked_for(prefix, name):
    with pytest.raises(ValueError, match="X: 'mode' is 'auto', expected 'min' or 'max' for"):
        direction("X", prefix + name, "auto")
    assert direction("X", prefix + name, "max") == "max"


def test_every_scorer_of_scikit_learn_is_better_when_higher():
    metrics = pytest.importorskip("sklearn.metrics")
    unknown = {
        "adjusted_mutual_info_score": "max", "completeness_score": "max",
    }  # fmt: skip
    for name in metrics.get_scorer_names():
        assert unknown.get(name, direction("X", name, "auto")) == "max", name


def test_every_score_loss_and_error_function_of_scikit_learn():
    """Its rule: ``_score`` is better when higher, ``_error`` and ``_loss`` when lower."""
    metrics = pytest.importorskip("sklearn.metrics")
    for name in metrics.__all__:
        if name.endswith(("_error", "_loss")):
            assert direction("X", name, "auto") == "min", name
        elif name.endswith("_score") and name != "davies_bouldin_score":
            assert direction("X", name, "auto") == "max", name


class Rising(Callback):
    logs = ("auroc", "quality")

    def on_validation_end(self, run):
        for name in self.logs:
            run.log(name, 0.5 + run.epoch / 10)


def test_a_metric_called_auroc_that_rises_is_not_stopped():
    """Case 20 of the field."""
    stopping = EarlyStopping("auroc", patience=2)
    trainer = make([Rising(), stopping], scheduled=False)
    fit(trainer, max_epochs=6)
    assert (trainer.epoch, stopping.best_epoch) == (6, 6)


@pytest.mark.parametrize("callback", [EarlyStopping, Checkpoint])
def test_an_unknown_name_is_asked_for_before_the_first_batch(tmp_path, callback):
    where = {"dir": tmp_path} if callback is Checkpoint else {}
    trainer = make([Rising(), callback(monitor="quality", **where)])
    before = trainer.model.state_dict()
    with pytest.raises(ValueError, match=f"{callback.__name__}: 'mode' is 'auto'"):
        fit(trainer)
    assert trainer.step == 0
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    fit(make([Rising(), callback(monitor="quality", mode="max", **where)]))


def quality(output, target):
    return float(np.mean(output.argmax(axis=1) == target))


@pytest.mark.parametrize("name", ["quality", "val_quality"])
def test_a_users_metric_is_asked_for(name):
    with pytest.raises(ValueError, match=f"expected 'min' or 'max' for '{name}'"):
        fit(make([EarlyStopping(name)], metrics=[quality]))
    stopping = EarlyStopping(name, mode="max", patience=9)
    trainer = make([stopping], metrics=[quality])
    history = fit(trainer, max_epochs=5)
    assert stopping.best == max(history[name])


def test_f1_loss_is_a_loss():
    class Falling(Callback):
        logs = ("f1_loss",)

        def on_validation_end(self, run):
            run.log("f1_loss", 1 / (1 + run.epoch))

    stopping = EarlyStopping("f1_loss", patience=1)
    trainer = make([Falling(), stopping])
    fit(trainer)
    assert stopping.best_epoch == 3


@pytest.mark.parametrize("monitor", [3, ["loss"], b"loss", len])
def test_a_monitor_that_is_no_name(tmp_path, monitor):
    with pytest.raises(TypeError, match=r"EarlyStopping: 'monitor' is .*expected a name"):
        EarlyStopping(monitor)
    with pytest.raises(TypeError, match=r"Checkpoint: 'monitor' is .*expected a name"):
        Checkpoint(tmp_path, monitor=monitor)
    with pytest.raises(TypeError, match="EarlyStopping: 'monitor' is None"):
        EarlyStopping(None)


def test_one_name_that_is_logged_need_not_be_in_a_tuple():
    class One(Callback):
        logs = "auroc"

        def on_validation_end(self, run):
            run.log("auroc", 0.5)

    trainer = make([One(), EarlyStopping("auroc", patience=9)])
    fit(trainer)
    assert trainer.epoch == 3


def test_words_are_no_flags():
    with pytest.raises(TypeError, match="'restore_best_weights' is 'no', expected True or False"):
        EarlyStopping(restore_best_weights="no")
    with pytest.raises(TypeError, match="Trainer: 'progress' is 'no', expected True or False"):
        make(progress="no")


@pytest.mark.parametrize(("name", "mode"), [
    ("-loss", "max"), ("val_-loss", "max"), ("-val_loss", "max"), ("- accuracy", "min"),
    ("\u2212loss", "max"), ("-neg_loss", "min"), ("neg_mean_squared_error", "max"),
    ("val_neg_mean_squared_error", "max"), ("neg_neg_loss", "min"), ("negated_loss", "max"),
    ("neg_accuracy", "min"), ("neg. loss", "max"), ("NegLoss", "max"), ("-f1", "min"),
])  # fmt: skip
def test_a_negated_name_turns_the_direction(name, mode):
    assert direction("EarlyStopping", name, "auto") == mode


@pytest.mark.parametrize("name", ["loss*-1", "-1*loss", "1/loss", "1 - auc", "~loss", "+loss",
                                  "--", "-", "loss^2", "loss (neg)", "opposite_loss", "a=loss",
                                  "-opposite_loss", "minus_loss"])  # fmt: skip
def test_arithmetic_in_a_name_settles_nothing(name):
    with pytest.raises(ValueError, match="'mode' is 'auto', expected 'min' or 'max'"):
        direction("EarlyStopping", name, "auto")
