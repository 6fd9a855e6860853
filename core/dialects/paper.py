"""The printed algorithms of papers."""

from __future__ import annotations

from samestep.dialects import preset

OF = "what the paper prints"

PRESETS = {
    "AMSGrad": preset("no bias correction", of="Algorithm 2", bias_correction=False),
    "AdEMAMix": preset(),
    "AdaBelief": preset(),
    "AdaDelta": preset(of="Algorithm 1", rho=0.95),
    "Adafactor": preset(of="Algorithms 4 and 5"),
    "Adagrad": preset(of="Figure 1"),
    "Adam": preset(),
    "AdamP": preset(),
    "AdamW": preset("decay not times lr", of="Algorithm 2", decay="absolute", weight_decay=0.0),
    "Adamax": preset("no eps", of="Algorithm 2", eps=0.0),
    "Adan": preset(of="Algorithm 1", bias_correction=False, start="gradient"),
    "LAMB": preset(),
    "LARS": preset(),
    "Lion": preset(),
    "RAdam": preset("no eps", of="Algorithm 2", eps=0.0),
    "RMSprop": preset("no eps", of="slide 29", alpha=0.9, eps=0.0),
    "SGD": preset(of="equations 1 and 2", momentum_start="zero", lr_at="inside"),
    "SM3": preset(of="Algorithm SM3-II"),
    "SignSGD": preset(),
    "Signum": preset(),
    "Yogi": preset(),
    "Lookahead": preset(of="Algorithm 1", sync_period=5),
}
