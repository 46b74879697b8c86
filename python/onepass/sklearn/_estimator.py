"""What both estimators share: their parameters, and how a network is fitted."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from onepass import _environment
from onepass._caller import stacklevel
from onepass._keywords import suggest_keywords
from onepass.data import split_indices
from onepass.sklearn import _optimizers, _weights
from onepass.sklearn._network import Network
from onepass.sklearn._options import Options
from onepass.train._blas import one_thread

ELSEWHERE = {  # parameters of scikit-learn's that have another name here
    "solver": "optimizer, such as optimizer='adam', 'sgd' or 'lbfgs'",
    "max_fun": "max_iter: a step of 'lbfgs' evaluates the loss at most 25 times",
    "loss": "none: the loss is the squared error",
}


def unchanged_on_error(method: Callable[..., Any]) -> Callable[..., Any]:
    """Leave the estimator as it was where a call raises."""

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = vars(self).copy()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return wrapped


def _hinted(init: Callable[..., None]) -> Callable[..., None]:
    """Name the parameter that has another name in scikit-learn."""
    checked = suggest_keywords(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name in ELSEWHERE and name not in inspect.signature(init).parameters:
                raise TypeError(
                    f"{type(self).__name__}: unknown keyword {name!r}, expected {ELSEWHERE[name]}"
                )
        checked(self, *args, **kwargs)

    return wrapped


class MLP(BaseEstimator):
    """Base of both estimators."""

    _scales_targets: ClassVar[bool] = False
    _rates: ClassVar[dict[str, float]] = {}  # of optimizers, where not the class's default
    _network: Network

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__init__ = _hinted(cls.__init__)  # type: ignore[method-assign]

    @unchanged_on_error
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a new network, or with ``warm_start`` go on with the one that is there.

        Args:
            X: (N, features) finite numbers: an array, or a DataFrame, whose names are kept.
            y: (N,) or (N, outputs), as the class says.
            sample_weight: (N,) numbers >= 0: the loss is Σ w l / Σ w. A sample of weight 0 counts
                as one that is not there.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: a parameter, or data that cannot work. FloatingPointError: the
                loss is not finite. The estimator stays as it was.

        Example:
            >>> from onepass.sklearn import MLPClassifier
            >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
            >>> model = MLPClassifier((), optimizer="lbfgs", warm_start=True, random_state=0)
            >>> model.fit(X, y, sample_weight=[1, 1, 0, 5]).score(X, y)
            1.0
            >>> model.fit(X, y).n_iter_ < 20  # it goes on from there
            True
        """
        return self._fit(X, y, sample_weight, goes_on=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool) -> Any:
        with self._repeatable():
            return self._trained(X, y, sample_weight, goes_on=goes_on)

    @contextmanager
    def _repeatable(self) -> Iterator[None]:
        """Around all that computes: with a ``random_state`` NumPy's BLAS has one thread, on whose
        number the bits of large products depend."""
        if self.random_state is None or _environment.keeps_blas_threads():
            yield
            return
        with one_thread(f"{type(self).__name__}: 'random_state'") as unset:
            if unset:
                warnings.warn(unset, RuntimeWarning, stacklevel=stacklevel())
            yield

    def _trained(self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool) -> Any:
        options = Options.of(self)
        full_batch = self._check_parts(options)
        fresh = not (hasattr(self, "_network") and (goes_on or self.warm_start))
        if not fresh:
            self._check_same_network(options)
        X, y = self._validated(X, y, reset=fresh)
        _refuse_masked(self, sample_weight=sample_weight)
        weight = _weights.of_samples(options.owner, sample_weight, len(X))
        y, weight = self._encoded(options, y, weight, fresh=fresh, incremental=goes_on)
        X, y, weight = _counted(X, y, weight)
        if fresh:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            dtype = "float32" if X.dtype == np.float32 else "float64"
            network = self._new_network(options, X, y, seed, dtype)
        else:
            network = self._network if goes_on else self._network.copied()
            network.follow(self)
        held_out = None
        if options.early_stopping and not goes_on:
            X, y, weight, held_out = self._split(options, X, y, weight, network.trainer.seed)
        if fresh and options.standardize:
            network.scale(X, y, weight, targets=self._scales_targets)
        converged = network.train(
            options,
            X,
            y,
            weight,
            epochs=1 if goes_on else options.max_iter,
            full_batch=full_batch,
            goes_on=goes_on,
            score=None
            if held_out is None
            else functools.partial(self._score_of, network, *held_out),
        )
        self._network = network
        self._note(options, goes_on)
        if not (converged or goes_on):
            warnings.warn(
                f"{options.owner}: max_iter={options.max_iter} epochs are done and the "
                f"{'score' if options.early_stopping else 'loss'} still improves; pass a larger "
                "max_iter for a better fit",
                ConvergenceWarning,
                stacklevel=stacklevel(),
            )
        return self

    def _check_parts(self, options: Options) -> bool:
        """Whether steps are of all samples; refuses what these cannot have."""
        _optimizers.chosen(self)
        if not _optimizers.is_lbfgs(self):
            return False
        wanted = {"batch_size": "auto", "learning_rate": "constant"}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{options.owner}: {name!r} is {getattr(self, name)!r}, expected {value!r} "
                    "with optimizer='lbfgs', whose steps are of all samples and seek their length"
                )
        return True

    def _check_same_network(self, options: Options) -> None:
        names = ("hidden_layer_sizes", "activation", "norm", "dropout", "standardize", "device")
        for name, before, now in zip(names, self._network.made_with, options.network, strict=True):
            if before != now:
                raise ValueError(
                    f"{options.owner}: {name!r} is {now!r}, expected {before!r} as in the network "
                    "that is to be trained on; fit with warm_start=False makes a new one"
                )

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        _refuse_masked(self, X=X, y=y)
        refuse_times(type(self).__name__, "X", X)
        dtypes = (np.float64, np.float32)
        numeric = self._scales_targets
        X, y = validate_data(
            self,
            X,
            y,
            dtype=dtypes,
            order="C",  # sums over rows depend on it: a DataFrame gives the bits of its array
            multi_output=True,
            y_numeric=numeric,
            reset=reset,
        )
        return X, y

    def _input(self, X: Any) -> Any:
        """``X`` of a prediction."""
        check_is_fitted(self)
        _refuse_masked(self, X=X)
        refuse_times(type(self).__name__, "X", X)
        return validate_data(self, X, dtype=(np.float64, np.float32), order="C", reset=False)

    def _new_network(self, options: Options, X: Any, y: Any, seed: int, dtype: str) -> Network:
        self.n_outputs_ = y.shape[1] if y.ndim > 1 else len(self.classes_)
        self.n_layers_ = len(options.hidden) + 2
        loss = self._loss()
        return Network(self, options, X.shape[1], self.n_outputs_, loss, seed, dtype)

    def _split(
        self, options: Options, X: Any, y: Any, weight: Any, seed: int
    ) -> tuple[Any, Any, Any, tuple[Any, Any, Any]]:
        """The training part, and what is held out."""
        share = options.validation_fraction
        count = round(share * len(X))
        if not 2 <= count < len(X):
            raise ValueError(
                f"{options.owner}: 'validation_fraction' is {share}, which holds out {count} of "
                f"{len(X)} samples, expected at least 2 and some to train on"
            )
        strata = self._strata(y)
        labels = y if strata is None else strata
        train, rest = split_indices(
            labels, share, stratify=False if strata is None else None, seed=seed
        )
        weights = (None, None) if weight is None else (weight[train], weight[rest])
        return X[train], y[train], weights[0], (X[rest], y[rest], weights[1])

    def _note(self, options: Options, goes_on: bool) -> None:
        record, network = self._network.record, self._network
        self.n_iter_ = network.epochs
        self.t_ = record.samples
        self.loss_curve_ = list(record.losses)
        self.loss_ = record.losses[-1]
        early = options.early_stopping and not goes_on
        self.best_loss_ = None if early else min(record.losses)
        self.validation_scores_ = list(record.scores) if early else None
        self.best_validation_score_ = max(record.scores) if early else None

    # ---- of the subclass

    def _encoded(
        self, options: Options, y: Any, weight: Any, *, fresh: bool, incremental: bool
    ) -> tuple[Any, Any]:
        """``y`` as the loss takes it, and the weight of each sample or None."""
        raise NotImplementedError

    def _loss(self) -> Any:
        """Of ``onepass.nn``."""
        raise NotImplementedError

    def _strata(self, y: Any) -> Any:
        """What the held-out part has its share of, or None."""
        return None

    def _score_of(self, network: Network, X: Any, y: Any, weight: Any) -> float:
        """Of a network on the held-out part, whose ``y`` is encoded."""
        raise NotImplementedError

    # ---- what was learnt

    @property
    def model_(self) -> Any:
        """The network, an ``nn.Sequential``; what goes in and comes out of it is scaled."""
        return self._learnt("model_").model

    @property
    def coefs_(self) -> list[Any]:
        """The weights of each linear layer, (in, out), for inputs and outputs as they are: without
        ``norm``, ``h = activation(h @ coefs_[i] + intercepts_[i])`` gives the predictions."""
        return [weight for weight, _ in self._layers("coefs_")]

    @property
    def intercepts_(self) -> list[Any]:
        """The bias of each linear layer, (out,), as those of ``coefs_``."""
        return [bias for _, bias in self._layers("intercepts_")]

    def _layers(self, name: str) -> list[tuple[Any, Any]]:
        network = self._learnt(name)
        with self._repeatable():
            return network.layers()

    def _learnt(self, name: str) -> Network:
        network: Network | None = vars(self).get("_network")
        if network is None:
            raise AttributeError(f"{type(self).__name__}: {name!r} is there after fit")
        return network

    def __sklearn_is_fitted__(self) -> bool:
        return "_network" in vars(self)


def refuse_times(owner: str, name: str, array: Any) -> None:
    """Refuse times and durations, which would be counted in units that nobody has chosen."""
    of_columns = getattr(array, "dtypes", None)  # of a DataFrame
    for dtype in (
        of_columns if isinstance(of_columns, Iterable) else [getattr(array, "dtype", None)]
    ):
        if getattr(dtype, "kind", None) in ("m", "M"):
            raise TypeError(
                f"{owner}: {name!r} has {dtype}, expected numbers, such as "
                "(t - t.min()) / numpy.timedelta64(1, 'D')"
            )


def _refuse_masked(estimator: Any, **arrays: Any) -> None:
    """Refuse masked arrays, whose masks scikit-learn's checks drop."""
    for name, array in arrays.items():
        if hasattr(array, "filled"):
            raise TypeError(
                f"{type(estimator).__name__}: {name!r} is a {type(array).__name__}, expected an "
                f"array without a mask: {name}.filled(value), or the rows that are whole"
            )


def _counted(X: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    """The samples whose weight is not 0."""
    if weight is None or weight.all():
        return X, y, weight
    there = weight > 0
    return X[there], y[there], weight[there]


def can_go_on(estimator: Any) -> bool:
    """Whether the optimizer can step on a part of the data; AttributeError where it cannot."""
    if _optimizers.is_lbfgs(estimator):
        raise AttributeError(
            f"{type(estimator).__name__}: 'partial_fit' needs an optimizer that steps on a part of "
            "the data, and optimizer='lbfgs' compares losses of all; expected another, as 'adam'"
        )
    return True


def check_incremental(estimator: Any) -> None:
    """Refuse what ``partial_fit`` cannot do."""
    if estimator.early_stopping:
        raise ValueError(
            f"{type(estimator).__name__}: 'early_stopping' is True, expected False with "
            "partial_fit, which holds out nothing"
        )
