"""torch.optim."""

from __future__ import annotations

from samestep.dialects import preset

OF = "torch.optim.{rule}"

PRESETS = {
    "AMSGrad": preset(of="torch.optim.Adam(amsgrad=True)"),
    "AdaDelta": preset(of="torch.optim.Adadelta"),
    "Adafactor": preset(layout="io", eps=(1.1920928955078125e-07, 0.001), eps_at="clamped"),
    "Adagrad": preset(),
    "Adam": preset(),
    "AdamW": preset(),
    "Adamax": preset(),
    "Muon": preset("iterates in bfloat16", lr=0.001, weight_decay=0.1, ns_guard=("max", 1e-07)),
    "NAdam": preset(),
    "RAdam": preset(threshold=5.0, eps_at="uncorrected"),
    "RMSprop": preset(),
    "Rprop": preset(),
    "SGD": preset(),
    "ClipGlobalNorm": preset(of="torch.nn.utils.clip_grad_norm_", norm_eps=1e-6),
    "ClipValue": preset(of="torch.nn.utils.clip_grad_value_"),
}
