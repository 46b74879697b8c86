"""The public packages: what a user can import and what the site has pages of."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

import onepass


def public_packages() -> list[ModuleType]:
    """Every module whose name has no underscore; some have tests of their own."""
    names = (info.name for info in pkgutil.walk_packages(onepass.__path__, "onepass."))
    own = ("onepass.ops", "onepass.torch", "onepass.jax", "onepass.cli")
    public = (n for n in names if "._" not in n and not n.startswith(own))
    return [module for n in public if hasattr(module := import_module(n), "__all__")]
