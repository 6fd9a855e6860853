"""Mistakes that a type checker finds, each on the line that says so."""

import torch

import samestep
import samestep.jax
import samestep.mlx
import samestep.torch

params = [torch.nn.Parameter(torch.zeros(3))]
rule = samestep.Adan()

samestep.Adan(learning_rate=1e-3)  # error
samestep.Adan(lr="fast")  # error
samestep.Adan(betas=(0.9, 0.99))  # error
samestep.AdamW(betas=0.9)  # error
samestep.AdamW(decay="foo")  # error
samestep.AdamW(1e-3, (0.9, 0.99), 1e-8, 0.0, "l2")  # error
samestep.Prodigy(decay="proximal")  # error
samestep.SGD(nesterov="yes")  # error
samestep.Muon(ns_steps=2.5)  # error
samestep.Lookahead(sync_period=5)  # error
samestep.Lookahead(rule, sync_period=2.5)  # error
samestep.Adan(state_dtype="int8")  # error
samestep.Adann()  # error
rule.init()  # error
rule.update(params, params)  # error
print(rule.momentum)  # error
samestep.torch.Adan(lr=1e-3)  # error
samestep.torch.Adan(params, learning_rate=1e-3)  # error
samestep.torch.AdamW(params, decay="foo")  # error
samestep.torch.AdamW(params, execution="quickly")  # error
samestep.torch.Lookahead(params, 1e-3)  # error
samestep.torch.bind(3, params)  # error
samestep.torch.bind(rule)  # error
samestep.jax.Adan(params, lr=1e-3)  # error
samestep.jax.Adan(learning_rate=1e-3)  # error
samestep.jax.Lion(betas=(0.9, 0.99, 0.999))  # error
samestep.jax.bind(3)  # error
samestep.mlx.Adan(learning_rate=1e-3)  # error
samestep.mlx.SGD(momentum="0.9")  # error
samestep.mlx.Muon(layout="hwio")  # error
samestep.mlx.bind(3)  # error
