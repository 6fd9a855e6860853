"""Public names: none hides a module, and the packages are found after ``import samestep``."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

import samestep

SERVED = (
    "torch",
    "jax",
    "mlx",
    "keras",
    "checkpoints",
    "parity",
    "recording",
    "replay",
    "conformance",
)


def packages(name: str) -> Iterator[ModuleType]:
    """A package and the packages in it."""
    package = importlib.import_module(name)
    yield package
    for found in pkgutil.iter_modules(package.__path__):
        if found.ispkg:
            yield from packages(f"{name}.{found.name}")


@pytest.mark.parametrize("name", ["samestep", *(f"samestep.{name}" for name in SERVED)])
def test_no_public_name_hides_a_module(name):
    if name.partition(".")[2] in ("torch", "jax", "mlx", "keras"):
        pytest.importorskip(name.partition(".")[2])
    for package in packages(name):
        for module in pkgutil.iter_modules(package.__path__):
            value = vars(package).get(module.name)
            assert value is None or isinstance(value, ModuleType), (package, module.name)


def test_packages_are_found_after_samestep_is_imported_and_not_loaded_before():
    names = ["parity", "recording", "replay", "conformance"]
    code = (
        f"import sys, samestep; names = {names}\n"
        "print([name for name in names if f'samestep.{name}' in sys.modules])\n"
        "print([getattr(samestep, name).__name__ for name in names])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", str([f"samestep.{name}" for name in names])]
    assert {"torch", "jax", "mlx", "checkpoints"} <= {*dir(samestep)}


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import samestep, samestep.NAME as adapter

sys.setswitchinterval(1e-6)
barrier = Barrier(16)

def first(rule):
    barrier.wait()
    return getattr(adapter, rule), type(samestep.Adan(like="optax", lr=0.5))

with ThreadPoolExecutor(16) as pool:
    for rule in ("AdamW", "Adan", "Muon"):
        found = [*zip(*pool.map(first, [rule] * 16))]
        print(*(len({*map(id, kinds)}) for kinds in found))
"""


SLOW = [pytest.param(name, marks=pytest.mark.thorough) for name in ("torch", "jax")]


@pytest.mark.parametrize("name", ["mlx", *SLOW])
def test_a_class_is_made_once_whichever_thread_asks_first(name):
    pytest.importorskip(name)
    code = THREADS.replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 1"] * 3
