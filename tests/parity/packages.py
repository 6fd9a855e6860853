"""What tests of the diagnosis need of packages, and read of what it found."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest

from samestep.parity import Comparison

__all__ = ["needed", "options"]


def needed(*names: str) -> None:
    """Skip the test if the package of an optimizer is not installed."""
    for name in names:
        root, *inside = re.split(r"[.:]", name)
        package = inside[0] if root == "samestep" else root
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def options(found: Comparison) -> dict[str, tuple[Any, Any]]:
    """The values on both sides of every option that is named."""
    return {reason.option: (reason.a, reason.b) for reason in found.reasons}
