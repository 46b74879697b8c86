"""The regressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from onepass._docs import shares
from onepass.sklearn._docs import PARAMETERS
from onepass.sklearn._estimator import (
    MLP,
    can_go_on,
    check_incremental,
    refuse_times,
    unchanged_on_error,
)
from onepass.sklearn._losses import HalfSquaredError
from onepass.sklearn._network import Network
from onepass.sklearn._options import Options


@shares(PARAMETERS)
class MLPRegressor(RegressorMixin, MLP):
    """A multilayer perceptron for numbers: h = act(W h + b) in each hidden layer, ŷ = W h + b.

    It minimises Σᵢ wᵢ·½(ŷᵢ - yᵢ)² / Σᵢ wᵢ + alpha / (2 S)·ΣW² by steps over batches, the mean over
    the outputs of each sample, in the dtype of X (float32 stays so, everything else is float64).
    With ``standardize`` ŷ and y are those of a target with deviation 1, and so is the loss that
    ``tol`` is compared with.

    Parameters are scikit-learn's where its MLPRegressor has them (``optimizer`` is its ``solver``),
    and are checked in ``fit``. What an optimizer does not have is refused. With a ``random_state``
    results are functions of it, the data and the parameters, whatever the number of threads.

    Attributes:
        n_features_in_, feature_names_in_: of X; names where it is a DataFrame.
        n_outputs_, n_layers_, out_activation_: outputs, layers with those of inputs and outputs,
            "identity".
        n_iter_, t_: epochs of the last call, samples seen in all.
        loss_, loss_curve_, best_loss_: the loss with its penalty in the last epoch, in each epoch,
            and the least one (None with early_stopping).
        validation_scores_, best_validation_score_: R² of what is held out, each epoch, and the best
            one; None without early_stopping.
        coefs_, intercepts_: weights (in, out) and biases of the linear layers, for inputs and
            targets as they are, whatever ``standardize``.
        model_: the network, an ``nn.Sequential``.

    Raises:
        TypeError, ValueError: in ``fit``, a parameter of another type or out of range.

    Source: Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, 1986;
    scikit-learn's MLPRegressor.

    Example:
        >>> import numpy as np
        >>> from onepass.sklearn import MLPRegressor
        >>> X = np.linspace(-3, 3, 200)[:, None]
        >>> y = np.hstack([np.sin(X), np.cos(X)])
        >>> model = MLPRegressor(50, "tanh", optimizer="lbfgs", tol=3e-4, max_iter=2000)
        >>> model = model.set_params(random_state=0).fit(X, y)
        >>> model.predict([[0.0]]).round(1) + 0.0
        array([[0., 1.]])
    """

    _scales_targets: ClassVar[bool] = True

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
        self.device = device

    @available_if(can_go_on)
    @unchanged_on_error
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch on these data, going on from what is there.

        With an integer ``random_state``, n calls with the same data give what a ``fit`` of n epochs
        gives, bit for bit. The scales of inputs and targets are those of the first call.

        Args:
            X, y, sample_weight: as of ``fit``.

        Returns:
            The estimator.

        Raises:
            As ``fit``. The steps before a loss that is not finite are taken.

        Example:
            >>> import numpy as np
            >>> from onepass.sklearn import MLPRegressor
            >>> X = np.linspace(-1, 1, 100)[:, None]
            >>> model = MLPRegressor(learning_rate_init=0.01, random_state=0)
            >>> for _ in range(40):
            ...     for part in (slice(None, None, 2), slice(1, None, 2)):
            ...         model = model.partial_fit(X[part], 2 * X[part, 0])
            >>> model.score(X, 2 * X[:, 0]) > 0.9
            True
        """
        check_incremental(self)
        return self._fit(X, y, sample_weight, goes_on=True)

    def predict(self, X: Any) -> Any:
        """The numbers predicted for each sample: (N,), or (N, outputs) where y had several.

        Raises:
            sklearn.exceptions.NotFittedError: before fit. TypeError, ValueError: X is not like that
                of fit.
        """
        X = self._input(X)
        with self._repeatable():
            return self._flat(self._network.predicted(X))

    def _flat(self, y: Any) -> Any:
        return y[:, 0] if self.n_outputs_ == 1 else y

    def _encoded(
        self, options: Options, y: Any, weight: Any, *, fresh: bool, incremental: bool
    ) -> tuple[Any, Any]:
        if hasattr(y, "toarray"):
            raise TypeError(
                f"{options.owner}: 'y' is a {type(y).__name__}, expected a dense array: y.toarray()"
            )
        refuse_times(options.owner, "y", y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = np.ascontiguousarray(y.reshape(len(y), -1), np.float64)
        if not fresh and y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{options.owner}: 'y' has {y.shape[1]} numbers a sample, expected "
                f"{self.n_outputs_} as in the first fit"
            )
        if fresh:
            self.out_activation_ = "identity"
        return y, weight

    def _loss(self) -> Any:
        return HalfSquaredError()

    def _score_of(self, network: Network, X: Any, y: Any, weight: Any) -> float:
        return float(r2_score(y, network.predicted(X), sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
