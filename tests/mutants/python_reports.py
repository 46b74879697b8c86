"""Planted mistakes in what reports of runs and of predictions are made of: see README.md."""

from __future__ import annotations

from mutant import Mutant

PACKAGE = "python/onepass"
NUMBERS = "tests/test_report_numbers.py"
PAGE = "tests/test_report_page.py"
STATES = "tests/test_report_states.py"
BROWSER = "tests/test_report_browser.py"
USE = "tests/test_report_use.py"
FOLDS = "tests/test_report_folds.py"

REPORTS = [
    Mutant(
        "reports: precision is divided by the support",
        f"{PACKAGE}/train/_confusion.py",
        "        self.precision = self._share(right, self.predicted)\n",
        "        self.precision = self._share(right, self.support)\n",
        (f"{NUMBERS}::test_the_numbers_are_those_of_scikit_learn[seven]",),
    ),
    Mutant(
        "reports: what stands for 0/0 has no part in the mean",
        f"{PACKAGE}/train/_confusion.py",
        "        self.macro = {k: _mean(v) for k, v in shares.items()}\n",
        "        self.macro = {k: _mean(v[self.used]) for k, v in shares.items()}\n",
        (f"{NUMBERS}::test_what_is_undefined_counts_as_in_scikit_learn[absent-0]",),
    ),
    Mutant(
        "reports: rows and columns change places",
        f"{PACKAGE}/train/_confusion.py",
        "        found[place[rows[inside]], place[columns[inside]]] = values[inside]\n",
        "        found[place[columns[inside]], place[rows[inside]]] = values[inside]\n",
        (
            f"{NUMBERS}::test_the_numbers_are_those_of_scikit_learn[seven]",
            f"{PAGE}::test_the_matrix_is_that_of_the_predictions",
        ),
    ),
    Mutant(
        "reports: narrow integers overflow before they are counted",
        f"{PACKAGE}/train/_class_indices.py",
        "    return np.where(wrong, -1, order[place]).astype(np.int64)\n",
        "    return np.where(wrong, -1, order[place]).astype(np.int8)\n",
        (f"{NUMBERS}::test_as_many_classes_as_samples_take_little_memory",),
    ),
    Mutant(
        "reports: the folded classes lose their own mistakes",
        f"{PACKAGE}/train/_confusion.py",
        "        return cells.astype(values.dtype).reshape(size, size)\n",
        "        cells[-1] = 0\n        return cells.astype(values.dtype).reshape(size, size)\n",
        (f"{NUMBERS}::test_the_folded_matrix_has_the_whole_sum",),
    ),
    Mutant(
        "reports: residuals are prediction minus target",
        f"{PACKAGE}/train/_residuals.py",
        "            self.residuals: Floats = true - predicted\n",
        "            self.residuals: Floats = predicted - true\n",
        (f"{NUMBERS}::test_residuals_are_those_of_scikit_learn[1]",),
    ),
    Mutant(
        "reports: a wide letter counts as one column",
        f"{PACKAGE}/_text.py",
        'WIDE = ("W", "F")',
        'WIDE = ("F",)',
        (f"{NUMBERS}::test_letters_have_their_widths",),
    ),
    Mutant(
        "reports: characters that move the cursor are printed",
        f"{PACKAGE}/_text.py",
        'in ("Cc", "Cf", "Cs") else c',
        'in ("Cs",) else c',
        (f"{NUMBERS}::test_every_line_fits_the_terminal[8-80]",),
    ),
    Mutant(
        "report page: curves begin at epoch 0",
        f"{PACKAGE}/runs/_report_charts.py",
        "    epochs = np.arange(1, len(numbers) + 1, dtype=np.float64)\n    columns",
        "    epochs = np.arange(len(numbers), dtype=np.float64)\n    columns",
        (f"{PAGE}::test_every_number_is_that_of_the_history[words]",),
    ),
    Mutant(
        "report page: a table's numbers are of the next epoch",
        f"{PACKAGE}/runs/_past.py",
        "        return self.cells[epoch - 1][1 + list(self.names).index(name)]\n",
        "        return self.cells[epoch % len(self)][1 + list(self.names).index(name)]\n",
        (f"{PAGE}::test_every_number_is_that_of_the_history[numbers]",),
    ),
    Mutant(
        "report page: a line bridges epochs without a number",
        f"{PACKAGE}/_svg.py",
        "        stretches = np.searchsorted(gaps, keep)  # which",
        "        stretches = np.searchsorted(gaps[:0], keep)  # which",
        (f"{PAGE}::test_numbers_that_are_none_are_gaps",),
    ),
    Mutant(
        "report page: a long curve loses its extremes",
        f"{PACKAGE}/_svg.py",
        "(order[first], order[last], begin, end, edges, edges + 1)",
        "(begin, end, edges, edges + 1)",
        (f"{PAGE}::test_a_hundred_thousand_epochs",),
    ),
    Mutant(
        "report page: a name ends the script that has the history",
        f"{PACKAGE}/_page.py",
        '.replace("<", "\\\\u003c")',
        "",
        (f"{PAGE}::test_histories_of_few_or_odd_numbers[rows4]",),
    ),
    Mutant(
        "report page: the command leaves out options without a value",
        f"{PACKAGE}/runs/_command_line.py",
        'if name != "data" and value != usual[name]}',
        'if name != "data" and value and value != usual[name]}',
        (f"{USE}::test_the_command_has_the_options_of_the_run[options1]",),
    ),
    Mutant(
        "report page: a run in progress was cut off",
        f"{PACKAGE}/runs/_folder.py",
        "    except BlockingIOError:\n        return True\n    except OSError:\n",
        "    except OSError:\n",
        (f"{STATES}::test_a_run_in_progress",),
    ),
    Mutant(
        "report page: a resume leaves the predictions of before",
        f"{PACKAGE}/runs/_folder.py",
        "        for name in (*PICTURES, HELD_OUT):\n",
        "        for name in PICTURES:\n",
        (f"{STATES}::test_a_resume_takes_the_predictions_away",),
    ),
    Mutant(
        "report page: a resumed run keeps the best epoch of the session before",
        f"{PACKAGE}/runs/_recipe.py",
        "            best_epoch=None,\n",
        "",
        (f"{STATES}::test_the_best_epoch_is_that_of_this_session",),
    ),
    Mutant(
        "reports: labels of ticks have the digits of all the others",
        f"{PACKAGE}/_svg.py",
        "<= 0.01 * gap), repr(value))",
        "<= 100 * gap), repr(value))",
        (f"{PAGE}::test_a_tick_is_where_its_label_says[False-millions]",),
    ),
    Mutant(
        "pages: any script in a page may run",
        f"{PACKAGE}/_page.py",
        "f\"'sha256-{digest}'\"",
        "\"'unsafe-inline'\"",
        (f"{BROWSER}::test_the_policy_lets_no_other_script_run",),
    ),
    Mutant(
        "reports: what was taken for a label by samples of other classes is not counted",
        f"{PACKAGE}/train/_confusion.py",
        "        self.predicted = _counts(predicted, count, weight)\n",
        "        self.predicted = _counts(predicted[inside], count, within)\n",
        (f"{NUMBERS}::test_some_of_the_labels_are_those_of_scikit_learn[of twelve-0]",),
    ),
    Mutant(
        "reports: R² of equal targets that are missed is 1",
        f"{PACKAGE}/train/_metrics.py",
        "        met = np.where((difference == 0).all(axis=0), 1.0, 0.0)\n",
        "        met = np.where((difference == 0).any(axis=0), 1.0, 0.0)\n",
        (f"{NUMBERS}::test_equal_targets_have_the_r2_of_scikit_learn[missed]",),
    ),
    Mutant(
        "report page: a resume leaves the page of before",
        f"{PACKAGE}/runs/_recipe.py",
        "        return [*filter(None, [note, self.renew_page()])]\n",
        "        return [*filter(None, [note])]\n",
        (f"{STATES}::test_a_resume_keeps_the_page_true[finished]",),
    ),
    Mutant(
        "report page: a file of somebody else is taken for a page",
        f"{PACKAGE}/_page.py",
        'return b\'<meta name="generator" content="onepass">\' in file.read(BEGINNING)',
        "return bool(file.read(BEGINNING))",
        (f"{STATES}::test_a_report_of_something_else_stays",),
    ),
    Mutant(
        "report page: a fold links to its page from the folder of the run",
        f"{PACKAGE}/runs/_report.py",
        "file.write(render(past, out.parent).encode",
        "file.write(render(past).encode",
        (f"{FOLDS}::test_a_page_elsewhere_links_to_the_folds",),
    ),
    Mutant(
        "report page: times of folds come behind those of the run",
        f"{PACKAGE}/runs/_report_folds.py",
        "key=times.__getitem__) if folds else range(len(found))",
        "key=lambda i: -i)",
        (f"{FOLDS}::test_a_run_with_folds_says_how_each_went",),
    ),
]
