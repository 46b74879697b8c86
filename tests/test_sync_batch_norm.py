"""Batch norm over the shares of several ranks gives what it gives for the whole batch."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from cases import CASES, Tolerance, as_float64, computing
from cases.norms import BatchNorm
from helpers import assert_all_close, assert_all_same, assert_close, each_dtype, sweep
from norm_range import arrays, compare, reference, wide
from onepass import nn, ops
from onepass.nn._batch_norm import OneValueError
from onepass.nn._shares import place
from onepass.ops._shared_batch_norm import shared_batch_norm, shared_batch_norm_backward
from ranks import run_threads
from small_models import grads, normal, perturb
from small_ranks import added, by_shares, shares_of

FORWARD = next(case for case in CASES if case.name == "batch_norm")
BACKWARD = next(case for case in CASES if case.name == "batch_norm_backward")
TRAINING = [options for options in FORWARD.options if options["training"]]
# Of two ranks and more, some of which have no rows.
SPLITS = [[0.5], [0.3, 0.4], [0.0], [1.0, 1.0], [0.1, 0.1, 0.9], [0.25, 0.5, 0.75]]


def over_ranks(split, x, dy, w, b, mean, var, residual, *, training=True, **options):
    """[y, mean, var, dx, dweight, dbias, dresidual] of the whole batch, from its shares."""
    parts = shares_of(len(x), split)
    size = math.prod(x.shape[1:])

    def run(rank):
        rows = parts[rank.rank]
        moved = [None if a is None else a.copy() for a in (mean, var)]
        y, saved = shared_batch_norm(
            rank, x[rows], w, b, *moved, first=options.get("first", 0) + rows.start * size,
            residual=None if residual is None else residual[rows],
            **{k: v for k, v in options.items() if k != "first" and not k.startswith("with_")},
        )  # fmt: skip
        found = shared_batch_norm_backward(dy[rows], saved)
        return y, moved, saved.kept[4], [*found, *[None] * (4 - len(found))]

    results = run_threads(run, len(parts), in_turn=True)
    for _, moved, statistics, _ in results[1:]:
        assert_all_same([*moved, statistics], [*results[0][1], results[0][2]], "ranks differ")

    def joined(arrays):
        return None if arrays[0] is None else np.concatenate(arrays)

    dx, dweight, dbias, dresidual = zip(*(found for *_, found in results), strict=True)
    y = joined([y for y, *_ in results])
    return [y, *results[0][1], joined(dx), added(dweight), added(dbias), joined(dresidual)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_what_ranks_do_is_made_of_these_calls(dtype):
    """Each rank in a thread of its own has the bits of `by_shares`, with which the others go on."""
    dtype = np.dtype(dtype)
    for i, options in enumerate(TRAINING):
        dy, *inputs = BACKWARD.inputs((7, 5, 2), dtype, options)
        x, *rest = inputs
        split = SPLITS[i % len(SPLITS)]
        got = over_ranks(split, x, dy, *rest, **options)
        assert_all_same(got, by_shares(split, x, dy, *rest, **options), f"{options} {split}")


@each_dtype
def test_against_the_reference_of_the_whole_batch(dtype):
    assert len(TRAINING) > 8
    for i, (label, shape, options) in enumerate(sweep(BACKWARD, options=TRAINING, dtype=dtype)):
        dy, *inputs = BACKWARD.inputs(shape, dtype, options)
        x, w, b, mean, var, residual = inputs
        split = SPLITS[i % len(SPLITS)]
        got = by_shares(split, x, dy, w, b, mean, var, residual, **options)
        label = f"{label} {split}"
        want = FORWARD.expect(tuple(inputs), options)
        assert_all_close(got[:3], want, FORWARD.tolerance, dtype, label)
        want = BACKWARD.expect((dy, *inputs), options)
        assert_all_close(got[3 : 3 + len(want)], want, BACKWARD.tolerance, dtype, label)


@each_dtype
def test_one_rank_has_the_bits_of_the_ordinary_norm(dtype):
    """And so has one that alone has samples: the parts of the ordinary call are those of the two.

    dweight and dbias of a rank without samples are 0."""
    for label, shape, options in sweep(BACKWARD, options=TRAINING, dtype=dtype):
        dy, x, w, b, mean, var, residual = BACKWARD.inputs(shape, dtype, options)
        for split in ([], [0.0], [1.0]):
            got = by_shares(split, x, dy, w, b, mean, var, residual, **options)
            moved = [None if a is None else a.copy() for a in (mean, var)]
            given = {k: v for k, v in options.items() if not k.startswith("with_")}
            y, saved = ops.batch_norm(x, w, b, *moved, residual=residual, **given)
            found = ops.batch_norm_backward(dy, saved)
            want = [y, *moved, *found, *[None] * (4 - len(found))]
            assert_all_same(got, want, f"{label} {split}")


@each_dtype
@pytest.mark.parametrize("last", [False, True])
def test_a_constant_channel_gives_beta_exactly(dtype, last):
    top = {"float16": 3}.get(dtype.name, 30)
    for shape in [(31, 3), (7, 3, 7, 7), (60, 3, 41, 37)]:
        for exponent in (-top, 0, 3, top):
            value = (np.float64([1.7, -8.3, 3.1]) * 10.0**exponent).astype(dtype)
            b = np.float64([1.1, 2.3, -0.7]).astype(computing(dtype))
            x = np.broadcast_to(value, (shape[0], *shape[2:], 3)).copy()
            x = x if last else np.moveaxis(x, -1, 1).copy()
            got = by_shares([0.2, 0.7], x, np.ones_like(x), None, b, None, None, None,
                             channels_last=last)  # fmt: skip
            y = got[0] if last else np.moveaxis(got[0], 1, -1)
            assert (y == b.astype(dtype)).all(), f"{shape} 1e{exponent}"
            assert np.isfinite(as_float64(got[3])).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_that_are_far_apart_and_narrow(dtype):
    """Large means, small variances; shares whose means differ by more than either deviates."""
    rng = np.random.default_rng(4)
    for shape in [(257, 3), (64, 2, 7, 7), (16, 2, 61, 67)]:
        for mean, std in ((1e4, 1e-3), (-1e5, 30.0), (1e7, 1.0)):
            x = rng.standard_normal(shape) * std + mean
            for step in (0, 100 * std):
                x[: len(x) // 3] += step
                given = x.astype(dtype)
                want = BatchNorm(given.astype(np.float64), None, None, None, None, training=True)
                got = by_shares([1 / 3, 0.4], given, given, None, None, None, None, None)
                rel = 2.0**-53 * abs(mean) / max(std, 3e-3)  # what float64 itself loses
                limit = Tolerance(8, 8 + 64 * rel / np.finfo(dtype).eps)
                assert_close(got[0], want.y, limit, dtype, f"{shape} {mean} {std} {step}")


@wide
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_at_the_ends_of_the_range(dtype):
    """Each share may be in range by itself and their distance not."""
    tops = {"float32": (1e30, 3e38), "float64": (1e150, 1e200, 1.5e308)}[dtype]
    for shape, last in [((33, 3), False), ((8, 64), False), ((5, 6, 3), True), ((9000, 4), False)]:
        for magnitude in (1.0, *tops):
            for apart in (False, True):
                x, dy, w, b, residual = arrays(shape, last, dtype, magnitude, 1.0)
                if apart:
                    x = np.where(np.arange(len(x)) < len(x) // 2, 0.5, -0.3) * magnitude
                    x = np.broadcast_to(x.reshape(-1, *[1] * (len(shape) - 1)), shape)
                    x = np.ascontiguousarray(x, dtype)
                mean, var = np.zeros(len(w), dtype), np.ones(len(w), dtype)
                got = by_shares([0.5, 0.75], x, dy, w, b, mean, var, None, momentum=0.5,
                                 channels_last=last)  # fmt: skip
                want = reference(x, dy, w, b, residual, {}, last)
                compare(got[:6], want, dtype, last, f"{shape} {magnitude} apart={apart}")


@each_dtype
def test_no_samples_at_all_change_nothing(dtype):
    for shape in [(0, 3), (0, 3, 4, 4)]:
        x, (mean, var) = np.zeros(shape, dtype), np.full((2, 3), 0.7, computing(dtype))
        w = np.ones(3, computing(dtype))
        got = by_shares([0.5], x, x, w, w, mean, var, x)
        y, *moved, dx, dweight, dbias, dresidual = got
        assert y.shape == dx.shape == dresidual.shape == shape
        assert_all_same(moved, [mean, var])
        assert dweight.tolist() == dbias.tolist() == [0.0] * 3


# ------------------------------------------------------------------------------------- modules


def test_one_value_per_channel_on_all_ranks_together_is_refused():
    def one(rank):
        layer = nn.convert_sync_batch_norm(nn.BatchNorm1d(3), rank)
        with pytest.raises(OneValueError, match=r"all ranks together have one sample: one value"):
            layer(np.ones((int(rank.rank == 1), 3), np.float32))
        return int(layer.num_batches_tracked)

    assert run_threads(one, 3, in_turn=True) == [0, 0, 0]

    def two(rank):  # one each is enough
        return nn.convert_sync_batch_norm(nn.BatchNorm1d(1), rank)(np.float32([[rank.rank]]))

    assert [round(float(y[0, 0]), 3) for y in run_threads(two, 2, in_turn=True)] == [-1, 1]


def _vectors():
    return nn.Sequential(
        nn.Linear(6, 8, dtype="float64"), nn.BatchNorm1d(8, dtype="float64"), nn.ReLU(),
        nn.Dropout(0.3),
        nn.Residual(nn.Linear(8, 8, dtype="float64"), nn.BatchNorm1d(8, 1e-5, None,
                                                                    dtype="float64")),
        nn.Tanh(), nn.BatchNorm1d(8, affine=False, track_running_stats=False, dtype="float64"),
    )  # fmt: skip


def _images():
    return nn.Sequential(
        nn.Conv2d(6, 4, 3, padding=1, bias=False, dtype="float64"),
        nn.BatchNorm2d(4, dtype="float64"), nn.GELU(), nn.Dropout(0.2),
        nn.Residual(nn.Conv2d(4, 4, 3, padding=1, dtype="float64"),
                    nn.BatchNorm2d(4, dtype="float64")),
        nn.ReLU(),
    )  # fmt: skip


def _frozen():
    model = _images()
    model[1].freeze()
    return model


def _volumes():
    return nn.Sequential(nn.BatchNorm3d(3, dtype="float64"), nn.SiLU())


IMAGES = (10, 6, 5, 4)
MODELS = {"vectors": (_vectors, (21, 6)), "images": (_images, IMAGES),
          "frozen": (_frozen, IMAGES), "volumes": (_volumes, (8, 3, 2, 3, 4))}  # fmt: skip


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_models_on_ranks_are_one_model_on_the_whole_batch(name, layout):
    make, shape = MODELS[name]
    model = perturb(make())
    x, copies = normal(shape), [copy.deepcopy(model) for _ in range(3)]
    if layout == "last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    parts = shares_of(len(x), [0.2, 0.5])

    def run(rank):
        mine, rows = copies[rank.rank], parts[rank.rank]
        nn.convert_sync_batch_norm(mine, rank)
        results = []
        for step in range(2):
            place(mine, rows.start)
            y = mine(x[rows])
            dx = mine.backward(dys[step][rows])
            results.append((y, dx))
        results.append(mine.eval()(x[rows]))
        return results

    dys = [normal(copy.deepcopy(model)(x).shape, seed=5 + step) for step in range(2)]
    want = []
    for dy in dys:
        y = model(x)
        want.append((y, model.backward(dy)))
    results = run_threads(run, 3, in_turn=True)
    near = {"rtol": 1e-10, "atol": 1e-12}
    for step in range(2):
        for i in range(2):
            got = np.concatenate([result[step][i] for result in results])
            np.testing.assert_allclose(got, want[step][i], **near)
            np.testing.assert_array_equal(got == 0, want[step][i] == 0)
    for key, grad in grads(model).items():
        found = [grads(each)[key] for each in copies]
        if grad is None:
            assert found == [None] * 3
        else:
            np.testing.assert_allclose(sum(found), grad, rtol=1e-9, atol=1e-11, err_msg=key)
    state = model.state_dict()
    for each in copies:
        for key, value in each.state_dict().items():
            np.testing.assert_allclose(value, state[key], **near, err_msg=key)
            np.testing.assert_array_equal(value, copies[0].state_dict()[key], err_msg=key)
    # The norm without running statistics asks the other ranks here too.
    evaluated = np.concatenate([result[2] for result in results])
    np.testing.assert_allclose(evaluated, model.eval()(x), **near)


class Two:
    """A communicator whose other rank has nothing."""

    rank, size = 0, 2

    def sum_(self, array):
        self.seen = array.shape


def test_conversion_leaves_the_model_as_it_is_but_for_the_norms():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    before, text = model.state_dict(), repr(model)
    comm = Two()
    assert nn.convert_sync_batch_norm(model, comm) is model
    assert repr(model) == text
    assert_all_same(list(model.state_dict().values()), list(before.values()))
    x = normal((5, 4), "float32")
    model(x)
    assert comm.seen == (2, 5, 3)
    model.backward(normal((5, 3), "float32"))
    assert comm.seen == (2, 3, 3)
    del comm.seen
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.eval()):
        other(x)  # copies are ordinary models; in evaluation nothing is exchanged
    model.train()
    nn.convert_sync_batch_norm(model, None)(x)
    assert not hasattr(comm, "seen")


def test_norms_that_cannot_are_refused():
    comm = Two()
    for norm in (nn.BatchRenorm(3), nn.DecorrelatedBatchNorm(3),
                 nn.InstanceNorm2d(3, track_running_stats=True)):  # fmt: skip
        model = nn.Sequential(nn.BatchNorm2d(3), norm)
        kind = type(norm).__name__
        with pytest.raises(ValueError, match=rf"'1' is a {kind}, whose statistics are those of"):
            nn.convert_sync_batch_norm(model, comm)
        assert model[0]._comm is None
        norm.freeze()
        nn.convert_sync_batch_norm(model, comm)
        assert model[0]._comm is comm
        norm.unfreeze()
        nn.convert_sync_batch_norm(model, None)
        assert model[0]._comm is None
    nn.convert_sync_batch_norm(nn.Sequential(nn.InstanceNorm2d(3), nn.LayerNorm(3)), comm)


def test_what_is_no_model_or_communicator_is_refused():
    with pytest.raises(TypeError, match=r"'model' is a str, expected an nn\.Module"):
        nn.convert_sync_batch_norm("model", Two())
    model = nn.BatchNorm1d(3)
    for comm in (3, "auto", np.zeros(3), type("Half", (), {"rank": 0, "size": 2})()):
        with pytest.raises(TypeError, match=r"'comm' is a .*, expected a communicator: integers"):
            nn.convert_sync_batch_norm(model, comm)
    assert model._comm is None


def test_an_eps_of_0_is_refused_as_without_ranks():
    x = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError) as alone:  # noqa: PT011
        ops.batch_norm(x, None, None, None, None, training=True, eps=0)

    def call(rank):
        with pytest.raises(ValueError) as shared:  # noqa: PT011
            shared_batch_norm(rank, x, None, None, None, None, eps=0)
        return str(shared.value)

    assert run_threads(call, 2) == [str(alone.value)] * 2
