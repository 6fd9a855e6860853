"""Copies of the arguments of a compiled kernel, made before the kernel writes into them.

Inductor takes a clone of an argument for the argument itself, and writes into arguments last of
all. A slot that keeps the parameter would then get the new parameter.
"""

from __future__ import annotations

import math
from typing import Any

import torch

__all__ = ["keep_copies"]

aten = torch.ops.aten
SHAPED = "_like", "new_", "full"
"""Parts of the names of operations that read no values of the tensors that they are given."""


def keep_copies(module: torch.fx.GraphModule) -> int:
    """Make every result that may be a copy of an argument that is written an operation of its own.

    It may be one if it is computed from that argument alone. The operation is a ``torch.where``
    whose condition never holds, which only shows when the kernel runs; it changes no bit. The last
    argument is the vector of coefficients.

    Returns:
        The number of such results.
    """
    graph = module.graph
    arguments = graph.find_nodes(op="placeholder")
    read: dict[Any, set[Any]] = {argument: {argument} for argument in arguments}
    for node in graph.nodes:
        valued = not isinstance(node.meta.get("val"), (int, torch.SymInt))
        if node not in read:
            given = node.all_input_nodes if valued and not _shapes(node) else []
            read[node] = set().union(*(read[one] for one in given))
    writes = graph.find_nodes(op="call_function", target=aten.copy_.default)
    written: set[Any] = set().union(*(read[node.args[0]] for node in writes))
    copies = [node for node in writes if _is_one(read[node.args[1]], written)]
    if copies:
        with graph.inserting_before(writes[0]):
            first = graph.call_function(aten.select.int, (arguments[-1], 0, 0))
            never = graph.call_function(aten.gt.Scalar, (first, math.inf))
            for node in copies:
                into, result = node.args
                other = graph.call_function(aten.neg.default, (result,))
                node.args = into, graph.call_function(aten.where.self, (never, other, result))
        module.recompile()
    return len(copies)


def _is_one(sources: set[Any], among: set[Any]) -> bool:
    return len(sources) == 1 and sources <= among


def _shapes(node: Any) -> bool:
    return node.op == "call_function" and any(part in str(node.target) for part in SHAPED)
