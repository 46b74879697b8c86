"""In-place optimizer steps, one function each; ``onepass.optim`` has them as classes.

A function is a signature, a docstring and the rule (_rule.py) beside its name; the decorator
(_declare_update.py) adds the descriptions that all share, and the imports to the example. They
stand in a file for each family.
"""

from onepass.ops import (
    _update_adagrad,
    _update_adam,
    _update_lamb_lars,
    _update_lion_rprop,
    _update_schedule_free,
    _update_sgd,
)
from onepass.ops._update_adagrad import *  # noqa: F403
from onepass.ops._update_adam import *  # noqa: F403
from onepass.ops._update_lamb_lars import *  # noqa: F403
from onepass.ops._update_lion_rprop import *  # noqa: F403
from onepass.ops._update_schedule_free import *  # noqa: F403
from onepass.ops._update_sgd import *  # noqa: F403

__all__ = [
    *_update_adagrad.__all__,
    *_update_adam.__all__,
    *_update_lamb_lars.__all__,
    *_update_lion_rprop.__all__,
    *_update_schedule_free.__all__,
    *_update_sgd.__all__,
]
