"""Networks as scikit-learn's estimators, for pipelines, grid search and cross-validation.

They need scikit-learn 1.6 or later, the first with ``__sklearn_tags__`` and ``validate_data``.
"""

LEAST = (1, 6)
_CURE = "onepass.sklearn needs scikit-learn 1.6 or later: pip install 'scikit-learn>=1.6'"

try:
    from sklearn import __version__ as _found
except ImportError as error:
    raise ImportError(_CURE) from error
if tuple(map(int, _found.split(".")[:2])) < LEAST:
    raise ImportError(f"{_CURE} ({_found} is installed)")

from onepass.sklearn._classifier import MLPClassifier
from onepass.sklearn._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
