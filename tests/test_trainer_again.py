"""A fit that has nothing left to do, and the weights of a training for predictions."""

import warnings

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer, _store
from small_training import VALIDATION, X, everything, fit, make, network


@pytest.mark.parametrize("epochs", [3, 2])
def test_a_second_fit_with_nothing_left_says_so(epochs):
    trainer = make([EarlyStopping()])
    fit(trainer)
    before = everything(trainer)
    with pytest.warns(RuntimeWarning, match=f"fit: 3 of {epochs} epochs are done.*larger max_ep"):
        history = fit(trainer, max_epochs=epochs)
    assert everything(trainer) == before
    assert history is trainer.history


@pytest.mark.parametrize("way", ["ckpt_path", "load", "by hand"])
def test_a_resume_with_nothing_left_says_so_too(tmp_path, way):
    fit(make([Checkpoint(tmp_path)], scheduled=False))
    trainer = make(scheduled=False)
    if way == "load":
        trainer = Trainer.load(tmp_path, trainer.model, trainer.loss, trainer.optimizer,
                               metrics=["accuracy"], progress=False)  # fmt: skip
    elif way == "by hand":
        trainer.epoch = 3
    more = {"ckpt_path": tmp_path} if way == "ckpt_path" else {}
    with pytest.warns(RuntimeWarning, match="fit: 3 of 3 epochs are done") as caught:
        fit(trainer, **more)
    assert trainer.epoch == 3
    assert caught[0].filename.endswith("small_training.py")


def test_it_calls_no_hook_and_keeps_weights_set_since():
    calls = []

    class Log(Callback):
        def on_fit_begin(self, run):
            calls.append("begin")

    trainer = make([EarlyStopping(), Log()])
    fit(trainer)
    trainer.model[0].weight.data[...] = 7
    with pytest.warns(RuntimeWarning, match="3 of 3 epochs"):
        fit(trainer)
    assert calls == ["begin"]
    assert (trainer.model[0].weight.data == 7).all()


def test_the_warning_points_at_the_call():
    trainer = make()
    fit(trainer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, np.zeros(30, np.int64), max_epochs=3)
    assert caught[0].filename == __file__


# load_weights.


class Marks(Callback):
    """The weights tell the epoch, the validation loss is scripted: best in the second of four."""

    def on_epoch_end(self, run):
        run.history["val_loss"][-1] = [0.5, 0.1, 0.4, 0.3][run.epoch - 1]
        run.history["val_accuracy"][-1] = [0.5, 0.6, 0.9, 0.7][run.epoch - 1]
        run.model[0].weight.data[...] = run.epoch


def trained(*callbacks):
    trainer = make([Marks(), *callbacks])
    fit(trainer, max_epochs=4)
    return trainer


def first_weight(model):
    return model[0].weight.data[0, 0]


def test_predictions_need_neither_optimizer_nor_schedule(tmp_path):
    """Trainer.load asks for the schedule of the training; a prediction does not."""
    trainer = trained(EarlyStopping(patience=9), Checkpoint(tmp_path))
    model = Trainer.load_weights(tmp_path, network(5))
    assert first_weight(model) == first_weight(trainer.model) == 2
    np.testing.assert_array_equal(model.eval()(X), trainer.predict(X))
    optimizer = optim.SGD(model.parameters())
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    other = Trainer(model, trainer.loss, optimizer, scheduler=scheduler, metrics=["accuracy"])
    assert other.evaluate(*VALIDATION) == trainer.evaluate(*VALIDATION)


def test_the_last_weights_and_the_best(tmp_path):
    trained(EarlyStopping(patience=9), Checkpoint(tmp_path))
    assert first_weight(Trainer.load_weights(tmp_path, network(5), which="last")) == 4
    assert first_weight(Trainer.load_weights(tmp_path, network(5), which="best")) == 2


def test_the_best_by_a_checkpoint_with_a_monitor(tmp_path):
    trained(Checkpoint(tmp_path, keep=1, monitor="val_accuracy"))
    assert first_weight(Trainer.load_weights(tmp_path, network(5))) == 3


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    trained(EarlyStopping(patience=9), Checkpoint(tmp_path))
    (_store.checkpoints(tmp_path)[-1] / "model.npz").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="damaged checkpoint"):
        model = Trainer.load_weights(tmp_path, network(5), which="last")
    assert first_weight(model) == 3


def test_weights_that_nobody_kept_or_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Trainer.load_weights(tmp_path / "nowhere", network())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        Trainer.load_weights(tmp_path / "empty", network())
    make().save(tmp_path / "run")
    with pytest.raises(ValueError, match="'which' is 'best', expected 'last'"):
        Trainer.load_weights(tmp_path / "run", network())
    with pytest.raises(ValueError, match="'which' is 'newest', expected 'best' or 'last'"):
        Trainer.load_weights(tmp_path / "run", network(), which="newest")
    for other in (nn.Sequential(nn.Linear(4, 2)), nn.Sequential(*network()[:3], nn.Linear(6, 2))):
        before = {name: value.tobytes() for name, value in other.state_dict().items()}
        with pytest.raises(ValueError, match="the checkpoint does not fit this model"):
            Trainer.load_weights(tmp_path / "run", other, which="last")
        assert {n: v.tobytes() for n, v in other.state_dict().items()} == before
