"""Initial values of a whole model: which initialiser each parameter gets, by what follows it."""

from __future__ import annotations

from functools import partial
from typing import Any

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._interruptions import to_the_end
from onepass._kind import namespace
from onepass.nn import _initialisers
from onepass.nn._init_values import Choice, Floats, values_of
from onepass.nn._init_walk import ORDINARY, places_in
from onepass.nn._module import Module
from onepass.nn._running import Running
from onepass.nn._use import refuse_change

# "constant" needs a number, and a gain fills nothing.
SCHEMES = ("auto", *(n for n in _initialisers.__all__ if n not in ("calculate_gain", "constant")))


class Report(dict[str, Choice]):
    """Name of a parameter → its `Choice`; prints as a table with a row a parameter."""

    def __repr__(self) -> str:
        rows = [(name, c.scheme, f"{c.std:.3g}", c.why) for name, c in self.items()]
        rows.insert(0, ("parameter", "scheme", "std", "because"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        cells = ("  ".join((*map(str.ljust, row, widths), row[3])) for row in rows)
        return "\n".join(map(str.rstrip, cells))


def apply(model: Module, scheme: str = "auto", seed: int = 0) -> Report:
    """Initialise a whole model, and return what each parameter got.

    ``"auto"`` looks at what comes after a linear layer or a convolution, through norms, dropout and
    pools, and keeps the mean square of the signal: `kaiming_normal` before what is like ReLU
    (GELU, SiLU, ELU, … too; with the slope of a leaky one), `lecun_normal` before SELU, and before
    Maxout with 1/√E[max²], `xavier_normal` before everything else (tanh, sigmoid, another layer,
    the output). The last layer or norm of a residual branch begins at 0, so that a block passes its
    input on; where an activation stands behind it, at a tenth. A name of an initialiser takes that
    for every weight; `orthogonal` has the gain √2 before what is like ReLU.

    With every scheme the weights of norms are 1 (but at the end of a branch), biases 0, running
    statistics those of new norms. A grouped convolution is so many convolutions. Frozen parameters
    stay as they are, and so do those of your own modules unless they are named as weights (at least
    2 axes) or biases; the report says so. In a module of your own, layers count as called in
    the order in which its constructor sets them.

    A weight is a function of (seed, its name): adding a layer does not change the others, and
    neither `nn.manual_seed` nor the values before count.

    Args:
        model: module, changed in place.
        scheme: "auto", or the name of an initialiser: kaiming_normal, kaiming_uniform,
            xavier_normal, xavier_uniform, lecun_normal, lecun_uniform, geometric_mean, orthogonal,
            normal, uniform, zeros, ones.
        seed: an integer, 0 <= seed < 2**64.

    Returns:
        A dict of names to (scheme, std, why), which prints as a table.

    Raises:
        TypeError: ``model`` is not a module, or ``seed`` not an integer.
        ValueError: another scheme or seed; nothing is changed.
        RuntimeError: the Trainer of another thread uses the model.

    Source: He et al. 2015, Glorot & Bengio 2010, Klambauer et al. 2017; the zero at the end of a
    branch: Goyal et al., Accurate, Large Minibatch SGD, 2017, and Zhang et al., Fixup
    Initialization, 2019.

    Example:
        >>> from onepass import nn
        >>> nn.init.apply(nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 2)))
        parameter  scheme          std    because
        0.weight   kaiming_normal  0.205  before ReLU
        0.bias     zeros           0      bias
        2.weight   xavier_normal   0.419  before the output
        2.bias     zeros           0      bias
    """
    if not isinstance(model, Module):
        raise TypeError(f"apply: 'model' is a {type(model).__name__}, expected an nn.Module")
    numbers.one_of("apply", "scheme", scheme, SCHEMES)
    seed = numbers.seed("apply", "seed", seed)
    refuse_change(model, "nn.init.apply")
    places = places_in(model)
    report, writes = Report(), list[tuple[Array, Any]]()
    drawn: dict[int, tuple[Choice, Floats | None]] = {}  # by the parameter, of its first name
    for prefix, module in model.named_modules():
        place = places.get(id(module), ORDINARY)
        for key, choice, values in values_of(module, prefix, place, scheme, seed):
            drawn.setdefault(id(getattr(module, key)), (choice, values))
        if isinstance(module, Running) and not module.statistics_frozen:
            writes += module.fresh_statistics()
    for name, parameter in model.named_parameters():
        report[name], values = drawn[id(parameter)]
        if values is not None:
            writes.append((parameter.data, values))
    to_the_end(partial(_write, writes))
    return report


def _write(writes: list[tuple[Array, Any]]) -> None:
    for array, values in writes:
        array[...] = namespace(array).asarray(values, array.dtype)
