"""Recorded runs of a small network in torch, with optimizers of ours and of torch."""

from __future__ import annotations

import pytest

import samestep
from samestep.recording import read

torch = pytest.importorskip("torch")
import samestep.torch  # noqa: E402  (needs torch)

STEPS = 24
"""Steps of a run."""


def network(dtype=torch.float32):
    """Two layers, always with the same values."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 2)).to(
        dtype
    )


def batches(first=0, last=STEPS, dtype=torch.float32):
    """Batches of other sizes of numbers, so that gradients change sign and scale."""
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        x = torch.randn(16, 6, generator=random) * 10 ** (step % 5 - 2)
        yield step, x.to(dtype), torch.randn(16, 2, generator=random).to(dtype)


def train(path, model, optimizer, *, between=None, first=0, last=STEPS, dtype=torch.float32, **how):
    """Record a run, and give its path; ``between`` is called after each step."""
    with samestep.torch.recorder(path, optimizer, model=model, **how):
        for step, x, y in batches(first, last, dtype):
            optimizer.zero_grad()
            ((model(x) - y) ** 2).mean().backward()
            optimizer.step()
            if between is not None:
                between(step)
    return path


def adamw(model, kind=torch.optim.AdamW):
    """An AdamW of torch or of ours."""
    return kind(model.parameters(), lr=1e-2, weight_decay=0.1)


def trained(*args, **how):
    """The recording of a run; see ``train``."""
    return read(train(*args, **how))


OPTIMIZERS = {
    "AdamW": adamw,
    "SGD": lambda m: torch.optim.SGD(m.parameters(), 0.01, momentum=0.9, weight_decay=0.1),
    "RMSprop": lambda m: torch.optim.RMSprop(m.parameters(), 1e-3, centered=True, momentum=0.5),
    "Adagrad": lambda m: torch.optim.Adagrad(m.parameters(), 0.01, lr_decay=0.1),
    "NAdam": lambda m: torch.optim.NAdam(m.parameters(), 1e-2, weight_decay=0.1),
    "RAdam": lambda m: torch.optim.RAdam(m.parameters(), 1e-2),
    "Adafactor": lambda m: torch.optim.Adafactor(m.parameters(), 1e-2),
    "Adan": lambda m: samestep.torch.Adan(m.parameters(), lr=1e-2, weight_decay=0.1),
    "Prodigy": lambda m: samestep.torch.Prodigy(m.parameters(), weight_decay=0.1),
    "Lookahead(AdamW)": lambda m: samestep.torch.bind(
        samestep.Lookahead(samestep.AdamW(lr=1e-2), sync_period=3), m.parameters()
    ),
    "Muon, SGD": lambda m: samestep.torch.bind(
        samestep.route((samestep.Where(ndim=2), samestep.Muon(lr=1e-2)), samestep.SGD(lr=1e-3)),
        m.named_parameters(),
    ),
    "Lion": lambda m: samestep.torch.Lion(
        m.named_parameters(),
        lr=samestep.schedules.CosineDecay(1e-2, STEPS),
        weight_decay=0.1,
        mask=lambda p: p.ndim > 1,
    ),
}
