"""What references share: numbers from the rule's declaration, and weight decay by definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from samestep.rule import registry

__all__ = ["Array", "Reference", "Wrapping", "quotient"]

Array: TypeAlias = Any
"""A float64 array. NumPy's types tell 0-d arrays from numbers, which arithmetic here does not."""


class Numbers:
    """Takes the numbers and options that the rule of the same name declares, with its defaults.

    A class attribute is an option that the rule itself has not, such as another library's fault.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def take(self, values: Mapping[str, Any]) -> None:
        """Set what the rule declares.

        Raises:
            TypeError: the rule declares no such value, and the reference has none.
        """
        declared = registry[type(self).__name__].fields()
        for name in values:
            if name not in declared and not hasattr(type(self), name):
                raise TypeError(f"the reference of {type(self).__name__} has no {name}")
        vars(self).update({name: field.default for name, field in declared.items()} | {**values})


class Reference(Numbers):
    """A published rule in NumPy float64, slow and plain, on a list of parameters.

    A subclass has the name of its rule and says what one parameter keeps (``slots``) and what is
    subtracted from it in a step (``change``).
    """

    change: Callable[..., Array]
    """Takes the parameter, its gradient and its slots, which are updated in place."""
    INSIDE: ClassVar[tuple[str, ...]] = ()
    """Families of weight decay that ``change`` does itself, with ``weight_decay``."""
    SEES_OLD: ClassVar[bool] = False
    """Whether ``change`` sees the parameter as it was before it decayed."""

    def __init__(self, params: list[Array], **values: Any) -> None:
        self.take(values)
        inside = self.decay in self.INSIDE
        decay: float = vars(self)["weight_decay"]
        self.amount, self.weight_decay = (0.0, decay) if inside else (decay, 0.0)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.kept = [self.slots(p) for p in self.params]
        names = self.kept[0] if self.kept else ()
        self.state: dict[str, Any] = {name: [own[name] for own in self.kept] for name in names}
        self.t = 0

    def slots(self, p: Array) -> dict[str, Any]:
        """The state of one parameter at the start."""
        return {}

    def step(self, grads: list[Array]) -> None:
        """Take one step, with weight decay as the definition of its family says."""
        self.t += 1
        for p, given, own in zip(self.params, grads, self.kept, strict=True):
            p[...] = self.stepped(p.copy(), np.asarray(given, dtype=np.float64), own)

    @property
    def rate(self) -> Any:
        """The step size of this step."""
        return self.lr

    def lost_before(self) -> Any:
        """The share of a parameter that its decay takes away before the step."""
        eta = self.rate
        shares = {"decoupled": eta, "absolute": 1.0}
        if self.peak_lr is not None:
            shares |= {"corrected": eta**2 / self.peak_lr, "relative": eta / self.peak_lr}
        return shares.get(self.decay, 0.0) * self.amount

    def stepped(self, old: Array, g: Array, own: dict[str, Any]) -> Array:
        """Return where one parameter goes in a step."""
        eta, family = self.rate, self.decay
        if family in ("l2", "l2+proximal"):
            g = np.asarray(g + self.amount * old)
        decayed = np.asarray(old - self.lost_before() * old)
        change = self.change(old if self.SEES_OLD else decayed, g, **own)
        p = decayed - change
        if family == "in_update":
            p = p - eta * self.amount * old
        if family == "cautious":
            p = p - eta * self.amount * np.where(change * old >= 0, old, 0.0)
        if family == "post":
            p = p - eta * self.amount * p
        if family in ("proximal", "l2+proximal"):
            p = p / (1 + eta * self.amount)
        return np.asarray(p)


class Wrapping(Numbers):
    """A reference around another, whose ``params`` and ``state`` it has."""

    def __init__(self, inner: Any, **values: Any) -> None:
        self.take(values)
        self.inner = inner
        self.params: list[Array] = inner.params
        self.state: dict[str, Any] = inner.state
        self.t = 0
        self.begin()

    def begin(self) -> None:
        """Add what the wrapper keeps to the state."""


def quotient(x: Any, y: Any) -> Array:
    """Return x / y, and 0 where y is 0."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    result = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    with np.errstate(divide="ignore"):
        np.divide(x, y, out=result, where=y != 0)
    return result
