"""Training: the loop, its history, callbacks, checkpoints, and a learning-rate finder."""

from onepass.train import regularizers
from onepass.train._callbacks import Callback, CSVLogger, EarlyStopping, TerminateOnNaN
from onepass.train._checkpoint import Checkpoint
from onepass.train._confusion import (
    ClassificationReport,
    classification_report,
    confusion_matrix,
)
from onepass.train._diagnosis import Diagnosis
from onepass.train._ensemble import Ensemble
from onepass.train._history import History
from onepass.train._lr_curve import LRFinderResult
from onepass.train._lr_finder import LRFinder, find_lr
from onepass.train._profile import Profile
from onepass.train._progress import ProgressBar
from onepass.train._residuals import RegressionReport, regression_report
from onepass.train._restarts import Restart, Restarts, restarts
from onepass.train._run import Run
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
    "ClassificationReport",
    "Diagnosis",
    "EarlyStopping",
    "Ensemble",
    "GradientTolerance",
    "History",
    "LRFinder",
    "LRFinderResult",
    "Profile",
    "ProgressBar",
    "RegressionReport",
    "Restart",
    "Restarts",
    "Run",
    "TensorBoard",
    "TerminateOnNaN",
    "Trainer",
    "classification_report",
    "confusion_matrix",
    "find_lr",
    "regression_report",
    "regularizers",
    "restarts",
    "verdict",
]
