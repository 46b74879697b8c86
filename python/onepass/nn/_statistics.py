"""Running statistics of norms, estimated anew over data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onepass._array import Array, as_ndarray, copy_into, is_tensor_of_torch
from onepass._kind import namespace
from onepass.nn._batch_renorm import BatchRenorm
from onepass.nn._module import Module
from onepass.nn._running import Running
from onepass.nn._saved import Saved
from onepass.nn._use import using

OWNER = "update_batch_norm"


def update_batch_norm(model: Module, loader: Iterable[Any]) -> None:
    """Estimate the running statistics of all norms anew, as one pass over the data gives them.

    For weights that no training step has seen with its statistics, such as the averages of an
    optimizer (``ema_decay``). Each statistic becomes the mean over the batches, a batch weighted by
    its samples: ``running = Σ n·batch / Σ n``. Where batches have one size this is
    ``torch.optim.swa_utils.update_bn``; there a smaller last batch counts as much as the others.
    The variance is the mean of those within the batches, as in training.

    While it lasts the norms are in training mode, a `BatchRenorm` as batch norm (rmax 1, dmax 0),
    and everything else in evaluation mode, so that dropout does not drop. Then modes, momenta and
    limits are as before; parameters, gradients, what backward needs, random numbers and the epoch
    of a `DataLoader` are not touched. Norms that are frozen, or whose own ``eval()`` holds, are
    left alone and use their running statistics.

    Args:
        model: module.
        loader: batches x, or tuples or lists that begin with x; arrays of the model's library, or
            tensors of PyTorch on the CPU. Batches without samples are passed over.

    Raises:
        TypeError: ``model`` is not a module, or ``loader`` is an array or gives something else.
        ValueError: it gives no sample, or a batch with one value per channel; or what the model
            raises. All statistics are as before then.
        RuntimeError: another thread uses the model.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization,
    2018.

    Example:
        >>> import numpy as np
        >>> from onepass import data, nn, optim, train
        >>> X = np.random.default_rng(0).normal(3, 2, (400, 4)).astype(np.float32)
        >>> y = (X[:, 0] > 3).astype(np.int64)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> optimizer = optim.Adam(model.parameters(), ema_decay=0.9)
        >>> trainer = train.Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
        >>> history = trainer.fit(X, y, max_epochs=2)
        >>> for parameter, average in zip(model.parameters(), optimizer.averages):
        ...     parameter.data[...] = average
        >>> nn.update_batch_norm(model, data.DataLoader(X, y, batch_size=100))
        >>> z = X @ model[0].weight.data.T + model[0].bias.data
        >>> bool(np.allclose(model[1].running_mean, z.mean(axis=0), atol=1e-4))
        True
    """
    if not isinstance(model, Module):
        raise TypeError(f"{OWNER}: 'model' is a {type(model).__name__}, expected an nn.Module")
    if hasattr(loader, "shape") or isinstance(loader, (str, Mapping)) or not _iterates(loader):
        raise TypeError(
            f"{OWNER}: 'loader' is a {type(loader).__name__}, expected batches, such as "
            "DataLoader(X, batch_size=64)"
        )
    with using(model, OWNER, trains=True):
        norms = _norms(model)
        if not norms:
            return
        before = [_State(norm) for norm in norms]
        epoch = getattr(loader, "epoch", None)
        modes = [(module, module.training) for module in model.modules()]
        try:
            for module, _ in modes:
                module.training = False
            _estimate(model, norms, loader)
        except BaseException:
            for state in before:
                state.put_back()
            raise
        finally:
            for state in before:
                state.finish()
            for module, mode in modes:
                module.training = mode
            if epoch is not None:
                loader.epoch = epoch  # type: ignore[attr-defined]


def _norms(model: Module) -> list[Any]:
    """The norms with running statistics, but for those that keep them."""
    held = [
        inner
        for top in model.modules()
        if top is not model and top._holds_eval
        for inner in top.modules()
        if not inner.training
    ]
    kept = {id(module) for module in held}
    found = {
        id(m): m
        for m in model.modules()
        if isinstance(m, Running)
        and m.has_statistics()
        and not m.statistics_frozen
        and id(m) not in kept
    }
    return list(found.values())


def _estimate(model: Module, norms: list[Any], loader: Iterable[Any]) -> None:
    for norm in norms:
        for name in norm.buffer_names:
            array = getattr(norm, name)
            array[...] = 0
        norm._saved = Saved()
        norm.training = True
        if isinstance(norm, BatchRenorm):
            # As batch norm, which evaluation is: nothing is to be near statistics of zero.
            norm.rmax, norm.dmax = 1.0, 0.0
    count = 0
    for x in _inputs(model, loader):
        size = int(x.shape[0])
        count += size
        for norm in norms:
            norm.momentum = size / count
        model(x)
    if not count:
        raise ValueError(f"{OWNER}: 'loader' gave no sample, expected at least one batch")


def _inputs(model: Module, loader: Iterable[Any]) -> Iterator[Array]:
    on_host = not any(hasattr(p.data, "__cuda_array_interface__") for p in model.parameters())
    for batch in loader:
        x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not hasattr(x, "shape") or not len(x.shape):
            raise TypeError(
                f"{OWNER}: 'loader' gave a {type(batch).__name__}, expected an array, or a tuple "
                "that begins with one"
            )
        if is_tensor_of_torch(x) and on_host:
            x = as_ndarray(x.detach())
        namespace(x)
        if x.shape[0]:
            yield x


def _iterates(loader: Any) -> bool:
    return hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")


class _State:
    """A norm as it was."""

    NAMES = ("momentum", "rmax", "dmax", "_saved")

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.values = {name: getattr(norm, name) for name in self.NAMES if hasattr(norm, name)}
        arrays = [getattr(norm, name) for name in norm.buffer_names]
        self.arrays = [(array, array.copy()) for array in arrays if array is not None]

    def put_back(self) -> None:
        for array, values in self.arrays:
            copy_into(array, values)

    def finish(self) -> None:
        for name, value in self.values.items():
            setattr(self.norm, name, value)
