"""The planted mistakes, one entry each: see README.md. A list to read and to extend, no code."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake that tests must see.

    name     short, unique: `run.py NAME` runs it
    file     from the root of the tree
    find     text that occurs exactly once there
    put      what replaces it
    tests    of these tests at least one must fail; arguments of pytest
    """

    name: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]


VALUES = "tests/test_value_edges.py"
LOSSES = "tests/test_loss_edges.py"
MEMORY = "tests/test_plan_memory.py"
RESUME = "tests/test_resume_counters.py"
FINDER = "tests/test_lr_finder.py"
TABLES = "tests/test_splits_and_tables.py"
MEMORY_OF_FITS = "tests/test_callback_memory.py"
ABORTS = "tests/test_trainer_aborts.py"
RECORDS = "tests/test_codebase.py"
TRAIN = "python/onepass/train"
DATA = "python/onepass/data"
RUNS = "python/onepass/runs"

CPP = [
    Mutant(
        "rmsprop: centred variance has the wrong sign",
        "csrc/kernels/rmsprop.h",
        "under = math::at_least(square - mean * mean, T(0));",
        "under = math::at_least(square + mean * mean, T(0));",
        ("tests/test_kernels.py::test_against_reference[rmsprop_centered-float64]",),
    ),
    Mutant(
        "rmsprop: a centred variance below zero is NaN",
        "csrc/kernels/rmsprop.h",
        "under = math::at_least(square - mean * mean, T(0));",
        "under = square - mean * mean;",
        (
            "tests/test_optimizer_rules.py::"
            "test_rmsprop_centred_has_no_nan_where_the_variance_vanishes",
        ),
    ),
    Mutant(
        "silu: x is not bounded, NaN at -Inf",
        "csrc/kernels/silu.h",
        "return math::at_most(math::abs(x), kFar);",
        "return math::abs(x);",
        ("tests/test_activation_edges.py::test_activation_at_special_values",),
    ),
    Mutant(
        "cross entropy: 0 · -Inf is not guarded",
        "csrc/kernels/cross_entropy.h",
        "return q == T(0) ? T(0) : q * below_max;",
        "return q * below_max;",
        (f"{LOSSES}::test_a_class_that_cannot_be_takes_no_part_where_its_target_is_zero",),
    ),
    Mutant(
        "dropout: the float scale is rounded twice",
        "csrc/core/philox.h",
        "return float(quotient | (quotient * keep != one ? 1u : 0u)) * 0x1p-31f;",
        "return float(0x1p32 / double(keep)) + float(quotient & one) * 0.0f;",
        (f"{VALUES}::test_the_scale_of_dropout_is_rounded_once",),
    ),
    Mutant(
        "streaming: AVX-512 stores are aligned to 32 bytes only",
        "csrc/cpu/blocks.h",
        "(reinterpret_cast<uintptr_t>(to + i) & 63); ++i) to[i] = from[i];",
        "(reinterpret_cast<uintptr_t>(to + i) & 31); ++i) to[i] = from[i];",
        ("tests/test_large_arrays.py",),
    ),
    Mutant(
        "normalise: groups of units cut through a channel",
        "csrc/cpu/cut.h",
        "return larger(1, kGroup / cut.spread) * cut.spread;",
        "return kGroup;",
        (f"{VALUES}::test_batch_norm_of_many_small_planes",),
    ),
    Mutant(
        "normalise: sums of gradients that overflow are believed",
        "csrc/cpu/scaled_channels.h",
        "again[k] = sum_leaves_range<T>(s[k]) || sum_leaves_range<T>(q[k]);",
        "again[k] = false;",
        ("tests/test_norm_range.py::test_sums_that_overflow_only_on_the_way",),
    ),
    Mutant(
        "normalise: a channel keeps the scale with which its moments were taken",
        "csrc/cpu/scaled_channels.h",
        "by[k] = T(1);  // the apply pass decides anew",
        "by[k] = by[k];",
        ("tests/test_norm_range.py::test_extremes_of_several_kinds_in_one_call",),
    ),
    Mutant(
        "cross entropy: 16-bit rows of two blocks use a stale one",
        "csrc/cpu/cross_entropy_work.h",
        "if (!keeps && classes > kBlockElements)",
        "if (!keeps && classes > 2 * kBlockElements)",
        (f"{LOSSES}::test_wide_rows_of_sixteen_bit_logits",),
    ),
    Mutant(
        "norm: a range is believed though squares may have vanished",
        "csrc/cpu/reduce.h",
        "(*sum > 1e-28 * double(elements) &&",
        "(*sum > 0 * double(elements) &&",
        (f"{VALUES}::test_a_norm_of_magnitudes_that_vanish_beside_others",),
    ),
    Mutant(
        "plan: two threads may run its step",
        "csrc/bind/plan.cpp",
        "flag.exchange(true, std::memory_order_acquire)",
        "flag.exchange(false, std::memory_order_acquire)",
        (f"{MEMORY}::test_steps_of_two_threads_are_taken_whole_or_refused",),
    ),
    Mutant(
        "plan: memory of moved parameters is not indexed again",
        "csrc/bind/plan_arrays.cpp",
        "!known(i, o).same_layout(arrays[o])))\n        owned_stale_ = true;",
        "!known(i, o).same_layout(arrays[o])))\n        tensors_stale_ = true;",
        (f"{MEMORY}::test_memory_that_a_parameter_has_moved_to_is_refused_as_a_gradient",),
    ),
    Mutant(
        "plan: gradients that moved are not compared with each other again",
        "csrc/bind/plan_arrays.cpp",
        "  grads_apart_ = false;\n  moved_grads_.push_back(i);",
        "  moved_grads_.push_back(i);",
        (f"{MEMORY}::test_a_gradient_shared_after_a_step_is_refused_where_it_would_be_zeroed",),
    ),
    Mutant(
        "contract: a result may overlap inputs that it may not alias",
        "csrc/bind/border.h",
        "if (other != n) check_overlap(at_[n], at_[other], alias);",
        "if (other != n && alias) check_overlap(at_[n], at_[other], alias);",
        (f"{LOSSES}::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "contract: a result may be read-only",
        "csrc/bind/border.h",
        "if (writes) check_writable(array);",
        "(void)writes;",
        (f"{LOSSES}::test_an_output_that_cannot_be_written_is_refused",),
    ),
    Mutant(
        "border: the GIL is never released",
        "csrc/bind/target.h",
        ": state_(elements >= kKeepGil ? PyEval_SaveThread() : nullptr) {}",
        ": state_(elements < 0 ? PyEval_SaveThread() : nullptr) {}",
        (f"{MEMORY}::test_other_threads_run_during_a_long_call",),
    ),
    Mutant(
        "CUDA: operands aligned unlike each other are read in units",
        "csrc/cuda/table.cuh",
        "if (beyond / size != e->lead) e->path = Path::elements;",
        "if (beyond / size > width) e->path = Path::elements;",
        ("tests/test_cuda_backend.py::test_layouts_give_the_bits_of_the_cpu",),
    ),
    Mutant(
        "CUDA: a functor is kept for parameters at another step",
        "csrc/cuda/loops.cuh",
        "if (entry.row == row_ && step == step_ && same_scalars) return;",
        "if (entry.row == row_ && same_scalars) return;",
        ("tests/test_cuda_arrays.py::test_parameters_of_one_warp_have_counts_of_their_own",),
    ),
]

PYTHON = [
    Mutant(
        "record: the betas of Adam's formula are swapped",
        "tests/cases/optimizers.py",
        "m = lerp(m, g, 1 - betas[0])\n    v = betas[1] * v + (1 - betas[1]) * g**2\n"
        "    largest = v",
        "m = lerp(m, g, 1 - betas[1])\n    v = betas[0] * v + (1 - betas[0]) * g**2\n"
        "    largest = v",
        ("tests/test_kernels.py::test_against_reference[adam-float64]",),
    ),
    Mutant(
        "record: no options for RMSprop with momentum and centred",
        "tests/cases/optimizers.py",
        '            {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.01},\n'
        '            {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "momentum": 0.5, "centered": True},\n',
        "",
        (f"{RECORDS}::test_every_update_has_a_record[rmsprop]",),
    ),
    Mutant(
        "record: AdamW has none",
        "tests/cases/optimizers.py",
        '    _adam("adamw", optim.AdamW, adamw),\n',
        "",
        (f"{RECORDS}::test_every_update_has_a_record[adamw]",),
    ),
    Mutant(
        "EarlyStopping: a checkpoint forgets how long it has waited",
        f"{TRAIN}/_callbacks.py",
        'self.wait = int(state_dict["wait"])',
        "self.wait = 0",
        (f"{RESUME}::test_early_stopping_stops_at_the_same_epoch_after_a_resume",),
    ),
    Mutant(
        "EarlyStopping: a second fit goes on waiting",
        f"{TRAIN}/_callbacks.py",
        "            self.wait = self.stopped_epoch = 0",
        "            self.stopped_epoch = 0",
        (f"{RESUME}::test_a_second_fit_gives_early_stopping_its_whole_patience_again",),
    ),
    Mutant(
        "checkpoint: no skipped_steps",
        f"{TRAIN}/_run.py",
        '"position", "skipped_steps", "stop"',
        '"position", "stop"',
        (f"{RESUME}::test_skipped_steps_are_counted_over_a_resume",),
    ),
    Mutant(
        "ReduceLROnPlateau: reads the training loss though there is validation",
        f"{TRAIN}/_schedule.py",
        'run.scheduler.step(row.get("val_loss", row["loss"]))',
        'run.scheduler.step(row["loss"])',
        (f"{RESUME}::test_a_plateau_schedule_reads_the_validation_loss",),
    ),
    Mutant(
        "evaluate: always leaves the model in training mode",
        "python/onepass/nn/_modes.py",
        "use.module.training = use.before[0]",
        "use.module.training = True",
        (f"{RESUME}::test_reading_a_model_leaves_its_mode",),
    ),
    Mutant(
        "threads: the first reader to leave ends evaluation mode for all",
        "python/onepass/nn/_modes.py",
        "                if not use.threads:\n",
        "                if uses.get(id(module)):\n",
        ("tests/test_trainer_threads.py::test_predict_from_many_threads_at_once",),
    ),
    Mutant(
        "threads: a fit may begin while another thread predicts",
        f"{TRAIN}/_use.py",
        "(other.trains or entry.trains)",
        "other.trains",
        ("tests/test_trainer_threads.py::test_a_fit_while_another_thread_predicts",),
    ),
    Mutant(
        "callbacks: another training does not reset them",
        f"{TRAIN}/_training.py",
        "                callback.reset()\n",
        "",
        (f"{MEMORY_OF_FITS}::test_the_second_model_ends_with_its_own_best_weights",),
    ),
    Mutant(
        "callbacks: other numbers in arrays of the same shape are the same data",
        f"{TRAIN}/_training.py",
        "zlib.crc32(sample.tobytes())",
        "zlib.crc32(b'')",
        (f"{MEMORY_OF_FITS}::test_other_data_in_the_same_trainer_begin_a_new_training",),
    ),
    Mutant(
        "callbacks: two fits at once may use one",
        f"{TRAIN}/_training.py",
        "other is not training and other.fitting",
        "other is not training and False",
        (f"{MEMORY_OF_FITS}::test_a_callback_in_two_fits_at_once_is_refused",),
    ),
    Mutant(
        "monitor: neg_ does not turn the direction",
        f"{TRAIN}/_monitor.py",
        '{"min": "max", "max": "min"}[turned]',
        "turned",
        ("tests/test_monitor_modes.py::test_known_names",),
    ),
    Mutant(
        "monitor: an unknown name is minimised",
        f"{TRAIN}/_monitor.py",
        '"max" if last in _MAX else None',
        '"max" if last in _MAX else "min"',
        ("tests/test_monitor_modes.py::test_a_name_that_settles_nothing_is_asked_for",),
    ),
    Mutant(
        "checkpoint: no logged numbers",
        f"{TRAIN}/_run.py",
        '"data", "logged")',
        '"data")',
        ("tests/test_trainer_log.py::test_logged_numbers_survive_a_resume",),
    ),
    Mutant(
        "checkpoint: the last step's norm is not in the average",
        f"{TRAIN}/_run.py",
        "            self.read_norm()\n            return self._save",
        "            return self._save",
        ("tests/test_trainer_log.py::test_logged_numbers_survive_a_resume",),
    ),
    Mutant(
        "loop: a failed step's masks do not come again",
        f"{TRAIN}/_buffers.py",
        "stream.set(*mask)",
        "stream.peek()",
        (f"{ABORTS}::test_no_batch_is_lost_when_a_hook_fails_before_the_step",),
    ),
    Mutant(
        "loop: the batches of a failed step are lost",
        f"{TRAIN}/_run.py",
        "        _, self.position, self.sums, self.logged,",
        "        _, _, self.sums, self.logged,",
        (f"{ABORTS}::test_no_batch_is_lost_when_a_hook_fails_before_the_step",),
    ),
    Mutant(
        "loop: Ctrl-C before a step leaves it undone",
        f"{TRAIN}/_loop.py",
        'self._call("on_before_step", waits=True)',
        'self._call("on_before_step")',
        (f"{ABORTS}::test_ctrl_c_before_a_step_lets_the_step_end",),
    ),
    Mutant(
        "console: a character that the encoding lacks ends the training",
        "python/onepass/_console.py",
        'text.encode(encoding, "replace")',
        "text.encode(encoding)",
        ("tests/test_consoles.py::test_tables_in_any_encoding",),
    ),
    Mutant(
        "paths: a place that cannot be written is found out after the first epoch",
        f"{TRAIN}/_checkpoint.py",
        '        ready_folder("Checkpoint", "dir", self.dir)\n',
        "",
        ("tests/test_unwritable_paths.py::test_a_file_where_a_directory_belongs",),
    ),
    Mutant(
        "copies: one made by a hook is inside a fit for ever",
        f"{TRAIN}/_run.py",
        'return {**vars(self), "fitting": False}',
        "return {**vars(self)}",
        ("tests/test_trainer_copies.py::test_a_copy_made_in_the_middle_of_an_epoch",),
    ),
    Mutant(
        "find_lr: the suggestion has no margin to the rate that breaks",
        f"{TRAIN}/_lr_curve.py",
        "good[len(good) // 2]",
        "good[0]",
        (f"{FINDER}::test_the_chosen_rate_is_the_middle_of_those_that_train",),
    ),
    Mutant(
        "find_lr: a fall within the noise counts",
        f"{TRAIN}/_lr_curve.py",
        "if not first - min(curve) > max(LEAST_FALL * abs(first), NOISE * noise):",
        "if not first - min(curve) > 0:",
        (f"{FINDER}::test_where_nothing_can_be_learnt_there_is_no_number",),
    ),
    Mutant(
        "find_lr: gradients are forgotten",
        f"{TRAIN}/_unchanged.py",
        "parameter.grad = array",
        "parameter.grad = None",
        (f"{FINDER}::test_everything_is_as_before_also_after_an_error",),
    ),
    Mutant(
        "find_lr: layers in evaluation mode are set to training",
        f"{TRAIN}/_unchanged.py",
        "module.training = training",
        "module.training = True",
        (f"{FINDER}::test_everything_is_as_before_also_after_an_error",),
    ),
    Mutant(
        "Checkpoint: forgets its best value in a resume",
        f"{TRAIN}/_checkpoint.py",
        'self.best = float(state_dict["best"])',
        "self.best = math.nan",
        (f"{RESUME}::test_a_worse_epoch_after_a_resume_does_not_replace_the_best_checkpoint",),
    ),
    Mutant(
        "store: arrays are not synced to the disk",
        f"{TRAIN}/_store.py",
        '        _sync(file)\n    with open(path, "rb") as file:',
        '        file.flush()\n    with open(path, "rb") as file:',
        (f"{RESUME}::test_a_checkpoint_is_on_disk_before_it_has_its_name",),
    ),
    Mutant(
        "store: the hash of the arrays is not compared",
        f"{TRAIN}/_store.py",
        'if size != entry["bytes"] or digest != entry["sha256"]:',
        'if size != entry["bytes"]:',
        (f"{TABLES}::test_an_array_that_was_changed_with_its_checksum_is_found",),
    ),
    Mutant(
        "loader: seeds the global generator",
        f"{DATA}/_loader.py",
        "    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(size)",
        "    np.random.seed(epoch % 2**32)\n"
        "    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(size)",
        (f"{RESUME}::test_the_global_generator_is_left_alone",),
    ),
    Mutant(
        "split: shares its random numbers with epoch 0",
        f"{DATA}/_split.py",
        "STREAM = 2**64 - 1",
        "STREAM = 0",
        (f"{TABLES}::test_a_split_shares_no_order_with_an_epoch",),
    ),
    Mutant(
        "split: the smallest remainders come first",
        f"{DATA}/_split.py",
        "np.argsort(-(exact - quota)",
        "np.argsort((exact - quota)",
        (f"{TABLES}::test_the_largest_remainder_gets_the_sample_that_is_left",),
    ),
    Mutant(
        "tables: the first cell decides what a column is",
        f"{DATA}/_decide.py",
        "figures(values) if values",
        "figures(values[:1]) if values",
        (f"{TABLES}::test_a_target_that_begins_with_a_number_may_be_text",),
    ),
    Mutant(
        "tables: the header alone tells the separator",
        f"{DATA}/_layout.py",
        "    if found:\n        return max(",
        "    if None:\n        return max(",
        ("tests/test_tables.py::test_the_separator_is_that_of_the_file",),
    ),
    Mutant(
        "tables: decimal commas part cells",
        f"{DATA}/_layout.py",
        "return clean / len(cells)",
        "return 1.0",
        ("tests/test_table_list.py::test_a_table_is_read_as_what_it_says",),
    ),
    Mutant(
        "tables: 1.200 is one and a fifth, whatever the file shows",
        f"{DATA}/_text.py",
        "return bool(np.any(~whole & ~(groups & (size >= 1) & (size < 1000))))",
        "return bool(np.any(~whole))",
        ("tests/test_table_list.py::test_a_table_is_refused_with_place_and_cure",),
    ),
    Mutant(
        "tables: a quote that the next one closes swallows the rows between",
        f"{DATA}/_layout.py",
        "if breaks and width > 1 and",
        "if breaks and not width and",
        ("tests/test_tables.py::test_two_unclosed_quotes_do_not_swallow_the_rows_between",),
    ),
    Mutant(
        "tables: medians of all rows",
        f"{DATA}/_encoding.py",
        "part = column if rows is None else column.at(rows)",
        "part = column",
        ("tests/test_table_encoding.py::test_medians_and_words_are_those_of_the_training_part",),
    ),
    Mutant(
        "tables: another table's classes are numbered anew",
        f"{DATA}/_target.py",
        "if classes is None or isinstance(cells, Numbers):\n        return",
        "if True:\n        return",
        (
            "tests/test_table_encoding.py::"
            "test_targets_of_another_table_have_the_classes_of_the_first",
        ),
    ),
    Mutant(
        "scaling: columns near the ends of float64 are not scaled first",
        f"{DATA}/_scaling.py",
        "extreme = (exponent > 1000) | ",
        "extreme = ",
        ("tests/test_given_data.py::test_columns_at_the_ends_of_float64",),
    ),
    Mutant(
        "Standardize: a column that differs by rounding is scaled",
        f"{DATA}/_scaling.py",
        "constant |= std",
        "constant &= std",
        ("tests/test_given_data.py::test_a_column_that_differs_by_rounding_alone_is_constant",),
    ),
    Mutant(
        "split: whole numbers that hardly repeat are classes",
        f"{DATA}/_split.py",
        "    if quota.sum() < count:\n        return",
        "    if not by_class:\n        return",
        ("tests/test_given_data.py::test_whole_numbers_are_split_in_the_share_asked_for",),
    ),
    Mutant(
        "split: a Series is taken by its index",
        f"{DATA}/_given.py",
        'return value.iloc[index] if hasattr(value, "iloc") else value[index]',
        "return value[index]",
        ("tests/test_given_data.py::test_a_shuffled_index_does_not_mix_up_the_rows",),
    ),
    Mutant(
        "tables: underscores in numbers",
        f"{DATA}/_cells.py",
        'PLAIN = re.compile(r"[+-]?(\\d+\\.?\\d*',
        'PLAIN = re.compile(r"[+-]?([\\d_]+\\.?\\d*',
        ("tests/test_tables.py::test_what_only_python_takes_for_a_number_is_none",),
    ),
    Mutant(
        "totals: a batch counts by its samples",
        "python/onepass/train/_totals.py",
        'self._count("loss", loss * divisor, divisor)',
        'self._count("loss", loss * len(target), len(target))',
        (
            "tests/test_trainer_numbers.py::"
            "test_the_loss_of_evaluate_does_not_depend_on_the_batch_size",
        ),
    ),
    Mutant(
        "loop: accumulated batches count alike",
        "python/onepass/train/_loop.py",
        "share = divisor / self._unit if self._unit else 0.0",
        "share = 1.0",
        ("tests/test_trainer_numbers.py::test_accumulated_batches_step_as_one_batch_of_all",),
    ),
    Mutant(
        "weights: those of samples are normalised without those of classes",
        "python/onepass/train/_weights.py",
        "* to_numpy(counted)).sum())",
        ").sum())",
        ("tests/test_trainer_numbers.py::test_sample_weights_weigh_loss_and_gradient",),
    ),
    Mutant(
        "metrics: the last batch's outputs alone",
        "python/onepass/train/_totals.py",
        'np.concatenate(self["outputs"]), np.concatenate',
        'self["outputs"][-1], np.concatenate',
        ("tests/test_metrics.py::test_a_function_gets_the_outputs_of_the_whole_epoch",),
    ),
    Mutant(
        "loader: the larger batches come last",
        f"{DATA}/_loader.py",
        "return number * size + min(number, larger)",
        "return number * size + max(0, number - (len(self) - larger))",
        ("tests/test_trainer_numbers.py::test_balanced_batches_differ_by_one_sample_at_most",),
    ),
    Mutant(
        "recipe: the scaler sees the validation part",
        f"{RUNS}/_parts.py",
        "scale = Standardize().fit(X[train])",
        "scale = Standardize().fit(X)",
        (f"{TABLES}::test_the_scaler_sees_the_training_part_alone",),
    ),
    Mutant(
        "recipe: the validation split ignores the seed",
        f"{RUNS}/_parts.py",
        "VALIDATION_SHARE, stratify=stratified(source), seed=seed",
        "VALIDATION_SHARE, stratify=stratified(source), seed=0",
        (f"{TABLES}::test_another_seed_holds_out_another_part",),
    ),
    Mutant(
        "history: a name that comes later starts at the first epoch",
        f"{TRAIN}/_history.py",
        '[float("nan")] * before)',
        '[float("nan")] * (0 * before))',
        (f"{RESUME}::test_a_name_that_comes_late_has_nothing_in_the_epochs_before",),
    ),
    Mutant(
        "resume: another accumulate is not noticed",
        f"{TRAIN}/_loaders.py",
        'now["accumulate"] = accumulate',
        'now["accumulate"] = saved["data"]["accumulate"] if saved["data"] else accumulate',
        (f"{RESUME}::test_another_accumulate_is_told_by_a_resume",),
    ),
    Mutant(
        "validation: drops its last batch",
        f"{TRAIN}/_loaders.py",
        'return to_read("validation_data", pair[0], pair[1], 256)',
        "return DataLoader(*pair, 256, drop_last=len(pair[0]) > 256)",
        (f"{RESUME}::test_validation_counts_every_sample_of_three_hundred",),
    ),
]

SCHEDULES = "python/onepass/optim/lr_scheduler"
TOGETHER = "tests/test_schedules_together.py"
LR = "tests/test_lr_scheduler.py"
SCHEDULED = "tests/test_trainer_schedule.py"
OPTIONS = "tests/test_optimizer_options.py"
FRONT = "tests/test_optim_front.py"

OPTIM = [
    Mutant(
        "schedule: overwrites a rate set by hand",
        f"{SCHEDULES}/_base.py",
        "            self._follow()\n",
        "",
        (
            f"{TOGETHER}::test_a_rate_set_by_hand_is_kept_and_scheduled_on",
            f"{TOGETHER}::test_two_schedules_of_one_optimizer_multiply",
        ),
    ),
    Mutant(
        "schedule: begins with initial_lr, not with the present rate",
        f"{SCHEDULES}/_base.py",
        'lr or group.get("initial_lr", lr)',
        'group.get("initial_lr", lr)',
        (f"{TOGETHER}::test_a_schedule_made_after_another_goes_on_from_its_rate",),
    ),
    Mutant(
        "schedule: a resume takes the present rate for its own",
        f"{SCHEDULES}/_base.py",
        "self._lrs = [float(lr) for lr in set_before]",
        "pass",
        (f"{TOGETHER}::test_a_resume_between_a_rate_set_by_hand_and_the_next_step_is_exact",),
    ),
    Mutant(
        "plateau: the margin of a negative metric is negative",
        f"{SCHEDULES}/_plateau.py",
        "margin *= abs(self.best)",
        "margin *= self.best",
        (f"{LR}::test_a_plateau_of_any_number_is_a_plateau",),
    ),
    Mutant(
        "plateau: the first metric is compared with NaN",
        f"{SCHEDULES}/_plateau.py",
        " and math.isfinite(self.best)",
        "",
        (f"{LR}::test_a_plateau_of_any_number_is_a_plateau",),
    ),
    Mutant(
        "one cycle: goes on beyond its end",
        f"{SCHEDULES}/_one_cycle.py",
        "min(1.0, (t - starts[phase]) / width)",
        "(t - starts[phase]) / width",
        (f"{LR}::test_one_cycle_never_goes_below_its_end",),
    ),
    Mutant(
        "sequence: a rate set by hand sets that of a part with rates of its own",
        f"{SCHEDULES}/_sequential.py",
        "base if same else own * (base / before)",
        "base",
        (f"{TOGETHER}::test_a_rate_set_by_hand_scales_a_later_part_that_has_rates_of_its_own",),
    ),
    Mutant(
        "sequence: begins with what the parts have set",
        f"{SCHEDULES}/_sequential.py",
        "key=lambda part: part._made",
        "key=lambda part: 0",
        (f"{TOGETHER}::test_a_sequence_begins_with_the_rate_before_the_part_that_was_made_first",),
    ),
    Mutant(
        "trainer: a schedule of another optimizer is taken",
        f"{TRAIN}/_schedule.py",
        'getattr(scheduler, "optimizer", optimizer) is not optimizer',
        'getattr(scheduler, "optimizer", optimizer) is None',
        (f"{SCHEDULED}::test_a_schedule_of_another_optimizer_is_refused",),
    ),
    Mutant(
        "trainer: a resume inside an epoch counts its steps twice",
        f"{TRAIN}/_schedule.py",
        ' - (position // run.accumulate) * (unit == "steps")',
        "",
        (f"{SCHEDULED}::test_a_resume_inside_an_epoch_needs_no_more_steps",),
    ),
    Mutant(
        "optimizer: another option that changed with the rate is not seen",
        "python/onepass/optim/_planned.py",
        "if old[1:] != new[1:] or not (",
        "if not (",
        (f"{OPTIONS}::test_a_rate_and_another_option_that_change_together_are_both_seen",),
    ),
    Mutant(
        "optimizer: starts no longer follow options after a load",
        "python/onepass/optim/_optimizer.py",
        "        self._all_started = False\n",
        "",
        (f"{OPTIONS}::test_starts_that_follow_options_do_so_after_a_state_was_loaded",),
    ),
    Mutant(
        "optimizer: two threads prepare a step at once",
        "python/onepass/optim/_optimizer.py",
        'if held.setdefault("by", me) != me:',
        "if False:",
        (f"{FRONT}::test_what_another_thread_may_not_do_during_a_step",),
    ),
    Mutant(
        "groups: an option of another optimizer is kept and does nothing",
        "python/onepass/optim/_groups.py",
        "        if key in _OPTIONS:",
        "        if False:",
        (f"{FRONT}::test_an_option_of_another_optimizer_in_a_group_is_refused",),
    ),
]

NN = "python/onepass/nn"
IN_THREADS = "tests/test_model_threads.py"
ABSENT = "tests/test_absent_gradients.py"
FROZEN = "tests/test_frozen.py"
MODES = "tests/test_layer_modes.py"

MODULES = [
    Mutant(
        "parameter: a gradient that somebody holds is written to",
        "python/onepass/_parameter.py",
        "free = getrefcount(self._spare) == 2",
        "free = True",
        (f"{ABSENT}::test_a_gradient_that_the_user_kept_is_never_overwritten",),
    ),
    Mutant(
        "modules: threads share what forward saved in evaluation",
        f"{NN}/_saved.py",
        "class _OfThread(local):",
        "class _OfThread:",
        (IN_THREADS,),
    ),
    Mutant(
        "modules: a product that another pass needs is written to",
        f"{NN}/_saved.py",
        "return self.trained if getrefcount(self.trained) == 2 else None",
        "return self.trained",
        (f"{IN_THREADS}::test_a_layer_that_trains_in_a_model_that_does_not",),
    ),
    Mutant(
        "modules: backward of a thread whose values another thread replaced",
        f"{NN}/_saved.py",
        "            self.displaced.add(self.thread)\n",
        "            pass\n",
        (f"{IN_THREADS}::test_interleaved_training_is_refused",),
    ),
    Mutant(
        "residual: values of a side in another mode are lost",
        f"{NN}/_residual.py",
        "return [saved for s in sides if s.training != training for saved in s._all_saved()]",
        "return []",
        (f"{IN_THREADS}::test_an_evaluation_between_forward_and_backward_changes_nothing",),
    ),
    Mutant(
        "trainer: a layer's own eval() is forgotten",
        f"{NN}/_modes.py",
        "module._holds_eval = hold",
        "pass",
        (f"{MODES}::test_a_layers_own_eval_outlives_every_call",),
    ),
    Mutant(
        "optimizer: a frozen parameter moves where gradients are passed",
        "python/onepass/optim/_optimizer.py",
        "taken = self._without(frozen, given) if frozen else given",
        "taken = given",
        (f"{FROZEN}::test_frozen_between_backward_and_step",),
    ),
    Mutant(
        "batch norm: frozen statistics follow the batch",
        f"{NN}/_batch_norm.py",
        ' and not read(self, "statistics_frozen")',
        "",
        (f"{FROZEN}::test_freeze_without_statistics_and_unfreeze",),
    ),
]

PYTHON += OPTIM + MODULES
MUTANTS = [*PYTHON, *CPP]
