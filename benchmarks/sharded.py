"""A step of sharded parameters, in processes of gloo that share the machine.

    python -m samestep.benchmarks.sharded FOLDER RANK RULE LIBRARY ROUNDS

Ours steps DTensors. The other side is an optimizer of torch on the same DTensors, or our own
``packed`` step of the local pieces as plain tensors, which communicates nothing. Sides take turns
on every rank, and the first rank writes its times.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samestep.rule import registry

from .opponents import LIBRARIES
from .timing import alternate

__all__ = ["PIECES", "RANKS", "SHAPE", "TENSORS", "sides", "taken"]

RANKS = 2
TENSORS, SHAPE = 100, (64, 64)
PIECES = "samestep"
"""The library of the side that steps plain tensors."""
RULES = ("AdamW", "LAMB", "Muon")
WAIT = 300
"""Seconds, at most, for all rounds."""


def sides() -> list[tuple[str, str, str]]:
    """Rule, library and variant of every row."""
    found = LIBRARIES["torch.optim"].opponents()
    rows = [
        (rule, "torch.optim", "foreach" if "foreach" in found[rule].variants else "")
        for rule in RULES
        if rule in found
    ]
    return rows + [(rule, PIECES, "plain pieces") for rule in RULES]


def taken(rule: str, library: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every step of both sides, of the first rank.

    Raises:
        RuntimeError: a rank failed, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    folder,
                    str(rank),
                    rule,
                    library,
                    str(rounds),
                ],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(RANKS)
        ]
        try:
            said = [process.communicate(timeout=WAIT)[1] for process in ranks]
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the ranks did not end within {WAIT} seconds") from None
        finally:
            for process in ranks:
                process.kill()
        for process, words in zip(ranks, said, strict=True):
            if process.returncode:
                raise RuntimeError(words.strip().splitlines()[-1])
        found: dict[str, list[float]] = json.loads((Path(folder) / "taken").read_text())
        return found


def _rank(folder: Path, rank: int, rule: str, library: str, rounds: int) -> None:
    import torch  # noqa: PLC0415  (only here)
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

    import samestep.torch  # noqa: PLC0415

    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=RANKS, rank=rank
    )
    mesh = init_device_mesh("cpu", (RANKS,))

    def params() -> list[Any]:
        random = torch.Generator().manual_seed(0)
        found = []
        for _ in range(TENSORS):
            value, grad = (torch.randn(SHAPE, generator=random) for _ in range(2))
            found.append(torch.nn.Parameter(distribute_tensor(value, mesh, [Shard(0)])))
            found[-1].grad = distribute_tensor(grad, mesh, [Shard(0)])
        return found

    def pieces(given: Sequence[Any]) -> list[Any]:
        found = []
        for param in given:
            found.append(torch.nn.Parameter(param.detach().to_local().clone()))
            found[-1].grad = param.grad.to_local().clone()
        return found

    own: Any = registry[rule]()
    if library == PIECES:
        theirs: Any = samestep.torch.bind(own, pieces(params()), execution="packed")
        ours = samestep.torch.bind(own, params(), execution="packed")
    else:
        opponent = LIBRARIES[library].opponents()[rule]
        variants = opponent.variants
        theirs = (variants.get("foreach") or next(iter(variants.values())))(params())
        ours = samestep.torch.bind(opponent.rule, params(), execution="packed")
    steps = {"ours": ours.step, "theirs": theirs.step}
    alternate(steps, 3, longest=math.inf)
    # Every rank takes as many steps, however long they take.
    found = alternate(steps, rounds, longest=math.inf)
    if rank == 0:
        (folder / "taken").write_text(json.dumps(found))
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads do not always survive the end of the interpreter


if __name__ == "__main__":
    _rank(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
