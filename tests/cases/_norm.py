"""What the records of all norms share: their rivals in the benchmark."""

from __future__ import annotations

from onepass import ops

from ._case import (
    backward_only,
    forward_and_backward,
    has_torch,
    tensor_of,
    without_grad,
)


class NormRivals:
    """Base of a record with `name`, `call(op, *inputs, **options)` and `_rival`.

    `_rival(inputs, **options)` is PyTorch's forward as a function of x, and the leaves that it
    reads besides. The last of the inputs is the residual.
    """

    def _rivals(self, inputs, keywords):
        if not has_torch():
            return {}
        return {"torch": without_grad(self._rival(inputs, **keywords)[0], tensor_of(inputs[0]))}

    def _rivals_backward(self, inputs, keywords):
        if not has_torch():
            return {}
        dy, *others = inputs
        return {"torch": backward_only(*self._rival(others, **keywords), others[0], dy)}

    def _both(self, inputs, keywords):
        op, op_backward = getattr(ops, self.name), getattr(ops, f"{self.name}_backward")
        dy, x, *others, residual = inputs

        def ours():  # makes new results, as all rivals do
            _, saved = self.call(op, x, *others, residual=residual, **keywords)
            return op_backward(dy, saved)

        functions = {"onepass": ours}
        if has_torch():
            functions["torch"] = forward_and_backward(*self._rival(inputs[1:], **keywords), x, dy)
        return functions
