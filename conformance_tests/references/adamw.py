"""Reference for AdamW."""

from __future__ import annotations

from .adam import Adam


class AdamW(Adam):
    """Adam whose weight decay, scaled by lr, acts on the parameter and not on the gradient.

    Source: Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2, with the schedule multiplier
    and the decay multiplied into lr, as in pytorch/pytorch, torch/optim/adamw.py.
    """
