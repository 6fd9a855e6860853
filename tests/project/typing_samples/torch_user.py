"""A training loop in PyTorch: named classes, groups, schedulers, routes, wrappers, averages."""

from typing import Any, assert_type

import torch

import samestep
from samestep import Parameter, Where, route
from samestep.schedules import CosineDecay
from samestep.torch import (
    EXECUTIONS,
    SGD,
    Accumulate,
    AdamW,
    Adan,
    AdaptiveClip,
    Average,
    Cautious,
    Centralize,
    ClipGlobalNorm,
    ClipNorm,
    ClipValue,
    Lion,
    Lookahead,
    RuleOptimizer,
    SkipNonFinite,
    bind,
)

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


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter has two dimensions or more."""
    return parameter.ndim > 1


first = torch.nn.Parameter(torch.zeros(3))
rule = samestep.AdamW(lr=1e-3, weight_decay=0.1)
groups_of_two: list[dict[str, Any]] = [
    {"params": model[2].parameters(), "betas": (0.8, 0.99)},
    {"params": [first], "lr": torch.tensor(0.1), "weight_decay": 0.0},
]
routed = route(
    (Where(min_ndim=2) & ~Where(path="0.*"), samestep.Muon(lr=0.02)),
    (Where(max_ndim=1) | Where(path="*.bias"), samestep.ClipNorm(samestep.SGD(0.1), 1.0)),
    rule,
)
assert_type(routed.table(model.named_parameters()), str)
optimizers: list[RuleOptimizer] = [
    bind(routed, model.named_parameters(), execution="reference"),
    bind(samestep.ClipGlobalNorm(routed, max_norm=1.0), model.named_parameters()),
    ClipValue(model.parameters(), rule, 0.5),
    ClipNorm(model.parameters(), rule, clip_norm=0.5, execution="packed"),
    ClipGlobalNorm(model.parameters(), rule, like="torch"),
    AdaptiveClip(model.parameters(), rule, clipping=0.01, layout="oi"),
    Centralize(model.parameters(), rule),
    Accumulate(model.parameters(), rule, every=2, accumulated_dtype="float32"),
    SkipNonFinite(model.parameters(), rule, capturable=False),
    Cautious(model.parameters(), rule, rescale="mean"),
    Average(model.parameters(), rule, average_decay=0.99, averaging="equal"),
    AdamW(model.parameters(), lr=torch.tensor(1e-3), like="torch", mask=is_matrix),
    AdamW(groups_of_two, 1e-3),
    Adan([{"params": [("first", first)], "weight_decay": 0.0}], execution="auto"),
    SGD(model.parameters(), lr=CosineDecay(0.1, 100), momentum=0.9, capturable=True),
    Lion(model.named_parameters(), 1e-4, groups=[(Where(path="0.*"), {"lr": 1e-5})]),
]
for each in optimizers:
    train(each, steps=2)

optimizer = SkipNonFinite(model.parameters(), samestep.Average(rule))
schedulers: list[torch.optim.lr_scheduler.LRScheduler] = [
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10),
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
]
train(optimizer, steps=2)
for scheduler in schedulers:
    scheduler.step()
saved: dict[str, Any] = optimizer.state_dict()
optimizer.load_state_dict(saved)
optimizer.add_param_group({"params": [first], "lr": 1e-2})
lr: float = optimizer.param_groups[0]["lr"]
steps: int = int(optimizer.state[next(model.parameters())]["step"])
skipped: float = float(optimizer.param_groups[0]["skipped"])
params = {name: param.detach().clone() for name, param in model.named_parameters()}
averages = {name: optimizer.state[param]["average"] for name, param in model.named_parameters()}
with samestep.swapped(model.load_state_dict, params, averages):
    model(torch.zeros(1, 4))


def closure() -> float:
    """The loss, anew."""
    return train(torch.optim.SGD(model.parameters(), lr=0.0), steps=1)


print(lr, steps, skipped, adan.step(closure))
