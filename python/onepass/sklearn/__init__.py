"""Networks as scikit-learn's estimators, for pipelines, grid search and cross-validation."""

from onepass.sklearn import _version as _version  # first: it says what is missing
from onepass.sklearn._classifier import MLPClassifier
from onepass.sklearn._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
