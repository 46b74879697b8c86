"""Planted mistakes in augmentation, data sets and batches made ahead: see README.md."""

from __future__ import annotations

from mutant import Mutant

DATA = "python/onepass/data"
FOLDER = f"{DATA}/augment"
TRAIN = "python/onepass/train"
LAWS = "tests/test_augment_laws.py"
GEOMETRY = "tests/test_augment_geometry.py"
MIXING = "tests/test_augment_mixing.py"
PIXELS = "tests/test_augment_pixels.py"
VALUES = "tests/test_augment.py"
SETS = "tests/test_data_sets.py"
TRAINING = "tests/test_augmented_training.py"

AUGMENT = [
    Mutant(
        "augment: a sample takes the words that the one before left",
        f"{FOLDER}/_draws.py",
        "        generator.state = state\n",
        "",
        (f"{LAWS}::test_a_sample_is_the_same_in_any_batch",),
    ),
    Mutant(
        "augment: every sample has the same random numbers",
        f"{FOLDER}/_draws.py",
        "counter[0], counter[2] = 0, place",
        "counter[0], counter[2] = 0, 0",
        (f"{LAWS}::test_the_same_arguments_give_the_same_bits_and_others_do_not",),
    ),
    Mutant(
        "augment: every piece of a batch has the first places",
        f"{FOLDER}/_transform.py",
        "draws.of(slice(i, i + step))",
        "draws.of(slice(len(X[i : i + step])))",
        (f"{LAWS}::test_pieces_of_a_batch_do_not_show",),
    ),
    Mutant(
        "augment: a second draw repeats the first",
        f"{FOLDER}/_draws.py",
        "        self._part += 1\n",
        "",
        (f"{VALUES}::test_words_are_philox_at_the_samples_own_counter",),
    ),
    Mutant(
        "augment: the upper half of a product loses a carry",
        f"{FOLDER}/_draws.py",
        "(middle >> _HALF) + (rest >> _HALF)",
        "(middle >> _HALF)",
        (f"{VALUES}::test_words_are_philox_at_the_samples_own_counter",),
    ),
    Mutant(
        "augment: a fill is rounded by a rule of its own",
        f"{FOLDER}/_pad.py",
        "stored(np.array(fill), X.dtype).item()",
        "min(max(round(fill), 0), 255) if X.dtype == np.uint8 else fill",
        (f"{VALUES}::test_a_fill_is_rounded_as_computed_pixels_are",),
    ),
    Mutant(
        "augment: RandomCrop draws its column first",
        f"{FOLDER}/_geometry.py",
        "whole(u[:, k], parts.shape[2 + k])",
        "whole(u[:, 1 - k], parts.shape[2 + k])",
        (f"{VALUES}::test_every_class_takes_its_words_in_the_order_of_the_release_before",),
    ),
    Mutant(
        "augment: the parts of a Compose share a seed",
        f"{FOLDER}/_compose.py",
        "own = seed_of_part(seed, part)",
        "own = seed",
        (f"{VALUES}::test_parts_of_a_compose_have_seeds_of_their_own",),
    ),
    Mutant(
        "augment: places are cut to steps of 1/32, not rounded",
        f"{FOLDER}/_sample.py",
        "* STEPS + 0.5) + STEPS",
        "* STEPS) + STEPS",
        (f"{GEOMETRY}::test_lens",),
    ),
    Mutant(
        "augment: OpenCV reads rows as columns",
        f"{FOLDER}/_sample.py",
        "np.stack([x // STEPS, y // STEPS], axis=3)",
        "np.stack([y // STEPS, x // STEPS], axis=3)",
        (f"{GEOMETRY}::test_opencv_gives_the_bits_of_numpy",),
    ),
    Mutant(
        "augment: a rotation goes the other way",
        f"{FOLDER}/_warps.py",
        "(d * column - b * row)",
        "(d * column + b * row)",
        (f"{GEOMETRY}::test_affine",),
    ),
    Mutant(
        "augment: pixels beyond the border count in a smaller image",
        f"{FOLDER}/_resize.py",
        "        weights *= (places >= 0) & (places < size)\n",
        "",
        (f"{GEOMETRY}::test_sizes_agree_with_torch",),
    ),
    Mutant(
        "augment: noise of whole numbers is not times 255",
        f"{FOLDER}/_transform.py",
        "        images /= kind(top)\n",
        "        top = 1.0\n",
        (f"{PIXELS}::test_noise",),
    ),
    Mutant(
        "augment: a mix keeps the other target's share",
        f"{FOLDER}/_mixing.py",
        "share * targets + (1 - share) * targets[other]",
        "(1 - share) * targets + share * targets[other]",
        (f"{MIXING}::test_mixup",),
    ),
    Mutant(
        "augment: a box that the border cuts has its whole share",
        f"{FOLDER}/_mixing.py",
        "others, X), share",
        "others, X), kept",
        (f"{MIXING}::test_cutmix",),
    ),
    Mutant(
        "loader: threads make any number of batches ahead",
        f"{DATA}/_ahead.py",
        "            fill(1)\n",
        "            fill(3)\n",
        (f"{SETS}::test_only_a_few_batches_are_made_ahead",),
    ),
    Mutant(
        "loader: its threads go on after a fit",
        f"{DATA}/_ahead.py",
        "pool.shutdown(wait=True, cancel_futures=True)",
        "pool.shutdown(wait=False)",
        (f"{SETS}::test_a_fit_that_ends_early_ends_its_threads",),
    ),
    Mutant(
        "loader: a forked child waits for threads that it does not have",
        f"{DATA}/_ahead.py",
        "while waiting and os.getpid() == process:",
        "while waiting:",
        (f"{SETS}::test_a_forked_child_goes_on_with_the_batches",),
    ),
    Mutant(
        "loader: a pair is read once for x and once for y",
        f"{DATA}/_loader.py",
        "pairs = isinstance(x, Column) and isinstance(y, Column) and x.source is y.source",
        "pairs = False",
        (f"{SETS}::test_each_sample_is_read_once_an_epoch_and_only_when_it_is_due",),
    ),
    Mutant(
        "loader: a sample of another dtype is taken as it is",
        f"{DATA}/_rows.py",
        "parts[number] = part.astype(first.dtype)",
        "parts[number] = part",
        (f"{SETS}::test_all_batches_have_the_dtype_of_the_first_sample",),
    ),
    Mutant(
        "loader: a file is read row by row, also in order",
        f"{DATA}/_rows.py",
        "if step == 1 and start < stop:",
        "if False:",
        (f"{SETS}::test_batches_in_order_are_one_read_of_a_file",),
    ),
    Mutant(
        "fit: the part of a mapped array is copied into memory",
        f"{DATA}/_rows.py",
        "if isinstance(array, (Rows, np.memmap)):",
        "if isinstance(array, Rows):",
        (f"{SETS}::test_a_mapped_array_is_never_in_memory_as_a_whole",),
    ),
    Mutant(
        "evaluate: transforms the samples of a loader",
        f"{TRAIN}/_loaders.py",
        "return loader if trains else loader.untransformed()",
        "return loader",
        (f"{TRAINING}::test_validation_evaluate_and_predict_leave_the_transform_out",),
    ),
    Mutant(
        "resume: another transform is not noticed",
        f"{TRAIN}/_resume.py",
        '        "transform": _transform(loader.transform),\n',
        "",
        (f"{TRAINING}::test_a_resume_with_another_transform_is_told",),
    ),
]
