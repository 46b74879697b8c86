"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from onepass import nn
from onepass._docs import shares
from onepass.runs._options import ADAM_LR
from onepass.sklearn import _weights
from onepass.sklearn._docs import PARAMETERS
from onepass.sklearn._estimator import MLP, can_go_on, check_incremental, unchanged_on_error
from onepass.sklearn._losses import LogLoss
from onepass.sklearn._network import Network
from onepass.sklearn._options import Options


@shares(PARAMETERS)
class MLPClassifier(ClassifierMixin, MLP):
    """A multilayer perceptron for classes: h = act(W h + b) in each hidden layer, p = softmax(W h +
    b).

    It minimises Σᵢ wᵢ·(-log p(yᵢ)) / Σᵢ wᵢ + alpha / (2 S)·ΣW² by steps over batches, in the dtype
    of X (float32 stays so, everything else is float64). Two classes have one output, p = σ(W h +
    b), and so has each label where y is (N, labels) of 0 and 1; its loss is the sum over labels.

    Parameters are scikit-learn's where its MLPClassifier has them (``optimizer`` is its
    ``solver``), and are checked in ``fit``. What an optimizer does not have is refused. With a
    ``random_state`` results are functions of it, the data and the parameters, whatever the number
    of threads.

    Attributes:
        classes_: the classes in order, of several labels their numbers.
        n_features_in_, feature_names_in_: of X; names where it is a DataFrame.
        n_outputs_, n_layers_, out_activation_: outputs, layers with those of inputs and outputs,
            "softmax" or "logistic".
        n_iter_, t_: epochs of the last call, samples seen in all.
        loss_, loss_curve_, best_loss_: the loss with its penalty in the last epoch, in each epoch,
            and the least one (None with early_stopping).
        validation_scores_, best_validation_score_: the accuracy of what is held out, each epoch,
            and the best one; None without early_stopping.
        coefs_, intercepts_: weights (in, out) and biases of the linear layers, for inputs as they
            are, whatever ``standardize``.
        model_: the network, an ``nn.Sequential``.

    Args:
        class_weight: {class: weight} (1 for others), or "balanced" for Σw / (classes · Σw of the
            class): multiplies the weight of each sample.

    Raises:
        TypeError, ValueError: in ``fit``, a parameter of another type or out of range.

    Source: Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, 1986;
    scikit-learn's MLPClassifier.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.model_selection import cross_val_score
        >>> from onepass.sklearn import MLPClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> model = MLPClassifier(max_iter=50, tol=0.01, random_state=0)
        >>> bool(cross_val_score(model, X, y, cv=3).mean() > 0.95)
        True

        In a pipeline, whose parameters a search chooses, and which can be pickled:

        >>> import pickle
        >>> from sklearn.model_selection import GridSearchCV
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import PowerTransformer
        >>> pipeline = make_pipeline(PowerTransformer(), model)
        >>> weights = {"mlpclassifier__class_weight": ["balanced", {0: 1, 1: 2, 2: 1}]}
        >>> search = GridSearchCV(pipeline, weights, cv=2, scoring="neg_log_loss").fit(X, y)
        >>> again = pickle.loads(pickle.dumps(search.best_estimator_))
        >>> bool((again.predict_proba(X) == search.predict_proba(X)).all())
        True
    """

    _rates: ClassVar[dict[str, float]] = {"adamw": ADAM_LR}
    classes_: Any
    _multilabel: bool

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        norm: str | None = None,
        dropout: float = 0.0,
        standardize: bool = True,
        optimizer: Any = "adamw",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float | None = None,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float | None = None,
        nesterovs_momentum: bool | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        weight_decay: float | None = None,
        n_iter_no_change: float = 10,
        class_weight: Any = None,
        device: str = "cpu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.norm = norm
        self.dropout = dropout
        self.standardize = standardize
        self.optimizer = optimizer
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.device = device

    @available_if(can_go_on)
    @unchanged_on_error
    def partial_fit(self, X: Any, y: Any, *, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one epoch on these data, going on from what is there.

        With an integer ``random_state``, n calls with the same data give what a ``fit`` of n epochs
        gives, bit for bit. The scales of the inputs are those of the first call.

        Args:
            X, y, sample_weight: as of ``fit``; y may lack classes.
            classes: all classes, needed by the first call; of several labels their numbers.

        Returns:
            The estimator.

        Raises:
            As ``fit``. The steps before a loss that is not finite are taken.

        Example:
            >>> import numpy as np
            >>> from onepass.sklearn import MLPClassifier
            >>> X = np.linspace(-1, 1, 100)[:, None]
            >>> y = np.where(X[:, 0] > 0, "yes", "no")
            >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0)
            >>> for _ in range(20):
            ...     for part in (slice(None, None, 2), slice(1, None, 2)):
            ...         model = model.partial_fit(X[part], y[part], classes=["no", "yes"])
            >>> model.score(X, y) > 0.95
            True
        """
        check_incremental(self)
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"MLPClassifier: 'class_weight' is {self.class_weight!r}, expected a dict with "
                "partial_fit, which sees a part of the classes: make it with "
                "sklearn.utils.class_weight.compute_class_weight"
            )
        first = not self.__sklearn_is_fitted__()
        if classes is None and first:
            raise ValueError(
                "MLPClassifier: 'classes' is None, expected all classes in the first call of "
                "partial_fit, such as np.unique(all_y)"
            )
        if classes is not None:
            given = np.asarray(classes)
            if given.ndim != 1 or not given.size:
                raise ValueError(
                    f"MLPClassifier: 'classes' is {classes!r}, expected a list of all classes, "
                    "such as np.unique(all_y)"
                )
            classes = np.unique(given)
            if not first and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"MLPClassifier: 'classes' is {classes.tolist()}, expected those of the first "
                    f"call: {self.classes_.tolist()}"
                )
            self.classes_ = classes
        return self._fit(X, y, sample_weight, goes_on=True)

    def predict(self, X: Any) -> Any:
        """The class of each sample, (N,); of several labels 1 where it has the label, (N, labels).

        Raises:
            sklearn.exceptions.NotFittedError: before fit. TypeError, ValueError: X is not like that
                of fit.
        """
        outputs = self._outputs(X)
        if self._multilabel:
            return (outputs > 0).astype(np.int64)
        return self.classes_[self._index(outputs)]

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, (N, classes), in the order of ``classes_``.

        Of several labels that of each label, which need not add up to 1.

        Raises:
            As ``predict``.

        Example:
            >>> import numpy as np
            >>> from onepass.sklearn import MLPClassifier
            >>> X, y = np.zeros((4, 1)), ["a", "b", "b", "b"]  # nothing tells them apart
            >>> model = MLPClassifier(optimizer="lbfgs", alpha=0, tol=1e-12, random_state=0)
            >>> model.fit(X, y).predict_proba(X[:1]).round(3)
            array([[0.25, 0.75]])
        """
        return np.exp(self._log_proba(X)).astype(self._network.dtype)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of ``predict_proba``, finite also where that is 0.

        Raises:
            As ``predict``.
        """
        return self._log_proba(X).astype(self._network.dtype)

    def decision_function(self, X: Any) -> Any:
        """The log-odds of the second of two classes, (N,), or of each label, (N, labels); of more
        classes the outputs before the softmax, (N, classes).

        Raises:
            As ``predict``.
        """
        z = self._outputs(X).astype(self._network.dtype)
        return z if self._multilabel or len(self.classes_) > 2 else z[:, 0]

    def _log_proba(self, X: Any) -> Any:
        z = self._outputs(X)
        if self._multilabel:
            return -np.logaddexp(0, -z)
        if len(self.classes_) == 2:
            return -np.logaddexp(0, np.hstack([z, -z]))
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    def _index(self, outputs: Any) -> Any:
        """The place of the likeliest class."""
        if len(self.classes_) == 2:
            return (outputs[:, 0] > 0).astype(np.int64)
        return outputs.argmax(axis=1)

    def _outputs(self, X: Any) -> Any:
        X = self._input(X)
        with self._repeatable():
            return self._network.outputs(X)

    def _encoded(
        self, options: Options, y: Any, weight: Any, *, fresh: bool, incremental: bool
    ) -> tuple[Any, Any]:
        owner = options.owner
        if hasattr(y, "toarray"):
            raise TypeError(
                f"{owner}: 'y' is a {type(y).__name__}, expected a dense array: y.toarray()"
            )
        if y.dtype.kind == "O":
            _refuse_mixed(owner, y)
        check_classification_targets(y)
        multilabel = type_of_target(y) == "multilabel-indicator"
        if y.ndim == 2 and not multilabel:
            if y.shape[1] > 1:
                raise ValueError(
                    f"{owner}: 'y' has shape {y.shape} and more classes than 0 and 1 in a column, "
                    "expected one class for each sample, or labels that are 0 or 1; "
                    "sklearn.multioutput.MultiOutputClassifier takes several classes"
                )
            y = column_or_1d(y, warn=True)
        if fresh:
            self._multilabel = multilabel
            if not incremental:
                self.classes_ = np.arange(y.shape[1]) if multilabel else np.unique(y)
            self.out_activation_ = (
                "logistic" if multilabel or len(self.classes_) == 2 else "softmax"
            )
        elif multilabel != self._multilabel:
            raise ValueError(
                f"{owner}: 'y' has {'several labels' if multilabel else 'one class'} a sample, "
                f"expected {'one class' if multilabel else 'several labels'} as in the first fit"
            )
        if multilabel:
            return self._labels(owner, y, weight)
        index = self._indices(owner, y)
        if not (fresh or incremental):
            self._refuse_fewer(owner, index)
        if self.class_weight is not None:
            by_class = _weights.of_classes(owner, self.class_weight, self.classes_, index, weight)
            weight = by_class[index] if weight is None else by_class[index] * weight
            _weights.refuse_nothing(owner, "class_weight", weight)
        return (index[:, None].astype(float) if len(self.classes_) == 2 else index), weight

    def _labels(self, owner: str, y: Any, weight: Any) -> tuple[Any, Any]:
        if y.shape[1] != len(self.classes_):
            raise ValueError(
                f"{owner}: 'y' has {y.shape[1]} labels a sample, expected {len(self.classes_)}"
            )
        if self.class_weight is not None:
            raise ValueError(
                f"{owner}: 'class_weight' is {self.class_weight!r}, expected None with several "
                "labels a sample; pass sample_weight to fit"
            )
        given = y.astype(float)
        if (wrong := given[(given != 0) & (given != 1)]).size:
            raise ValueError(
                f"{owner}: 'y' has {wrong[0]:g} among its labels, expected 0 or 1 for each label "
                "of a sample: (y > 0).astype(int) makes them of -1 and 1"
            )
        return given, weight

    def _indices(self, owner: str, y: Any) -> Any:
        """The place of each class in ``classes_``."""
        known = np.isin(y, self.classes_)
        if not known.all():
            strange = y[~known].tolist()[0]
            raise ValueError(
                f"{owner}: 'y' has the class {strange!r}, expected those of the first fit, or of "
                f"'classes' in the first partial_fit: {self.classes_.tolist()}"
            )
        return np.searchsorted(self.classes_, y)

    def _refuse_fewer(self, owner: str, index: Any) -> None:
        """Refuse a fit that would go on without some of the classes."""
        known = self.classes_.tolist()
        lacking = [known[i] for i in np.setdiff1d(np.arange(len(known)), index)]
        if lacking:
            raise ValueError(
                f"{owner}: 'y' lacks {', '.join(map(repr, lacking))}, expected the classes of the "
                f"last fit with warm_start=True: {known}; partial_fit takes a part of them, and "
                "fit with warm_start=False makes a new network"
            )

    def _loss(self) -> Any:
        return LogLoss() if self.out_activation_ == "logistic" else nn.CrossEntropyLoss()

    def _strata(self, y: Any) -> Any:
        if self._multilabel:
            return None
        return y if y.ndim == 1 else y[:, 0].astype(np.int64)

    def _score_of(self, network: Network, X: Any, y: Any, weight: Any) -> float:
        outputs = network.outputs(X)
        if self._multilabel:
            right = ((outputs > 0) == (y > 0)).all(axis=1)
        else:
            right = self._index(outputs) == (y if y.ndim == 1 else y[:, 0])
        return float(np.average(right, weights=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _refuse_mixed(owner: str, y: Any) -> None:
    """Refuse labels that have no order, and so no place in ``classes_``."""
    try:
        np.unique(y)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in y.ravel()}))
        raise TypeError(
            f"{owner}: 'y' has labels of the types {kinds}, expected one type; convert them, such "
            "as to str"
        ) from error
