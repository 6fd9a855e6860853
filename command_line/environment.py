"""What a measurement was made with: versions, and the machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

__all__ = ["machine", "versions"]


def machine() -> dict[str, str]:
    """Python, and what it runs on."""
    return {
        "Python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def versions(packages: Iterable[str], missing: str | None = None) -> dict[str, str]:
    """Versions of packages; those that are not installed are left out, or said to be missing."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if missing is not None:
                found[package] = missing
    return found
