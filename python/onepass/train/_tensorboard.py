"""The history as TensorBoard events, through tensorboardX or PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onepass.train._callbacks import Callback
from onepass.train._run import Run


class TensorBoard(Callback):
    """Write each epoch's numbers for TensorBoard.

    Uses ``tensorboardX``, else ``torch.utils.tensorboard``.

    Raises:
        ImportError: neither is installed.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self.log_dir = str(log_dir)
        self._writer = _writer_type()
        self._open: Any = None

    def on_fit_begin(self, run: Run) -> None:
        self._open = self._writer(self.log_dir)

    def on_epoch_end(self, run: Run) -> None:
        for name, values in run.history.items():
            self._open.add_scalar(name, values[-1], run.epoch)
        self._open.flush()

    def on_fit_end(self, run: Run) -> None:
        self._open.close()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._open.close()


def _writer_type() -> Any:
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs a writer: pip install tensorboardX") from error
    return SummaryWriter
