"""Every rule and wrapper inside ``jax.shard_map``, on four devices in a process of its own."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from samestep.conformance.harness.interrupted import in_a_new_process
from samestep.conformance.harness.jax_pieces import assert_agreement
from samestep.conformance.harness.settings import all_rules, typical

NAMES = [rule.__name__ for rule in all_rules()]


def each(folder: Path, dtype: str, check: bool) -> None:
    """What the process does: every rule, and a file of each that has failed."""
    for cls in all_rules():
        rule = typical(cls, **({"layout": "io"} if "layout" in cls.fields() else {}))
        try:
            assert_agreement(rule, dtype, check=check)
        except Exception:
            (folder / cls.__name__).write_text(traceback.format_exc(), encoding="utf-8")


@pytest.mark.thorough
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_in_pieces_are_those_of_whole_arrays(dtype, check, tmp_path):
    in_a_new_process(
        __name__,
        f"each(Path({str(tmp_path)!r}), {dtype!r}, {check})",
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
        JAX_ENABLE_X64="1",
    )
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {}
