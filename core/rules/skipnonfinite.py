from samestep.parts.conditional import Conditional
from samestep.vocabulary import choose, shared


class SkipNonFinite(Conditional):
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite.

        finite  = no element of any gradient is NaN or infinite
        skipped = skipped + 1                           where not finite, and nothing else changes
        the wrapped rule's step                         where finite

    ``skipped`` is in ``state.shared`` (torch: in every parameter group; MLX: in
    ``state["shared_state"]``). A skipped call is no call of the wrapped rule: its bias corrections,
    periods and schedules do not count it. Schedules of wrappers around this one do.

    Source: none; what loss scaling does in mixed precision, arXiv 1710.03740, section 3.2.
    Agrees with: optax.apply_if_finite without a limit; torch.amp.GradScaler around an optimizer, if
        the schedule is the rule's own.
    Differs from: torch.optim.lr_scheduler, which counts the calls of its own ``step``.
    Shapes: skipped is 0-d, for all parameters; everything else is the wrapped rule's.
    """

    reads, withheld = "tree", "skipped"

    skipped = shared("calls so far that were skipped", start=0.0)

    def local(self, xp, grad, param, state, s):
        return {}, {"bad": xp.sum(xp.where(xp.isfinite(grad), 0.0, xp.ones_like(grad)))}

    def combine(self, xp, sums, shared, s):
        bad = xp.where(sums.bad > 0, xp.ones_like(sums.bad), 0.0)
        return {"bad": bad, "skipped": shared.skipped + bad}

    def acts(self, state, s):
        return state.bad == 0

    def prepare(self, xp, grad, param, state, s):
        return choose(xp, self.acts(state, s), grad, xp.zeros_like(grad))
