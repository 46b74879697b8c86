"""Tables: no bytes do more than raise ValueError, and what is read can be read again."""

from __future__ import annotations

import io
import warnings

import numpy as np
from onepass.data import read_table

from fuzz.choices import Choices

OPTIONS = (
    {},
    {"categorical": "auto"},
    {"categorical": "auto", "missing": "impute"},
    {"header": False},
    {"header": True, "task": "classification"},
    {"sep": ";", "decimal": ","},
    {"task": "regression", "missing": "impute"},
    {"target": 1, "drop": [-1]},
    {"words": [1], "categorical": "auto"},
    {"na_values": ["x", -9], "categorical": "auto", "missing": "impute"},
    {"encoding": "latin-1"},
    {"groups": 1},
)


def table(data: bytes) -> None:
    """The first byte says the options; the rest is the file."""
    choices = Choices(data)
    options = choices.of(OPTIONS)
    content = choices.rest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = read_table(io.BytesIO(content), **options)
        except ValueError:
            return
        assert read.x.dtype == np.float64
        assert np.isfinite(read.x).all()
        assert read.y is not None
        assert len(read.y) == len(read.x)
        try:
            again = read_table(
                io.BytesIO(content),
                like=read.encoding,
                **{k: v for k, v in options.items() if k in ("sep", "decimal", "header",
                                                             "encoding", "na_values")},
            )  # fmt: skip
        except ValueError:
            return
        assert np.array_equal(again.x, read.x)


def seeds_of_table() -> list[bytes]:
    texts = (
        "a,b,y\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n",
        "a;b;y\n1,5;2;x\n3,5;4;z\n1,5;2;x\n3,5;4;z\n",
        'name,size,y\n"x, y",1.200,1.5\n"z ""q""",1 200,2.5\nx,$5,3.5\n',
        "t\tu\tv\n1e3\t12%\t-\n2\t5 kg\t?\n",
        "1,2,3\n4,5,6\n7,8,9\n",
        "\ufeffa|b|y\n01|x|1\n02|x|2\n03|y|1\n04|y|2\n",
        "d,y\n2020-01-01,1\n2020-01-02,2\n",
    )
    encoded = [text.encode() for text in texts] + [texts[0].encode("utf-16")]
    return [bytes([n % len(OPTIONS)]) + text for n, text in enumerate(encoded * 3)]
