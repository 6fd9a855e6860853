"""jax.example_libraries.optimizers."""

from __future__ import annotations

from samestep.dialects import preset

NAME = "jax-example"
OF = "jax.example_libraries.optimizers.{lower}"

PRESETS = {
    "Adagrad": preset("no eps", eps=0.0, momentum=0.9),
    "Adam": preset(),
    "Adamax": preset(eps_at="outside"),
    "RMSprop": preset(
        of="jax.example_libraries.optimizers.rmsprop and rmsprop_momentum",
        alpha=0.9,
        eps_at="inside",
        lr_at="inside",
    ),
    "SGD": preset(
        of="jax.example_libraries.optimizers.sgd, momentum and nesterov", momentum_start="zero"
    ),
    "SM3": preset(),
}
