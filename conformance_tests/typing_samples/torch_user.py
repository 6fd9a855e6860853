"""A training loop in PyTorch: a named class, groups, a scheduler, a wrapped rule."""

from typing import Any, assert_type

import torch

import samestep
from samestep.torch import EXECUTIONS, SGD, AdamW, Adan, Lookahead, RuleOptimizer, bind

model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def train(optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Fit the sum of the inputs; the last loss."""
    loss = torch.zeros(())
    for _ in range(steps):
        inputs = torch.randn(16, 4)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return loss.item()


adan = Adan(model.parameters(), lr=1e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02)
assert_type(adan.rule, samestep.Rule)
cooling = torch.optim.lr_scheduler.StepLR(adan, step_size=2)
groups: list[dict[str, Any]] = [
    {"params": model[0].parameters(), "lr": 1e-4},
    {"params": model[2].parameters()},
]
grouped = AdamW(groups, 1e-3, eps=1e-7, decay="decoupled", execution="compiled")
named = SGD(model.named_parameters(), lr=lambda step: 0.1 / (step + 1))
slow = bind(samestep.Lookahead(samestep.Lion(lr=1e-4), sync_period=5), model.parameters())
assert_type(slow, RuleOptimizer)
wrapped = Lookahead(model.parameters(), samestep.LAMB(lr=1e-2), sync_rate=0.8)
for optimizer in (adan, named, slow, wrapped):
    optimizer.init_state()
    train(optimizer, steps=2)
    optimizer.load_state_dict(optimizer.state_dict())
cooling.step()
grouped.zero_grad()
print(EXECUTIONS)
