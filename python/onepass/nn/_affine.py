"""Shared by the layers whose product of x and weight gets a bias, an activation and dropout."""

from __future__ import annotations

from typing import Any

from onepass import ops
from onepass._array import Array
from onepass._parameter import Parameter
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import Facts
from onepass.nn._fusable import Fusable
from onepass.nn._signal import Wanted


class Affine(Fusable):
    """``y = dropout(activation(product + bias))``, where there is a bias."""

    weight: Parameter
    bias: Parameter | None

    def _wants(self) -> Wanted:
        return Wanted(type(self).__name__)

    def epilogue_head(self, facts: Facts[Any]) -> Fusable | None:
        return None if facts.read(self, "bias") is None else super().epilogue_head(facts)

    def _add_bias(
        self, product: Array, epilogue: Epilogue, options: dict[str, Any], axis: int
    ) -> tuple[Array, Array | None]:
        """(y, the product where the gradient needs it); without options y is the product's array.

        ``options`` are those of the epilogue that the kernel applies.
        """
        if self.bias is None:
            return product, None
        out = None if options else product
        try:
            y = ops.bias_act(product, self.bias.data, axis=axis, out=out, **options)
        except BaseException:
            epilogue.refused()
            raise
        return y, product if options else None

    def _bias_gradient(
        self, dy: Array, product: Array | None, options: dict[str, Any], axis: int
    ) -> Array:
        """The gradient of the product; accumulates the bias's."""
        if self.bias is None or not (options or self.bias.requires_grad):
            return dy
        # Without options it is dy whatever the product was, and that was not kept.
        z = dy if product is None else product
        dz, db = ops.bias_act_backward(dy, z, self.bias.data, axis=axis, **options)
        self.bias.accumulate(db)
        return dz
