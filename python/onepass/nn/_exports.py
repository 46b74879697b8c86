"""What a model is asked for from outside: a file, its numbers, PyTorch's and ONNX's form of it.

The work is in `onepass.nn._exchange`, which knows all layers and is loaded at the first call.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onepass._array import Array

if TYPE_CHECKING:
    from onepass.nn._exchange._summary import Summary
    from onepass.nn._state_dict import LoadResult


class Exports:
    """Methods of a `Module`."""

    def save(self, path: str | os.PathLike[str], weights_only: bool = False) -> None:
        """Write the model into one file: parameters, running statistics, and how it is built.

        `nn.load` builds it again from the file alone where all layers are onepass's; the weights
        can be loaded into a model that is there in any case, see `load`. The file is safetensors,
        or with a name that ends in ``.npz`` an archive of NumPy; neither holds pickles, and neither
        needs a package. Names are PyTorch's, so that there
        ``module.load_state_dict(safetensors.torch.load_file(path))`` takes them.

        Kept are dtypes (bfloat16 too), modes, frozen parameters, and which layers share one. A
        training that goes on needs the optimizer's state too: `Trainer.save`. The file takes the
        place of one that is there once it is whole, also where the process is killed.

        Args:
            path: of the file. Folders that are missing are made.
            weights_only: leave out how the model is built. With a module of your own inside, or
                two parameters in the same memory, that is left out in any case, and a
                ``UserWarning`` names them.

        Raises:
            OSError: it cannot be written; what was there stays.
            RuntimeError: another thread trains the model.
        """
        from onepass.nn._exchange import _file

        _file.save(self, path, weights_only)  # type: ignore[arg-type]

    def load(
        self, path: str | os.PathLike[str], strict: bool = True, prefix: str = ""
    ) -> LoadResult:
        """Copy values in from a file of `save`, or of safetensors or NumPy from elsewhere.

        As `load_state_dict` with what the file has; modes and what is frozen stay as they are. Of a
        parameter that layers share a file from elsewhere may have one name alone. A
        file of `save` says of which layers its model is, with their options: those of another model
        are refused, also where all shapes are equal. To build a model from a file, call `nn.load`.

        Args:
            path: of the file.
            strict, prefix: as of `load_state_dict`. With ``strict=False``, or for a part of the
                file, layers are not compared.

        Returns:
            The names that are (missing, unexpected, mismatched), with ``strict=False``.

        Raises:
            FileNotFoundError: there is none.
            ValueError: another file, damaged, cut off, or with pickles in it; or the values are of
                another model. Nothing is changed.
            RuntimeError: the Trainer of another thread uses the module.
        """
        from onepass.nn._exchange import _file

        return _file.load_into(self, path, strict, prefix)  # type: ignore[arg-type]

    def summary(self, x: Array | Sequence[int]) -> Summary:
        """What the model is and what a training step of it costs; print the result for a table.

        Shapes, parameters, which layers one kernel does together, and for a step forward and
        backward, without the optimizer and without the gradient by x:

        - products: multiply-adds of matrix products and convolutions;
        - bytes: what the kernels read and write, each array once for each kernel that takes it. A
          step that is bound by memory takes at least these bytes divided by the bandwidth.

        The step is the one of a `Trainer`: in training mode, but for layers whose own ``eval()``
        holds. The shapes are those of one forward of a copy in evaluation mode; the model, its
        running statistics and all random numbers stay as they are. A module of your own counts as
        one pass over x, y and its own parameters, and its matrix products are not seen.

        Args:
            x: an array, or its shape with the batch in front.

        Raises:
            TypeError: neither.
            ValueError: a shape that the model does not take.
            RuntimeError: another thread trains the model.
        """
        from onepass.nn._exchange import _summary

        return _summary.summary(self, x)  # type: ignore[arg-type]

    def to_torch(self) -> Any:
        """The model as a `torch.nn.Module` that computes the same, with copies of the values.

        Names in its ``state_dict()``, dtypes, modes, frozen parameters, and those that layers share
        are the model's. What a kernel does together becomes a layer each. `Residual` becomes
        `onepass.torch.Residual`; all else is torch's own, and `WeightNorm` its parametrization.
        The order of memory of a `Conv2d` (``channels_last``) is left out. Dropout has other masks.
        Frozen statistics are a norm in evaluation mode there, which ``train()`` ends.

        Neither model changes the other; `nn.from_torch` goes back. To share memory instead, train
        the tensors themselves with `onepass.optim` or `onepass.torch`.

        Raises:
            ValueError: a layer that torch.nn lacks, a module of your own, two parameters in the
                same memory; the message has the names.
            ModuleNotFoundError: PyTorch is not installed.
            RuntimeError: another thread trains the model.
        """
        from onepass.nn._exchange import _torch

        return _torch.to_torch(self)  # type: ignore[arg-type]

    def to_onnx(self, path: str | os.PathLike[str], input_shape: Sequence[int | None]) -> None:
        """Write the model in evaluation mode as a file of ONNX, opset 17, for other runtimes.

        The graph takes ``x`` and gives ``y``, both in the dtype of the parameters, float32 or
        float64, for any number of samples. It has standard operators alone; dropout is gone. All
        layers have a form in it but modules of your own. ONNX Runtime takes convolutions,
        average pools and GELU in float32 alone. Images of whole numbers, which `Rescaling` takes
        here, are given to the graph as floats.

        Results differ by roundings of the runtime's operators: it computes ``exp(x) - 1`` of ELU,
        CELU and SELU as written, and a variance without the care that is taken here where a mean is
        large beside it.

        Args:
            path: of the file, which is replaced once it is whole.
            input_shape: shape of x with the batch in front, which may be None: (None, 3, 32, 32).

        Raises:
            ValueError: a module of your own, which is named, another dtype, a shape that the model
                does not take, or more than 2 GB of parameters.
            TypeError: ``input_shape`` is not a shape.
            ModuleNotFoundError: onnx is not installed.
            OSError: the file cannot be written.
            RuntimeError: another thread trains the model.
        """
        from onepass.nn._exchange import _onnx

        _onnx.to_onnx(self, path, input_shape)  # type: ignore[arg-type]


for _name, _method in tuple(vars(Exports).items()):
    if inspect.isfunction(_method):
        _method.__qualname__ = f"Module.{_name}"  # as errors of a wrong call show it
