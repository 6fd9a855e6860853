"""What tests of the diagnosis need of packages, and read of what it found."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

import pytest

from samestep.parity import Comparison

__all__ = ["marked", "needed", "options"]


def marked(cases: Collection[tuple[Any, ...]], count: int) -> list[Any]:
    """Cases of ``count`` values; what comes after them in a case names its marks."""
    marks = [[getattr(pytest.mark, name) for name in case[count:]] for case in cases]
    return [pytest.param(*case[:count], marks=own) for case, own in zip(cases, marks, strict=True)]


def needed(*names: str) -> None:
    """Skip the test if the package of an optimizer is not installed."""
    for name in names:
        package = re.split(r"[.:]", re.sub(r"^samestep\.(?=\w+:)", "", name))[0]
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def options(found: Comparison) -> dict[str, tuple[Any, Any]]:
    """The values on both sides of every option that is named."""
    return {reason.option: (reason.a, reason.b) for reason in found.reasons}
