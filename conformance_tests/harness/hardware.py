"""The hardware of this machine: the processor, and the device of each backend."""

# ruff: noqa: PLC0415  (a library is imported where an array of it is at hand)

from __future__ import annotations

import platform
import re
from functools import cache
from importlib.metadata import distribution
from typing import Any

import numpy

from samestep.parity.backend import Backend, backends
from samestep.parity.environment import processor
from samestep.parity.environment import versions as versions_of

__all__ = ["device_of", "machine", "versions"]


def machine() -> dict[str, str]:
    """The system, without its name in any network."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": processor(),
        "python": platform.python_version(),
    }


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
    return versions_of(sorted(wanted | extras))
