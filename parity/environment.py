"""The machine on which something is measured, and the versions of packages."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["environment", "processor", "system", "versions"]


def environment(packages: Iterable[str], missing: str | None = None) -> dict[str, str]:
    """Versions of packages, of Python, and the platform, by name; ``missing`` as in `versions`."""
    return versions(packages, missing) | {
        "Python": platform.python_version(),
        "platform": system(),
    }


def versions(packages: Iterable[str], missing: str | None = None) -> dict[str, str]:
    """Versions of the packages that are installed.

    Args:
        packages: names of distributions.
        missing: the text for a package that is not installed; by default it is left out.
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if missing is not None:
                found[package] = missing
    return found


def system() -> str:
    """The operating system and the architecture, such as ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"


@cache
def processor() -> str:
    """The name of the processor, or its architecture where the system does not say."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    elif Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^model name\s*: (.*)$", text, re.M)
        found = match[1] if match else ""
    else:
        found = platform.processor()
    return " ".join(found.split()) or platform.machine()
