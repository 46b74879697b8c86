"""Planted mistakes in python/onepass/cli, runs, ops and torch: see README.md."""

from __future__ import annotations

from mutant import Mutant

CLI = "python/onepass/cli"
RUNS = "python/onepass/runs"
OPS = "python/onepass/ops"
COMMANDS = "tests/test_cli.py"
FOLDS = "tests/test_cross_validation_cli.py"
FUSE = "tests/test_torch_fuse.py"
MUON = "tests/test_muon.py"
OWN_RUNS = "tests/test_cli_runs.py"
PREDICT = "tests/test_cli_predict.py"
RIDERS = "tests/test_optim_riders.py"
SCALER = "tests/test_torch_grad_scaler.py"
SPARSE = "tests/test_sparse_adam.py"
TORCH = "python/onepass/torch"
TORCH_NN = "tests/test_torch_nn.py"
TRAINING = "tests/test_cli_training.py"

FRONT = [
    # ------------------------------------------------------------------------------------- cli
    Mutant(
        "cli: an error is printed with status 0",
        f"{CLI}/_output.py",
        "    return status\n",
        "    return 0\n",
        (f"{COMMANDS}::test_wrong_use[trian]",),
    ),
    Mutant(
        "cli: an error keeps its line breaks",
        f"{CLI}/_output.py",
        "f\"onepass: {' '.join(str(error).split())}\\n\"",
        'f"onepass: {error}\\n"',
        (f"{OWN_RUNS}::test_an_error_is_one_line_whatever_it_names",),
    ),
    Mutant(
        "cli: a reader that has gone is an error of the program",
        f"{CLI}/_main.py",
        "        if isinstance(error, BrokenPipeError):  # the reader (head, less) has gone\n",
        "        if False:\n",
        (f"{PREDICT}::test_a_reader_that_goes_away_ends_a_prediction_in_silence",),
    ),
    Mutant(
        "cli: a console that lacks a character raises",
        f"{CLI}/_main.py",
        '            stream.reconfigure(errors="replace")  # a console may lack a character\n',
        '            stream.reconfigure(errors="strict")\n',
        (f"{PREDICT}::test_a_plain_console_shows_the_recalls_of_classes_with_other_letters",),
    ),
    Mutant(
        "cli: a tilde is kept",
        f"{CLI}/_arguments.py",
        '            return expanded(text, f"{owner}: {option!r}")\n',
        "            return Path(text)\n",
        (f"{OWN_RUNS}::test_a_tilde_is_the_home",),
    ),
    Mutant(
        "cli: names in quotes are cut at their commas",
        f"{CLI}/_arguments.py",
        "        parts = next(csv.reader([text], skipinitialspace=True), [])\n",
        '        parts = text.split(",")\n',
        (f"{TRAINING}::test_names_with_commas_stand_in_quotes",),
    ),
    Mutant(
        "cli: predictions are written over the rows they are for",
        f"{CLI}/_predict.py",
        "        same = source.exists() and out.samefile(source)\n",
        "        same = False\n",
        (f"{PREDICT}::test_predictions_do_not_replace_their_rows",),
    ),
    Mutant(
        "cli: the prediction takes the place of a kept column of its name",
        f"{CLI}/_predict.py",
        '        answer += " (predicted)"\n',
        "        break\n",
        (f"{PREDICT}::test_columns_to_keep_are_kept_beside_the_prediction",),
    ),
    Mutant(
        "cli: NaN in JSON",
        f"{CLI}/_predict.py",
        "print(json.dumps(_scores.as_json(done.scores), indent=1))",
        "print(json.dumps(done.scores, indent=1))",
        (f"{PREDICT}::test_scores_that_no_row_gives_are_null_in_json",),
    ),
    Mutant(
        "cli: an interrupt has the status of an error",
        f"{CLI}/_train.py",
        'return fail(f"interrupted; go on with: {again}", 130)',
        'return fail(f"interrupted; go on with: {again}", 1)',
        (f"{COMMANDS}::test_interrupt",),
    ),
    Mutant(
        "cli: the command for predictions is not quoted",
        f"{CLI}/_train.py",
        "    folder = shlex.quote(str(run.out))\n",
        "    folder = str(run.out)\n",
        (f"{TRAINING}::test_the_command_for_predictions_can_be_pasted",),
    ),
    # ------------------------------------------------------------------------------------ runs
    Mutant(
        "runs: recalls of classes without a sample count as 0",
        f"{RUNS}/_scores.py",
        "    recall = _by_name(report, report.recall, report.support > 0)\n",
        "    recall = _by_name(report, report.recall, report.support >= 0)\n",
        (f"{PREDICT}::test_scores_of_classes_against_their_definitions",),
    ),
    Mutant(
        "reports: the best recognised classes are listed first",
        "python/onepass/train/_report_text.py",
        "np.where(report.used, report.f1, np.inf)",
        "np.where(report.used, -report.f1, np.inf)",
        ("tests/test_report_numbers.py::test_many_classes_are_cut_to_the_worst",),
    ),
    Mutant(
        "metrics: r2 is the share that is not explained",
        "python/onepass/train/_metrics.py",
        "met, 1 - left / around)",
        "met, left / around)",
        (f"{PREDICT}::test_evaluate_of_numbers_in_python",),
    ),
    Mutant(
        "runs: the spread of folds is that of all possible ones",
        "python/onepass/train/_score_table.py",
        "np.std(_values(rows, name), ddof=1)",
        "np.std(_values(rows, name))",
        (f"{TRAINING}::test_cross_validation_scores_each_fold_on_what_it_has_not_seen",),
    ),
    Mutant(
        "runs: a fold is scored on what it was trained on",
        f"{RUNS}/_evaluation.py",
        "X, y = parts.X[parts.test], parts.y[parts.test]",
        "X, y = parts.X[parts.train], parts.y[parts.train]",
        (f"{TRAINING}::test_cross_validation_scores_each_fold_on_what_it_has_not_seen",),
    ),
    Mutant(
        "runs: the part that decides when to stop has rows of groups that are trained on",
        f"{RUNS}/_parts.py",
        "    groups = source.groups\n    if groups is None:\n",
        "    groups = source.groups\n    if groups is None or share == VALIDATION_SHARE:\n",
        ("tests/test_cli_groups.py::test_a_group_is_in_one_fold_and_in_one_part[t.csv]",),
    ),
    Mutant(
        "runs: a resume goes on with other groups",
        f"{RUNS}/_recipe.py",
        'folder.record.get("grouping") != grouping',
        "False",
        ("tests/test_cli_groups.py::test_a_resume_compares_the_groups",),
    ),
    Mutant(
        "runs: a fold that was cut short begins again",
        f"{RUNS}/_cross_validation.py",
        "fitting.fit(trainer, place)",
        "fitting.fit(trainer)",
        (f"{FOLDS}::test_a_kill_in_any_fold_changes_no_bit",),
    ),
    Mutant(
        "runs: folds stay where a run without them takes the place",
        f"{RUNS}/_replacing.py",
        "for fold in list(_folds(folder)):",
        "for fold in ():",
        (f"{FOLDS}::test_a_run_that_replaces_another_takes_its_folds_too",),
    ),
    Mutant(
        "runs: the value of a smoothed loss is the smoothed one",
        f"{RUNS}/_losses.py",
        "            return loss, super().__call__(y, target)[1]\n",
        "            return super().__call__(y, target)\n",
        (f"{TRAINING}::test_losses_are_those_without_smoothing",),
    ),
    Mutant(
        "runs: the gradient of a scaled loss is scaled too",
        f"{RUNS}/_losses.py",
        "        return float(loss) * self.square, dy\n",
        "        return float(loss) * self.square, dy * self.square\n",
        (f"{TRAINING}::test_a_loss_in_another_unit",),
    ),
    Mutant(
        "runs: classes such as 007 become numbers",
        f"{RUNS}/_labels.py",
        "return str(int(name)) == name and -LARGEST <= int(name) < LARGEST",
        "return -LARGEST <= int(name) < LARGEST",
        (f"{PREDICT}::test_classes_come_back_as_they_were",),
    ),
    Mutant(
        "runs: --held-out of other data is evaluated",
        f"{RUNS}/_evaluation.py",
        "    if held_out and not same:\n",
        "    if False:\n",
        (f"{PREDICT}::test_evaluate_says_what_was_trained_on",),
    ),
    Mutant(
        "runs: a resume goes on with other contents of the file",
        f"{RUNS}/_recipe.py",
        'folder.record.get("contents", contents) != contents',
        'folder.record.get("contents", contents) is None',
        (f"{OWN_RUNS}::test_a_resume_of_a_table_with_other_contents_is_refused",),
    ),
    Mutant(
        "runs: two that begin at once may share a directory",
        "python/onepass/_files.py",
        "kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX",
        "kind = fcntl.LOCK_SH",
        (f"{OWN_RUNS}::test_two_runs_at_once_do_not_share_a_directory",),
    ),
    # ------------------------------------------------------------------------------------- ops
    Mutant(
        "ops: gradients are multiplied by their scale",
        f"{OPS}/_step.py",
        "        unscale = 1.0 / scale\n",
        "        unscale = scale\n",
        (f"{RIDERS}::test_unscale_then_clip_values_then_clip_the_norm",),
    ),
    Mutant(
        "ops: nonfinite='raise' skips in silence",
        f"{OPS}/_step.py",
        "    if skipped and raises:\n",
        "    if skipped and not checks:\n",
        (f"{RIDERS}::test_a_step_that_raises_leaves_the_gradients",),
    ),
    Mutant(
        "ops: a max_norm of 0 is taken",
        f"{OPS}/_step.py",
        "    if not number > 0:\n",
        "    if not number >= 0:\n",
        ("tests/test_errors.py::test_wrong_call",),
    ),
    Mutant(
        "ops: an unknown option of a step is ignored",
        f"{OPS}/_step.py",
        "    if unknown := sorted(set(given).difference(Controls._fields)):\n",
        "    given = {k: given[k] for k in Controls._fields if k in given}\n"
        "    if unknown := ():\n",
        ("tests/test_errors.py::test_wrong_call",),
    ),
    Mutant(
        "ops: the first of two rows with one index is lost",
        f"{OPS}/_rows.py",
        "    first[1:] = sorted_indices[1:] != sorted_indices[:-1]\n",
        "    first[1:] = True\n",
        (f"{SPARSE}::test_sixty_steps_are_the_formula",),
    ),
    Mutant(
        "ops: a row behind the last is taken",
        f"{OPS}/_rows.py",
        "int(indices.max()) < shape[0]):",
        "int(indices.max()) <= shape[0]):",
        (f"{SPARSE}::test_what_is_no_sparse_gradient_is_refused_and_changes_nothing",),
    ),
    Mutant(
        "ops: zero_grad fills the indices of a sparse gradient",
        f"{OPS}/_rows.py",
        "        copy_into(grad[1], 0.0)\n",
        "        copy_into(grad[0], 0)\n",
        (f"{SPARSE}::test_zero_grad_fills_values_with_zeros",),
    ),
    Mutant(
        "ops: Muon's rate follows the shorter side",
        f"{OPS}/_muon.py",
        '"match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),',
        '"match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(min(rows, columns)),',
        (f"{MUON}::test_sixty_steps_are_the_formula_and_adamw",),
    ),
    Mutant(
        "ops: Muon's squares of a large direction overflow",
        f"{OPS}/_muon.py",
        "    x = x / largest\n",
        "    largest = lib.ones_like(largest)\n",
        (f"{MUON}::test_directions_are_those_of_the_singular_vectors",),
    ),
    # ----------------------------------------------------------------------------------- torch
    Mutant(
        "torch: the negative gradient goes to the input",
        f"{TORCH}/nn/_loss_functions.py",
        "return [scaled, -scaled] if wanted[0]",
        "return [-scaled, scaled] if wanted[0]",
        (f"{TORCH_NN}::test_pointwise_losses_are_torchs",),
    ),
    Mutant(
        "torch: the incoming gradient is not applied to a loss",
        f"{TORCH}/nn/_loss_functions.py",
        "    return dinput * (dy.unsqueeze(1) if per_row else dy).to(dinput.dtype)\n",
        "    return dinput\n",
        (f"{TORCH_NN}::test_losses_of_classes_are_torchs",),
    ),
    Mutant(
        "torch: the cumulative average of a batch norm counts from 0",
        f"{TORCH}/nn/_norm_function.py",
        "1.0 / max(int(batches), 1)",
        "1.0 / (int(batches) + 1)",
        (f"{TORCH_NN}::test_momentum_and_statistics_of_batch_norm",),
    ),
    Mutant(
        "torch: backward of dropout draws another mask",
        f"{TORCH}/nn/_elementwise.py",
        "_DROPOUTS[kind][1](dy, _like(dy), p, as_word(seed), 0, 0)],",
        "_DROPOUTS[kind][1](dy, _like(dy), p, as_word(seed), 1, 0)],",
        (f"{TORCH_NN}::test_dropout_follows_torchs_generator",),
    ),
    Mutant(
        "torch: channels_last is copied",
        f"{TORCH}/nn/_norm_function.py",
        "    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()\n",
        "    return False\n",
        (f"{TORCH_NN}::test_channels_last_stays_so_and_takes_no_copy",),
    ),
    Mutant(
        "torch: losses of 16 bits are not widened under autocast",
        f"{TORCH}/nn/_loss.py",
        "    narrow = x.dtype is torch.float16 or (x.dtype is torch.bfloat16 and is_cast(x))\n",
        "    narrow = x.dtype is torch.float16\n",
        (f"{TORCH_NN}::test_autocast_widens_losses_and_leaves_norms",),
    ),
    Mutant(
        "torch: losses of float16 round their gradient before the loss scale",
        f"{TORCH}/nn/_loss.py",
        "    narrow = x.dtype is torch.float16 or (x.dtype is torch.bfloat16 and is_cast(x))\n",
        "    narrow = is_cast(x)\n",
        (f"{TORCH_NN}::test_losses_of_long_batches_and_a_loss_scale",),
    ),
    Mutant(
        "torch: evaluation counts batches",
        f"{TORCH}/nn/_norm.py",
        "        elif self.training and batches is not None:",
        "        elif batches is not None:",
        (f"{TORCH_NN}::test_norms_are_torchs_in_training_and_evaluation",),
    ),
    Mutant(
        "torch: the scaler reads all gradients before the step",
        f"{TORCH}/_grad_scaler.py",
        "        if not isinstance(optimizer, Optimizer) or self._scale is None:\n",
        "        if True:\n",
        (f"{SCALER}::test_our_scaler_leaves_the_check_to_the_step",),
    ),
    Mutant(
        "torch: fuse takes activations with hooks",
        f"{TORCH}/_patterns.py",
        "    if type(module) not in _ACTIVATIONS or entangled(module, Counter()):\n",
        "    if type(module) not in _ACTIVATIONS:\n",
        (f"{FUSE}::test_activations_with_hooks_are_not_absorbed",),
    ),
    Mutant(
        "torch: fuse takes a norm that is used at two places",
        f"{TORCH}/_fused_norm.py",
        "    if uses[id(module)] > 1:\n",
        "    if uses[id(module)] > 2:\n",
        (f"{FUSE}::test_what_cannot_be_fused_is_left_alone_and_said",),
    ),
    Mutant(
        "torch: fuse moves a norm past a write",
        f"{TORCH}/_patterns.py",
        "if _writes(other, parent) or any(a in read",
        "if any(a in read",
        (f"{FUSE}::test_a_write_by_another_name_is_not_moved_before",),
    ),
    Mutant(
        "torch: a norm with what is added as another pass does not drop",
        f"{TORCH}/_fused_norm.py",
        "        return y if seed is None else drop(",
        "        return y if True else drop(",
        (f"{FUSE}::test_what_is_set_on_a_norm_with_an_addition_holds_for_all_that_is_added",),
    ),
    Mutant(
        "torch: fuse overwrites attributes of users",
        f"{TORCH}/_fused_norm.py",
        "    if taken := sorted(vars(module).keys() & _names_of_ours()):\n",
        "    if taken := []:\n",
        (f"{FUSE}::test_what_cannot_be_fused_is_left_alone_and_said",),
    ),
    Mutant(
        "torch: a recording takes what another tool has put into Module away",
        f"{TORCH}/_recorded.py",
        "        if former is None:\n",
        "        if True:\n",
        (
            "tests/test_torch_fuse_hostile.py::test_a_recording_leaves_other_tools_and_threads_alone",
        ),
    ),
    Mutant(
        "torch: vmap over no samples gives one",
        f"{TORCH}/_operators.py",
        "torch.empty((0, *t.shape)",
        "torch.empty((1, *t.shape)",
        ("tests/test_torch_nn_transforms.py::test_no_samples_have_no_results",),
    ),
    Mutant(
        "torch: the mask of a norm with the channels last follows the memory",
        f"{TORCH}/nn/_norm_function.py",
        "        return (_C.dropout(y, y, p, seed, offset, first) if p else y), saved\n",
        "        z = y.movedim(1, -1)\n"
        "        z = _C.dropout(z, z, p, seed, offset, first)\n"
        "        return (z.movedim(-1, 1) if p else y), saved\n",
        (f"{TORCH_NN}::test_a_mask_is_that_of_elements_wherever_they_lie",),
    ),
    Mutant(
        "torch: tanh keeps its input",
        f"{TORCH}/nn/_elementwise.py",
        '_OF_RESULT = {*_C.activation_backward_y, "relu"}',
        '_OF_RESULT = {"sigmoid", "relu"}',
        (
            "tests/test_torch_nn_training.py::test_an_activation_between_layers_keeps_no_more_than_torchs",
        ),
    ),
    Mutant(
        "torch: bias and relu go backward from the product, which is the result",
        f"{TORCH}/nn/_elementwise.py",
        "    added = torch.zeros_like(bias) if name in _PASSES else bias\n",
        "    added = bias\n",
        (f"{TORCH_NN}::test_linear_with_its_epilogue",),
    ),
    Mutant(
        "torch: eps asks for the name of the caller alone",
        f"{TORCH}/nn/_norm.py",
        "    return project in _PROJECTS and any(",
        "    return any(",
        (f"{TORCH_NN}::test_eps_asks_who_reads_it_and_not_what_he_is_called",),
    ),
    Mutant(
        "torch: weight norm exchanges length and direction",
        f"{TORCH}/nn/_weight_norm.py",
        "        return _lengths(weight, self.dim), weight\n",
        "        return weight, _lengths(weight, self.dim)\n",
        ("tests/test_torch_nn_own.py::test_weight_norm_has_torchs_state_both_ways",),
    ),
    Mutant(
        "torch: decorrelated batch norm scales eps of small numbers out of range",
        f"{TORCH}/nn/_decorrelated.py",
        "    largest = centred.abs().amax().clamp(min=math.sqrt(eps))\n",
        "    largest = centred.abs().amax()\n",
        ("tests/test_torch_nn_own.py::test_decorrelated_batch_norm_of_any_magnitude",),
    ),
]
