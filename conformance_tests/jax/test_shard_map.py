"""Every rule and wrapper inside ``jax.shard_map``, on four devices in a process of its own."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from samestep.conformance.harness.interrupted import in_a_new_process
from samestep.conformance.harness.jax_pieces import assert_agreement
from samestep.conformance.harness.settings import all_rules, typical

PARTS = 8
"""The processes for each dtype, which have five minutes each."""


def each(folder: Path, names: list[str], dtype: str, check: bool) -> None:
    """What the process does: some rules, and a file of each that has failed."""
    for cls in all_rules():
        if cls.__name__ not in names:
            continue
        rule = typical(cls, **({"layout": "io"} if "layout" in cls.fields() else {}))
        try:
            assert_agreement(rule, dtype, check=check)
        except Exception:
            (folder / cls.__name__).write_text(traceback.format_exc(), encoding="utf-8")


@pytest.mark.thorough
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", range(PARTS))
def test_steps_in_pieces_are_those_of_whole_arrays(part, dtype, check, tmp_path):
    """Little is optimized: XLA may otherwise fuse a product and a sum in one of two shapes only."""
    names = [rule.__name__ for rule in all_rules()][part::PARTS]
    in_a_new_process(
        __name__,
        f"each(Path({str(tmp_path)!r}), {names}, {dtype!r}, {check})",
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
        JAX_ENABLE_X64="1",
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        JAX_CPU_ENABLE_ASYNC_DISPATCH="0",  # two programs may wait for each other's devices
    )
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {}
