"""The optimizer of an estimator, from its name or a function, and the parameters about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from onepass import _numbers as numbers
from onepass import optim
from onepass._suggest import suggestion
from onepass.runs._options import optimizers

# scikit-learn's parameter → the optimizer's. The two betas are one option.
PARAMETERS = {
    "learning_rate_init": "lr",
    "momentum": "momentum",
    "nesterovs_momentum": "nesterov",
    "beta_1": "betas",
    "beta_2": "betas",
    "epsilon": "eps",
    "weight_decay": "weight_decay",
}
# What None means where it is not the default of the class: scikit-learn's momentum; a decay that is
# strong, because most tables are small, as that of `onepass train` is.
OWN: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adamw": {"weight_decay": 1.0},
}
# An iteration of scikit-learn's is a step; it ends where the gradient or the change is small.
LBFGS = {
    "max_iter": 1, "max_eval": 25, "history_size": 10, "line_search_fn": "strong_wolfe",
    "tolerance_grad": 0.0, "tolerance_change": 0.0,
}  # fmt: skip


def is_lbfgs(estimator: Any) -> bool:
    """Whether the optimizer steps on the loss of all samples."""
    return isinstance(estimator.optimizer, str) and estimator.optimizer.lower() == "lbfgs"


def made(estimator: Any, model: Any) -> Any:
    """The optimizer of a model; biases and norms are not decayed."""
    make, options = chosen(estimator)
    parameters = model.parameters()
    if options.get("weight_decay"):
        parameters = optim.param_groups(model, lr=1.0, weight_decay=options["weight_decay"])
        for group in parameters:
            del group["lr"]  # the optimizer's, whether it is an option or not
    return make(parameters, **options)


def chosen(estimator: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The optimizer's class, or a function that makes one, and the options that it gets.

    Raises:
        ValueError: an unknown name, or a parameter that it does not have. TypeError: no name and no
            function, or a parameter of another type.
    """
    owner, given = type(estimator).__name__, estimator.optimizer
    make, options = _class_of(owner, given)
    if isinstance(given, str) and given.lower() in estimator._rates:
        options["lr"] = estimator._rates[given.lower()]
    known = inspect.signature(make).parameters
    for name, option in PARAMETERS.items():
        value = getattr(estimator, name)
        if value is None:
            continue
        if option not in known:
            raise ValueError(
                f"{owner}: {name!r} is {value!r}, expected None: {_shown(given)} has no such "
                f"option; {_those_with(option)} do"
            )
        if name == "nesterovs_momentum":
            numbers.flag(owner, name, value)
        elif name == "learning_rate_init":
            numbers.in_range(owner, name, value, above=0)
        if option == "betas":
            place = int(name[-1]) - 1
            pair = list(options.get("betas", known["betas"].default))
            pair[place] = value
            value = tuple(pair)
        options[option] = value
    if options.get("momentum") == 0 and estimator.nesterovs_momentum is None:
        options.pop("nesterov", None)  # which needs one
    return make, options


def _class_of(owner: str, given: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    if callable(given):
        return given, {}
    known = {**optimizers(), "lbfgs": optim.LBFGS}
    if not isinstance(given, str):
        raise TypeError(
            f"{owner}: 'optimizer' is {given!r}, expected a name, such as 'adam', or a function of "
            "parameters that makes one, such as functools.partial(optim.AdamW, weight_decay=0.1)"
        )
    name = given.lower()
    if name not in known:
        raise ValueError(
            f"{owner}: 'optimizer' is {given!r}, expected one of {', '.join(sorted(known))}"
            f"{suggestion(name, known)}"
        )
    return known[name], dict(LBFGS if name == "lbfgs" else OWN.get(name, {}))


def _those_with(option: str) -> str:
    found = [n for n, c in optimizers().items() if option in inspect.signature(c).parameters]
    return ", ".join(sorted(found))


def _shown(given: Any) -> str:
    return repr(given) if isinstance(given, str) else "this optimizer"
