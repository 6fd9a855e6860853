from samestep.parts import slow
from samestep.parts.slow import followed
from samestep.vocabulary import Wrapper, hyper


class Lookahead(Wrapper):
    """Lookahead: another rule explores, and slow weights follow it every few steps.

        fast  = the wrapped rule's step
        every sync_period steps:  slow = slow + sync_rate (fast - slow),  fast = slow

    Source: Zhang, Lucas, Hinton and Ba, "Lookahead optimizer: k steps forward, 1 step back",
        arXiv 1907.08610, Algorithm 1. The slow weights start at the initial parameters.
    Agrees with: optax.lookahead; holocron's Lookahead.
    Differs from: timm's Lookahead, which starts slow at the first synchronisation, so that the
        first one does nothing.
    Shapes: slow is shaped like param; everything else is the wrapped rule's.
    """

    sync_period = hyper(6, "steps of the wrapped rule between synchronisations", unit="steps", ge=1)
    sync_rate = hyper(0.5, "how far slow follows fast", unit="1", ge=0, le=1)

    slow = slow.slow

    def scalars(self, xp, t):
        return {"sync": t % self.sync_period == 0}

    def moved(self, xp, grad, param, state, s):
        fast, slots = super().moved(xp, grad, param, state, s)
        move, new = followed(xp, fast, state.slow, param, s.sync, s.sync_rate)
        return move, {**slots, "slow": new}
