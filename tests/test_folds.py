"""data.fold_indices."""

import numpy as np
import pytest
from onepass.data import fold_indices
from small_folds import NUMBERS, N, X, Y


def held_out(y, folds, **options):
    return [test for _, test in fold_indices(y, folds, **options)]


@pytest.mark.parametrize("folds", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 11])
def test_each_sample_is_held_out_once_and_classes_are_spread_evenly(folds, seed):
    y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [30, 20, 11]))
    pairs = fold_indices(y, folds, seed=seed)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(N))
    for train, test in pairs:
        assert np.array_equal(train, np.setdiff1d(np.arange(N), test))
        assert test.dtype == train.dtype == np.int64
    counts = np.array([np.bincount(y[test], minlength=3) for _, test in pairs])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    plain = held_out(y, folds, seed=seed, stratify=False)
    assert np.ptp([len(test) for test in plain]) <= 1
    assert any(not np.array_equal(a, b) for a, b in zip(plain, held_out(y, folds), strict=True))


def test_folds_are_a_function_of_seed_size_and_labels_alone():
    same = held_out(Y, 4, seed=5)
    for y in (Y.tolist(), Y.astype(np.uint8), Y[:, None], np.array(["a", "b"])[Y], Y * 7 - 3,
              Y.astype(np.float32), Y.astype(bool)):  # fmt: skip
        for a, b in zip(same, held_out(y, 4, seed=5), strict=True):
            assert np.array_equal(a, b)
    numbers = held_out(NUMBERS, 4, seed=5)
    for y in (np.zeros((N, 2)), X[:, 1], np.arange(N)):  # hardly repeat: no classes
        for a, b in zip(numbers, held_out(y, 4, seed=5), strict=True):
            assert np.array_equal(a, b)
    assert [test.tolist() for test in held_out(np.zeros(6), 3, stratify=False)] == [
        [4, 5],
        [0, 3],
        [1, 2],
    ]


@pytest.mark.parametrize("labels", [None, Y])
def test_groups_stay_together(labels):
    groups = np.random.default_rng(7).integers(0, 12, N)
    y = NUMBERS if labels is None else labels
    pairs = fold_indices(y, 4, groups=groups, seed=2)
    for train, test in pairs:
        assert not set(groups[train]) & set(groups[test])
        assert len(test)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(N))
    sizes = [len(test) for _, test in pairs]
    assert max(sizes) - min(sizes) <= np.bincount(groups).max()
    named = np.array([f"p{g:02}" for g in range(12)])[groups]  # the names only have to differ
    for (_, one), (_, two) in zip(pairs, fold_indices(y, 4, groups=named, seed=2), strict=True):
        assert np.array_equal(one, two)
    if labels is not None:  # a class that is in a few groups is not all in one fold
        of_group = np.repeat(np.arange(10), 6)
        rare = (of_group < 4).astype(int)
        for test in held_out(rare, 4, groups=of_group):
            assert rare[test].sum() == 6


def test_a_rare_class_goes_as_far_as_it_does():
    y = np.r_[np.repeat(np.arange(40), 5), np.arange(100, 110)]  # whole numbers, some of them once
    counts = np.array([np.bincount(y[test], minlength=110) for test in held_out(y, 5)])
    assert (counts[:, :40] == 1).all()
    assert (counts[:, 100:].sum(axis=0) == 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_one_group_a_sample_is_no_group():
    sizes = [len(test) for test in held_out(NUMBERS, 5, groups=np.arange(N))]
    assert max(sizes) - min(sizes) <= 1


WRONG = [
    (Y, 1, {}, ValueError, "'folds' is 1, expected a whole number >= 2"),
    (Y, 2.0, {}, TypeError, "'folds' is 2.0, expected a whole number"),
    (Y, True, {}, TypeError, "'folds' is True"),
    (NUMBERS, N + 1, {}, ValueError, f"'folds' is 62, expected at most {N}, the number of samples"),
    (np.r_[Y, [7, 7]], 3, {"stratify": True}, ValueError,
     r"'folds' is 3, expected at most 2, the number of samples of class '7' \(stratify=False"),
    (np.r_[["b"] * 5, ["a"] * 9], 6, {"stratify": True}, ValueError, ".* at most 5, .* class 'b'"),
    (Y, 3, {"groups": Y}, ValueError, "'folds' is 3, expected at most 2, the number of groups"),
    (Y, 3, {"groups": Y[:5]}, ValueError, "'groups' has 5 values, expected 61"),
    (Y, 3, {"groups": np.zeros((N, 2))}, ValueError, r"'groups' has shape \(61, 2\)"),
    (Y, 3, {"groups": np.where(X[:, 0] > 2, np.nan, 1.0)}, ValueError, "'groups' has nan at "),
    (Y, 3, {"stratify": "yes"}, TypeError, "'stratify' is 'yes', expected True or False"),
    (Y, 3, {"seed": -1}, ValueError, "'seed' is -1"),
    (Y[:0], 3, {}, ValueError, r"'y' has shape \(0,\), expected samples"),
    (7, 3, {}, TypeError, "'y' is a int, expected an array"),
]  # fmt: skip


@pytest.mark.parametrize(("y", "folds", "options", "kind", "words"), WRONG)
def test_folds_that_cannot_be_are_refused(y, folds, options, kind, words):
    with pytest.raises(kind, match=f"fold_indices: {words}"):
        fold_indices(y, folds, **options)
