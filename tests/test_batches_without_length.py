"""Batches from an object that does not say how many: as arrays, bit for bit."""

import io

import numpy as np
import pytest
from onepass.data import DataLoader
from onepass.train import Checkpoint, ProgressBar
from small_training import BATCH, VALIDATION, KilledError, StopAt, X, Y, everything, make


class Stream:
    """Each iteration gives the batches again."""

    def __iter__(self):
        return iter(DataLoader(X, Y, BATCH))


def of_torch():
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(torch.from_numpy(X), torch.from_numpy(Y), strict=True))

    return torch.utils.data.DataLoader(Rows(), batch_size=BATCH)


def trainer_of(*callbacks, **options):
    return make(callbacks, scheduled=False, last_batch="keep", **options)


def of_arrays(**options):
    trainer = trainer_of(**options)
    trainer.fit(X, Y, max_epochs=2, batch_size=BATCH, shuffle=False, validation_data=VALIDATION)
    return everything(trainer)


@pytest.mark.parametrize("source", [Stream, of_torch])
@pytest.mark.parametrize("accumulate", [1, 3, 100])
def test_a_stream_trains_as_arrays_do(source, accumulate):
    expected = of_arrays(accumulate=accumulate)
    trainer = trainer_of(accumulate=accumulate)
    trainer.fit(source(), max_epochs=2, validation_data=VALIDATION)
    assert everything(trainer) == expected
    found, whole = trainer.evaluate(source()), trainer.evaluate(X, Y)
    assert found == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("step", [1, 4, 5, 7])
@pytest.mark.parametrize("ways", ["fit", "checkpoint"])
def test_a_stream_goes_on_inside_an_epoch(tmp_path, step, ways):
    expected = of_arrays()
    callbacks = [StopAt(step), Checkpoint(tmp_path, every_n_steps=1)]
    trainer = trainer_of(*(callbacks[:1] if ways == "fit" else callbacks[::-1]))
    with pytest.raises(KilledError):
        trainer.fit(Stream(), max_epochs=2, validation_data=VALIDATION)
    if ways == "fit":
        trainer.callbacks[:] = []
        trainer.fit(Stream(), max_epochs=2, validation_data=VALIDATION)
    else:
        trainer = trainer_of()
        trainer.fit(Stream(), max_epochs=2, validation_data=VALIDATION, ckpt_path=tmp_path)
    assert everything(trainer) == expected


def test_a_stream_shows_its_progress():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    trainer_of(ProgressBar(file=shown)).fit(Stream(), max_epochs=2)
    assert "2/2" in shown.getvalue()


def test_a_stream_may_be_validation_data():
    one, two = trainer_of(), trainer_of()
    expected = one.fit(X, Y, max_epochs=2, validation_data=(X, Y))
    found = two.fit(X, Y, max_epochs=2, validation_data=Stream())
    np.testing.assert_allclose(found["val_loss"], expected["val_loss"], rtol=1e-6)
    assert found["val_accuracy"] == expected["val_accuracy"]


def test_batches_may_be_dataframes_and_are_refused_as_arrays_are():
    pandas = pytest.importorskip("pandas")
    frames = [(pandas.DataFrame(X[i : i + 9]), pandas.Series(Y[i : i + 9], index=range(50, 59)))
              for i in (0, 9, 18)]  # fmt: skip
    arrays = [(x.to_numpy(), y.to_numpy()) for x, y in frames]
    histories = []
    for batches in (frames, arrays):
        trainer = make(scheduled=False)
        histories.append(dict(trainer.fit(batches, max_epochs=2)))
    assert histories[0] == histories[1]
    for wrong, words in [
        (X + 1j, "dtype complex"), (X.astype(object), "dtype object"),
        (np.ma.masked_less(X, 0), "MaskedArray with masked"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"fit: 'x of batch 1' .*{words}"):
            make(scheduled=False).fit([arrays[0], (wrong, Y)], max_epochs=1)


def rows_as(kind):
    """Batches whose parts are not arrays."""

    class Rows:
        def __iter__(self):
            for x, y in DataLoader(X, Y, BATCH):
                yield kind(x), kind(y)

        def __len__(self):
            return len(DataLoader(X, Y, BATCH))

    return Rows()


@pytest.mark.parametrize("kind", [
    lambda a: a.tolist(), lambda a: tuple(a.tolist()), list, lambda a: [r.tolist() for r in a],
], ids=["lists", "tuples", "lists of arrays", "lists of lists"])  # fmt: skip
def test_batches_of_lists_train_as_arrays_do(kind):
    trainer = trainer_of()
    trainer.fit(rows_as(kind), max_epochs=2, validation_data=VALIDATION)
    assert everything(trainer) == of_arrays()
    assert trainer.evaluate(rows_as(kind)) == trainer.evaluate(Stream())
    np.testing.assert_array_equal(trainer.predict(rows_as(kind)), trainer.predict(Stream()))


def test_lists_of_tensors_are_batches_too():
    torch = pytest.importorskip("torch")
    trainer = trainer_of()
    trainer.fit(rows_as(lambda a: [torch.as_tensor(r) for r in a]), max_epochs=2,
                validation_data=VALIDATION)  # fmt: skip
    assert everything(trainer) == of_arrays()


@pytest.mark.parametrize(("kind", "words"), [
    (lambda a: {"x": a}, "'x of batch 0' is a dict, expected an array, a tensor or a list"),
    (lambda a: [[1.0], [1.0, 2.0]], "'x of batch 0' is a list of values that have no one shape"),
    (lambda a: [object()] * len(a), "'x of batch 0' has dtype object, expected real numbers"),
    (lambda a: ["a"] * len(a), "'x of batch 0' has dtype <U1, expected real numbers"),
    (lambda a: "text", "'x of batch 0' is a str, expected an array"),
    (lambda a: None, "'x of batch 0' is a NoneType, expected an array"),
])  # fmt: skip
def test_batches_of_anything_else_are_refused_by_name(kind, words):
    trainer = trainer_of()
    with pytest.raises(TypeError, match=f"fit: {words}"):
        trainer.fit(rows_as(kind), max_epochs=1)
    assert trainer.step == 0
