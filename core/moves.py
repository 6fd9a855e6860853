"""A step in two forms: the new parameter, and the change of the parameter.

A change that is taken as the new parameter less the old one has the precision of the parameter:
float32 at 64 has steps of 8e-6, and bfloat16 at 1 has steps of 8e-3. The change of a ``Move`` is
computed without going through the parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

from . import weight_decay as families

__all__ = ["Move", "Moving", "asked", "early_step", "pointed"]

Stepped = tuple[Any, dict[str, Any]]


class Move:
    """A step of one parameter, in the compute dtype; each form is computed when it is read.

    Args:
        change: computes the array to add to the parameter.
        param: computes the new parameter.
    """

    def __init__(self, change: Callable[[], Any], param: Callable[[], Any]) -> None:
        self._change, self._param = change, param

    @cached_property
    def change(self) -> Any:
        """The array to add to the parameter, with a precision of its own."""
        return self._change()

    @cached_property
    def param(self) -> Any:
        """The new parameter."""
        return self._param()


class Moving:
    """The forms of a rule's step. A class defines ``step`` or ``moved``, or neither."""

    steps_early: Any = False
    """Whether some rule takes its step in ``gather``, by ``early_step``."""
    steady: Any = ()
    """Names of numbers, ``betas.0`` of an element, that may not change while a model is trained."""

    def __init_subclass__(cls, root: bool = False, **kwargs: Any) -> None:
        own, forms = vars(cls), cast("Any", cls)
        if "moved" in own and "step" not in own:
            forms.step, forms.changed = _landed(own["moved"]), _changed(own["moved"])
        elif "moved" not in own and not root and own.keys() & {"step", "descended"}:
            forms.moved = _difference(cls.step)
            forms.changed = _changed(forms.moved)
        super().__init_subclass__(**({"root": root} if root else {}), **kwargs)

    def step(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Stepped:
        """The new parameter and slots; arrays in the compute dtype."""
        found: Stepped = self.redirected(xp, grad, param, state, s, None)
        return found

    def changed(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Stepped:
        """The change of the parameter and the slots, which are equal to the slots of ``step``."""
        found: Stepped = self.redirected(xp, grad, param, state, s, None, "displaced")
        return found

    def moved(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Move, Any]:
        """The change and the new parameter, as a ``Move``, and the slots.

        The change of a class that defines ``step`` instead is the new parameter less the old one.
        """
        found: tuple[Move, Any] = self.redirected(xp, grad, param, state, s, None, "move")
        return found

    def step_size(self: Any, state: Any, s: Any) -> Any:
        """The step size of a step; a rule may find it itself, in what all parameters share."""
        if self.inside:
            return self.inside[0].step_size(state, s.inner)
        return vars(s).get("step_size", s.lr)

    def point(self: Any, param: Any, state: Any) -> Any:
        """Where a model is evaluated, if that is not where gradients are taken, the parameter.

        ``state`` has the slots, and hyperparameters such as ``self.betas`` are numbers.
        """
        return self.inside[0].point(param, state) if self.inside else param

    @property
    def has_point(self: Any) -> bool:
        """Whether a model is evaluated elsewhere than at the parameters, at some of them."""
        own = type(self).point is not Moving.point
        return own or any(rule.has_point for rule in self.inside)

    def descended(self: Any, param: Any, direction: Any, s: Any) -> Any:
        """The parameter after a step against a direction, with weight decay."""
        if self.decay == "in_update" and not self.decays_inside:
            direction = families.decayed_direction(self.decay, direction, param, s)
        return families.descend(param, direction, s)

    def displaced(self: Any, param: Any, direction: Any, s: Any) -> Any:
        """The change of the parameter in ``descended``."""
        if self.decay == "in_update" and not self.decays_inside:
            direction = families.decayed_direction(self.decay, direction, param, s)
        return families.change(param, direction, s)

    def move(self, param: Any, direction: Any, s: Any) -> Move:
        """The change of ``displaced`` and the new parameter of ``descended``."""
        return Move(
            lambda: self.displaced(param, direction, s), lambda: self.descended(param, direction, s)
        )


def pointed(rule: Any, param: Any, state: Any) -> Any:
    """The point at which a parameter is evaluated; raises if it is not shaped like it."""
    found = rule.point(param, state)
    if getattr(found, "shape", None) != param.shape:
        raise ValueError(
            f"{rule.name}.point returned {getattr(found, 'shape', type(found).__name__)!r} for a "
            f"parameter of shape {tuple(param.shape)}; the point at which a model is evaluated has "
            "the shape of the parameter"
        )
    return found


def _landed(moved: Any) -> Any:
    def step(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Stepped:
        """The new parameter of ``moved`` and the slots."""
        move, slots = moved(self, xp, grad, param, state, s)
        return move.param, slots

    return step


def _changed(moved: Any) -> Any:
    def changed(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Stepped:
        """The change of ``moved`` and the slots."""
        move, slots = moved(self, xp, grad, param, state, s)
        return move.change, slots

    return changed


def _difference(step: Any) -> Any:
    def moved(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Move, Any]:
        """The move to where ``step`` leads."""
        new, slots = step(self, xp, grad, param, state, s)
        return Move(lambda: new - param, lambda: new), slots

    return moved


def asked(xp: Any, entry: Any, dtype: Any) -> Any:
    """The entry; of a rule that steps early the change is asked for, see ``early_step``."""
    if not entry.rule.steps_early or entry.is_empty:
        return entry
    zeros = xp.zeros_like(entry.param, dtype=dtype)
    return entry._replace(slots={**entry.slots, "moved": zeros})


def early_step(rule: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Stepped:
    """``rule.step`` in ``gather``. Its change, if asked for, is ``state.moved`` in ``moved``.

    It is asked for where the state has ``moved``: zeros in the compute dtype.
    """
    if not hasattr(state, "moved"):
        found: Stepped = rule.step(xp, grad, param, state, s)
        return found
    move, slots = rule.moved(xp, grad, param, state, s)
    return move.param, {**slots, "moved": move.change}
