"""Independent references: each published rule in plain NumPy float64, written from its source."""

from __future__ import annotations

import importlib
import pkgutil


def reference_for(rule_name: str) -> type | None:
    """Return the reference class of that name, looked for in every module here, or None."""
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found = getattr(module, rule_name, None)
        if isinstance(found, type) and found.__module__ == module.__name__:
            return found
    return None
