"""One check of ``samestep.benchmarks.hardware``, in a process of its own.

python -m samestep.benchmarks.check device FRAMEWORK FILE PLATFORM
python -m samestep.benchmarks.check time FRAMEWORK FILE MODEL DTYPE RULE...
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from samestep.checkpoints.replacing import replace_text
from samestep.parity.environment import versions
from samestep.rule import registry

from . import run
from .frameworks import framework
from .models import MODELS, elements
from .opponents import COPY
from .results import Row
from .traffic import needed

__all__ = ["device", "main", "time"]

LIBRARY = {"torch": "torch.optim", "jax": "optax", "mlx": "mlx.optimizers"}
"""Whose optimizers ours are timed next to."""
VARIANTS = ("foreach", "fused")
"""The ways of torch that a user would choose on an accelerator."""
ROUNDS = 15


def device(name: str, file: Path, platform: str) -> bool:
    """Write which device a framework computes on, and take a step there in every execution.

    Nothing is written if that is no accelerator, unless ``platform`` is ``cpu``. Whether every
    execution takes a step.
    """
    about = {"framework": name, **_ASKED[name]()}
    about["versions"] = versions([name, "jaxlib", "mlx-metal", "triton", "numpy", "optax"])
    print(about, flush=True)
    stepper = framework(name)
    if stepper.device == "cpu" and platform != "cpu":
        print(f"{name} sees no accelerator")
        return False
    replace_text(file, json.dumps(about))
    failed = False
    for execution in stepper.executions:
        try:
            stepper.ours(registry[run.SWEPT](), execution, [(8, 8), (3,)], "float32")()
            print(f"a step of {run.SWEPT}, {execution}, was taken", flush=True)
        except Exception as error:  # whatever a framework raises, the other executions are tried
            failed = True
            print(f"{execution}: {type(error).__name__}: {error}", flush=True)
    return not failed


def _torch() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    if not torch.accelerator.is_available():
        return {"platform": "cpu"}
    found: dict[str, Any] = {"platform": torch.accelerator.current_accelerator().type}
    if found["platform"] == "mps":
        return found | {"bytes": torch.mps.recommended_max_memory()}
    about = getattr(torch, found["platform"]).get_device_properties(0)
    found |= {"device": about.name, "bytes": about.total_memory}
    found |= {"runtime": torch.version.cuda or torch.version.hip}
    return found


def _jax() -> dict[str, Any]:
    first = importlib.import_module("jax").devices()[0]
    return {
        "platform": first.platform,
        "device": first.device_kind,
        "bytes": (first.memory_stats() or {}).get("bytes_limit"),
    }


def _mlx() -> dict[str, Any]:
    xp = importlib.import_module("mlx.core")
    if xp.default_device() == xp.Device(xp.cpu):
        return {"platform": "cpu"}
    about = (getattr(xp, "device_info", None) or xp.metal.device_info)()
    return {
        "platform": "gpu",
        "device": about.get("device_name"),
        "bytes": about.get("memory_size"),
    }


_ASKED = {"torch": _torch, "jax": _jax, "mlx": _mlx}


def time(name: str, file: Path, model: str, dtype: str, *rules: str) -> bool:
    """Time rules next to the library's own and a copy; whether every row has a figure."""
    options = run.Options(
        against=(LIBRARY[name], COPY),
        rules=rules,
        models=(model,),
        dtypes=(dtype,),
        frameworks=(name,),
        variants=VARIANTS,
        rounds=ROUNDS,
    )
    for shapes in MODELS[model].sizes:
        print(f"{MODELS[model].title}: {elements(shapes):,} parameters, {len(shapes)} tensors")
        for rule in rules:
            size = needed(registry[rule](), shapes, dtype)
            print(f"{rule}: parameters, gradients and state are {size / 1e9:,.3f} GB per side")
    free = framework(name).room()
    print("free:", "unknown" if free is None else f"{free / 1e9:,.1f} GB", flush=True)
    results = run.prepared(options)
    run.run(options, results, file, lambda row: print(row, flush=True))
    for row in results.rows:
        print(f"{row}: {row.error or _figures(row)}", flush=True)
    return bool(results.rows) and not any(row.error for row in results.rows)


def _figures(row: Row) -> str:
    return f"{row.ours_ms:.3f} ms, {row.theirs_ms or 0:.3f} theirs, {row.copy_ms:.3f} a copy"


CHECKS: dict[str, Any] = {"device": device, "time": time}


def main(what: str, name: str, file: str, *rest: str) -> None:
    """Exit with 0 if the check passes."""
    sys.exit(not CHECKS[what](name, Path(file), *rest))


if __name__ == "__main__":
    main(*sys.argv[1:])
