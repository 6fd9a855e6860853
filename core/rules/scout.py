from itertools import pairwise

from samestep.parts import slow
from samestep.parts.slow import followed
from samestep.parts.spread import copies, latest, mean_over_elements, relative_spread
from samestep.vocabulary import Move, Wrapper, at_least, choose, early_step, hyper, option, slot


class Scout(Wrapper):
    """Scout: Lookahead that follows further where the steps of a period disagree.

        fast  = the wrapped rule's step
        every sync_period steps:  rate = max(1 - coherence, sync_rate)
                                  slow = slow + rate (fast - slow),  fast = slow

    coherence is the mean, over elements and then over parameters, of the standard deviation of a
    period's steps over the largest deviation from their mean (1 where that is zero). Of up to 10
    steps it is rarely below 0.5: with the default sync_rate Scout is Lookahead in practice.

    Source: holocron's Scout, pylocron 0.3.0, 2026, after Lookahead (arXiv 1907.08610); no paper.
    Agrees with: holocron's Scout.
    Differs from: holocron's where an element stands still: 0/0 makes the rate NaN there, and the
        whole period is thrown away.
    Shapes: slow and each of the sync_period arrays of history are shaped like param.
    """

    reads, steps_early = "tree", True

    sync_rate = hyper(0.5, "least that slow follows fast", unit="1", ge=0, le=1, whole=True)
    sync_period = option(6, "steps of the wrapped rule between synchronisations", ge=2)

    slow = slow.slow
    history = slot("fast weights after every step of the period", init=copies("sync_period"))

    def validate(self):
        if self.rule.needs == "tree":
            raise ValueError(f"Scout({self.rule!r}): Scout cannot wrap a rule that needs a tree")

    def scalars(self, xp, t):
        place = (t - 1) % self.sync_period
        here = tuple(place == i for i in range(self.sync_period))
        return {"here": here, "sync": here[-1]}

    def gather(self, xp, grad, param, state, s, phase):
        fast, slots = early_step(self.rule, xp, grad, param, state, s.inner)
        places = zip(s.here, state.history, strict=True)
        history = tuple(choose(xp, here, fast, old) for here, old in places)
        steps = [after - before for before, after in pairwise((state.slow, *history))]
        coherence, present = mean_over_elements(xp, relative_spread(xp, steps))
        sums = {"coherence": coherence, "parameters": present}
        return {**slots, "history": history}, sums

    def summed(self, xp, sums, shared, s, phase):
        rate = 1 - sums.coherence / xp.where(sums.parameters > 0, sums.parameters, 1.0)
        return {"follow": at_least(xp, rate, s.sync_rate)}

    def moved(self, xp, grad, param, state, s):
        fast = Move(lambda: state.moved, lambda: latest(xp, s.here, state.history))
        move, new = followed(xp, fast, state.slow, param, s.sync, state.follow)
        return move, {"slow": new}
