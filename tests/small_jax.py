"""What the tests of onepass.jax share."""

from __future__ import annotations

import pytest

jax = pytest.importorskip("jax")


@pytest.fixture(autouse=True)
def x64():
    """JAX keeps float64, as NumPy does; a test that is about its default says so."""
    jax.config.update("jax_enable_x64", True)
