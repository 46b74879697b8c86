"""The history as TensorBoard events, through tensorboardX or PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onepass._files import path_of, ready_folder
from onepass._keywords import suggest_keywords
from onepass.train._callbacks import Callback
from onepass.train._run import Run


class TensorBoard(Callback):
    """Write each epoch's numbers for TensorBoard.

    Uses ``tensorboardX``, else ``torch.utils.tensorboard``.

    Args:
        log_dir: the folder of the events; it is made.

    Example:
        >>> from onepass.train import TensorBoard
        >>> callback = TensorBoard("runs/digits")  # doctest: +SKIP

    Raises:
        ImportError: neither is installed. OSError: at the start of training, nothing can be written
            to ``log_dir``.
    """

    rank_0_only = True

    @suggest_keywords
    def __init__(self, log_dir: str | Path) -> None:
        self.log_dir = str(path_of("TensorBoard", "log_dir", log_dir))
        self._open: Any = None
        _writer_type()

    def on_fit_begin(self, run: Run) -> None:
        ready_folder("TensorBoard", "log_dir", Path(self.log_dir))
        self._open = _writer_type()(self.log_dir)

    def on_epoch_end(self, run: Run) -> None:
        for name, values in run.history.items():
            self._open.add_scalar(name, values[-1], run.epoch)
        self._open.flush()

    def on_fit_end(self, run: Run) -> None:
        self._close()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": None}  # a copy opens a writer of its own

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _writer_type() -> Any:
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs a writer: pip install tensorboardX") from error
    return SummaryWriter
