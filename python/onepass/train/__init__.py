"""Training: the loop, its history, callbacks, checkpoints, a learning-rate finder, searches."""

from onepass.train import regularizers
from onepass.train._callbacks import Callback, CSVLogger, EarlyStopping, TerminateOnNaN
from onepass.train._checkpoint import Checkpoint
from onepass.train._confusion import (
    ClassificationReport,
    classification_report,
    confusion_matrix,
)
from onepass.train._cross_validation import cross_validate
from onepass.train._diagnosis import Diagnosis
from onepass.train._ensemble import Ensemble
from onepass.train._fold_result import CrossValidation, Fold
from onepass.train._history import History
from onepass.train._lr_curve import LRFinderResult
from onepass.train._lr_finder import LRFinder, find_lr
from onepass.train._profile import Profile
from onepass.train._progress import ProgressBar
from onepass.train._pruners import MedianPruner, SuccessiveHalvingPruner
from onepass.train._residuals import RegressionReport, regression_report
from onepass.train._restarts import Restart, Restarts, restarts
from onepass.train._run import Run
from onepass.train._search import search
from onepass.train._search_result import SearchResult
from onepass.train._search_space import Choice, Integer, LogUniform, Uniform
from onepass.train._search_trial import Trial
from onepass.train._store import CheckpointError
from onepass.train._tensorboard import TensorBoard
from onepass.train._tolerance import GradientTolerance
from onepass.train._trainer import Trainer
from onepass.train._verdict import verdict

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Choice",
    "ClassificationReport",
    "CrossValidation",
    "Diagnosis",
    "EarlyStopping",
    "Ensemble",
    "Fold",
    "GradientTolerance",
    "History",
    "Integer",
    "LRFinder",
    "LRFinderResult",
    "LogUniform",
    "MedianPruner",
    "Profile",
    "ProgressBar",
    "RegressionReport",
    "Restart",
    "Restarts",
    "Run",
    "SearchResult",
    "SuccessiveHalvingPruner",
    "TensorBoard",
    "TerminateOnNaN",
    "Trainer",
    "Trial",
    "Uniform",
    "classification_report",
    "confusion_matrix",
    "cross_validate",
    "find_lr",
    "regression_report",
    "regularizers",
    "restarts",
    "search",
    "verdict",
]
