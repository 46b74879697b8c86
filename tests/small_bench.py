"""Quick runs of `onepass bench` for its tests."""

from __future__ import annotations

import dataclasses

import pytest
from onepass.bench import (
    _timing,
)
from onepass.bench._command import main
from onepass.bench._records import cases

RELU = ["--only", "^relu 65536", "--threads", "1", "--against", "none", "--plain-malloc"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Few samples, and no rest between them."""
    monkeypatch.setattr(_timing, "REST_SECONDS", 0.0)
    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 1e-4)


def run(capsys, *arguments):
    """(exit status, standard output, standard error)"""
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def leaky_relu(monkeypatch, change):
    """The only row is that of a kernel whose result is changed."""
    case = cases.BY_NAME["leaky_relu"]

    def op(x, out=None, **options):
        return change(case.op(x, out=out, **options))

    monkeypatch.setattr(cases, "CASES", [dataclasses.replace(case, op=op)])
    return [*RELU, "--only", "leaky_relu 65536"]
