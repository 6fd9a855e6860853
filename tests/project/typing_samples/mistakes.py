"""Mistakes that a type checker finds, each on the line that says so and quotes the message."""

import torch

import samestep
import samestep.jax
import samestep.mlx
import samestep.torch

params = [torch.nn.Parameter(torch.zeros(3))]
rule = samestep.Adan()

samestep.Adan(learning_rate=1e-3)  # error: "learning_rate"
samestep.Adan(lr="fast")  # error: "lr"
samestep.Adan(betas=(0.9, 0.99))  # error: "betas"
samestep.AdamW(betas=0.9)  # error: "betas"
samestep.AdamW(decay="foo")  # error: "decay"
samestep.AdamW(1e-3, (0.9, 0.99), 1e-8, 0.0, "l2")  # error: "float
samestep.Prodigy(decay="proximal")  # error: "decay"
samestep.SGD(nesterov="yes")  # error: "nesterov"
samestep.Muon(ns_steps=2.5)  # error: "ns_steps"
samestep.Lookahead(sync_period=5)  # error: "rule"
samestep.Lookahead(rule, sync_period=2.5)  # error: "sync_period"
samestep.Adan(state_dtype="int8")  # error: "state_dtype"
samestep.AdamW(lr="fast")  # error: "lr"
samestep.AdamW(learning_rate=1e-3)  # error: "learning_rate"
samestep.ClipNorm()  # error: "rule"
samestep.ClipNorm(samestep.AdamW)  # error: "type[AdamW]"
samestep.ClipNorm(rule, max_norm=1.0)  # error: "max_norm"
samestep.ClipGlobalNorm(rule, like="keras")  # error: "like"
samestep.AdaptiveClip(rule, layout=1)  # error: "layout"
samestep.Accumulate(rule, every=lambda step: 2)  # error: "every"
samestep.Cautious(rule, rescale="sum")  # error: "rescale"
samestep.Average(rule, averaging="polyak")  # error: "averaging"
samestep.AdamW(like="jax")  # error: "like"
samestep.AdamW(mask=0.1)  # error: "mask"
samestep.AdamW(mask=lambda p: p.dims > 1)  # error: "dims"
samestep.AdamW(groups=[{"lr": 1e-4}])  # error: dict[str, float]
samestep.AdamW(state_dtype="half")  # error: "state_dtype"
samestep.AdamW(lr=samestep.schedules.Linear(0.0, 1e-3))  # error: "steps"
samestep.Where(dims=2)  # error: "dims"
samestep.Where(path="*") & 3  # error: &
samestep.route((samestep.Where(ndim=2), 1e-3), rule)  # error: tuple[Where, float]
samestep.route((rule, samestep.Where(ndim=2)), rule)  # error: tuple[Adan, Where]
samestep.route(rule).table()  # error: "params"
samestep.averaged(rule, params)  # error: "state"
samestep.swapped(params, params, params)  # error: "list[Parameter]"
samestep.Adann()  # error: "Adann"
rule.init()  # error: "params"
rule.update(params, params)  # error: "state"
print(rule.momentum)  # error: "momentum"
samestep.torch.Adan(lr=1e-3)  # error: "params"
samestep.torch.Adan(params, learning_rate=1e-3)  # error: "learning_rate"
samestep.torch.AdamW(params, decay="foo")  # error: "decay"
samestep.torch.AdamW(params, execution="quickly")  # error: "execution"
samestep.torch.Lookahead(params, 1e-3)  # error: "Rule"
samestep.torch.bind(3, params)  # error: "Rule"
samestep.torch.bind(rule)  # error: "params"
samestep.torch.ClipNorm(params)  # error: "rule"
samestep.torch.ClipNorm(rule, params)  # error: "Rule"
samestep.torch.AdamW(params, capturable="yes")  # error: "capturable"
samestep.torch.AdamW(params).rule = 3  # error: "Rule"
samestep.jax.Adan(params, lr=1e-3)  # error: "lr"
samestep.jax.Adan(learning_rate=1e-3)  # error: "learning_rate"
samestep.jax.Lion(betas=(0.9, 0.99, 0.999))  # error: "betas"
samestep.jax.AdamW(capturable=True)  # error: "capturable"
samestep.jax.AdamW(execution="quickly")  # error: "execution"
samestep.jax.ClipNorm()  # error: "rule"
samestep.jax.bind(3)  # error: "Rule"
samestep.mlx.Adan(learning_rate=1e-3)  # error: "learning_rate"
samestep.mlx.SGD(momentum="0.9")  # error: "momentum"
samestep.mlx.Muon(layout=1)  # error: "layout"
samestep.mlx.AdamW(execution="quickly")  # error: "execution"
samestep.mlx.AdamW(capturable=True)  # error: "capturable"
samestep.mlx.ClipNorm()  # error: "rule"
samestep.mlx.bind(3)  # error: "Rule"
