"""Somebody's own rules, with which tests make mistakes."""

from __future__ import annotations

from samestep import Rule, hyper, slot

SIZE = hyper(1.0, "step size", unit="parameter", ge=0)


class Right(Rule, register=False):
    """A rule without a mistake, of which every mistake changes one line."""

    lr = SIZE
    beta = hyper(0.9, "decay per step of m", unit="1/step", ge=0, lt=1)
    m = slot("mean of the gradient")

    def direction(self, xp, grad, param, state, s):
        """The mean, which is the slot."""
        m = s.beta * state.m + grad
        return m, {"m": m}


def mistaken(base=Right, **body):
    """The right rule with other members."""
    return type("Mine", (base,), {"__module__": __name__, **body}, register=False)


def returning(result):
    """The right rule whose direction returns something else."""
    return mistaken(direction=lambda self, xp, grad, param, state, s: result(xp, grad, state, s))
