"""What this machine computes on: the processor, and the device of each backend."""

# ruff: noqa: PLC0415  (a library is imported where an array of it is at hand)

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy

from samestep.parity.backend import Backend, backends

__all__ = ["device_of", "machine", "processor", "versions"]


def machine() -> dict[str, str]:
    """The system, without its name in any network."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": processor(),
        "python": platform.python_version(),
    }


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


@cache
def device_of(backend: Backend) -> str:
    """The name of what a backend's arrays are on."""
    array = backend.array(numpy.zeros(1), "float32")
    name = _DEVICES.get(backend.library, lambda _: "")(array)
    return name or processor()


def _torch(array: Any) -> str:
    import torch

    kind = array.device.type
    if kind == "cuda":
        return str(torch.cuda.get_device_name(array.device))
    return "" if kind == "cpu" else str(array.device)


def _jax(array: Any) -> str:
    (device,) = array.devices()
    return "" if device.platform == "cpu" else str(device.device_kind)


def _mlx(array: Any) -> str:
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu):
        return ""
    about = getattr(mx, "device_info", None) or mx.metal.device_info
    return str(about().get("device_name", mx.default_device()))


_DEVICES = {"torch": _torch, "jax": _jax, "mlx": _mlx}
"""By library, the name of a device that is not the processor; else it is empty."""


def versions() -> dict[str, str]:
    """Versions of samestep, of what it needs and of all that its backends need."""
    wanted = {"samestep", "pytest", "hypothesis"}
    extras = {b.library.replace("_", "-") for b in backends().values() if isinstance(b, Backend)}
    for line in distribution("samestep").requires or ():
        needed = re.match(r"[\w.-]+", line)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", line)
        if needed and (extra is None or extra[1] in extras):
            wanted.add(needed[0])
    found = {}
    for name in sorted(wanted | extras):
        try:
            found[name] = distribution(name).version
        except PackageNotFoundError:
            continue
    return found
