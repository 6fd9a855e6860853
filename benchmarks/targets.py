"""The targets, row by row. They are ratios, because machines differ."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """An upper bound on one figure of the rows that it selects; an empty field selects any."""

    figure: str
    """A figure of a row: ``ratio``, ``copy_ratio``, ``first_ratio`` or ``first_seconds``."""
    at_most: float
    framework: str
    execution: str = ""
    against: tuple[str, ...] = ()
    """Libraries, or a library and its variant."""
    rules: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    """Rules that it does not select."""
    device: str = "cpu"


BANDWIDTH = ("gpt2", "resnet50", "large")
"""Too large for any cache, so that memory is the limit."""

TARGETS = [
    Target("ratio", 1.0, "torch", "compiled", ("torch.optim fused",), ("AdamW",), ("gpt2",)),
    Target("ratio", 0.45, "torch", "compiled", ("torch.optim fused",), ("AdamW",), ("small",)),
    Target(
        "copy_ratio",
        1.25,
        "torch",
        "compiled",
        rules=("Adan", "Lion", "AdEMAMix", "AdaBelief", "LAMB"),
        models=BANDWIDTH,
    ),
    Target("ratio", 0.65, "torch", "packed", ("torch.optim foreach",), ("AdamW",), ("gpt2",)),
    Target("ratio", 0.3, "torch", "packed", ("torch.optim foreach",), ("AdamW",), ("small",)),
    Target("ratio", 1.0, "torch", "compiled", ("torch.optim",), but=("AdamW",)),
    Target("ratio", 0.5, "torch", "compiled", ("pytorch_optimizer", "timm")),
    Target("ratio", 1.0, "jax", against=("optax",)),
    Target("first_ratio", 1.0, "jax", against=("optax",)),
    Target("ratio", 0.9, "mlx", against=("mlx.optimizers",)),
    Target("first_seconds", 10.0, "torch", "compiled"),
    Target("ratio", 1.05, "torch", models=("import",)),
    Target("ratio", 1.5, "torch", "packed", ("torch.optim",), ("AdamW",), ("sharded",)),
    Target("ratio", 1.1, "torch", "packed", ("samestep",), ("AdamW",), ("sharded",)),
    Target("ratio", 0.7, "torch", "packed", ("torch.optim foreach",), models=("tiny",)),
    Target(
        "ratio",
        1.1,
        "torch",
        "compiled",
        ("torch.optim fused",),
        ("AdamW",),
        ("gpt2", "llama7b"),
        device="gpu",
    ),
    Target("copy_ratio", 1.15, "torch", "compiled", (), ("Adan", "Lion"), BANDWIDTH, device="gpu"),
    Target("ratio", 1.0, "jax", against=("optax",), device="gpu"),
]
