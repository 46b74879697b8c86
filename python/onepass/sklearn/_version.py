"""Refuses to go on without scikit-learn, or with one before 1.6.

That is the first with ``__sklearn_tags__`` and ``validate_data``, which these estimators are made
of: older ones have other ways for both, and for ``check_estimator``.
"""

from __future__ import annotations

LEAST = (1, 6)
CURE = "onepass.sklearn needs scikit-learn 1.6 or later: pip install 'scikit-learn>=1.6'"

try:
    from sklearn import __version__ as found
except ImportError as error:
    raise ImportError(CURE) from error
if tuple(map(int, found.split(".")[:2])) < LEAST:
    raise ImportError(f"{CURE} ({found} is installed)")
