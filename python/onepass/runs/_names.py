"""The files that a run keeps in its folder."""

from __future__ import annotations

from onepass.train._history import FILE

MODEL = "model.npz"  # all that a prediction needs
HISTORY = FILE  # as a Trainer with a log_dir writes it
START = "start.npz"  # the model that a run with --init-from began with
RECORD = "run.json"  # the options, the data, the result
HELD_OUT = "held_out.csv"  # what is predicted for the part that no training has seen
CURVES, DIAGNOSIS = "curves.png", "diagnosis.png"
CONFUSION, RESIDUALS = "confusion.png", "residuals.png"  # of the held-out part
PICTURES = (CURVES, DIAGNOSIS, CONFUSION, RESIDUALS)
REPORT = "report.html"  # of `onepass report`
CHECKPOINTS = "checkpoints"  # a folder, from which a resume goes on
FOLDS = "folds"  # a folder with a run for each fold of a cross-validation: 1, 2, …
BEST = "best"  # in the folder of a search: its best run
FILES = (MODEL, START, HISTORY, HELD_OUT, *PICTURES, REPORT, CHECKPOINTS, RECORD)
