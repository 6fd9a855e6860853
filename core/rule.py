"""The update rule: the methods of an author, and the step of one parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from operator import is_
from typing import Any, ClassVar, Self

from . import checks, scheduled, table, whole
from . import weight_decay as decay_families
from .arrays import is_array, known, listed
from .composed import Composed
from .declaration import Hyper, Storage, option
from .kept import KEPT
from .made import SHAPED, registry
from .moves import Moving
from .steady import refuse_schedules
from .whole import State

__all__ = ["Rule", "State", "registry"]

Redirect = Callable[[Any, Any], Any]


class Rule(Moving, Composed, root=True):
    """An update rule on ``(grad, param, state)``, independent of any framework.

    A subclass declares hyperparameters and slots in its body and defines ``direction``, and
    ``scalars`` if it computes coefficients once per step. Instances are immutable.
    """

    weight_decay, peak_lr = decay_families.weight_decay, decay_families.peak_lr
    decay = decay_families.decay
    maximize = option(
        False,
        "ascend instead of descend",
        says={True: "ascends: the sign of its step is turned", False: "descends"},
    )
    state_dtype = Storage(None, "dtype of the state, or of single slots; None is the parameter's")

    needs: ClassVar[Any] = "element"
    """What the rule reads in addition to a single element: one of ``NEEDS``."""
    min_ndim: ClassVar[Any] = 0
    """The least number of dimensions of a parameter."""
    tells_places: ClassVar[bool | str] = False
    """Whether the rule tells the places of a kernel from its inputs; a factored rule does.

    The quirk of a library says the layout of its kernels.
    """
    continuous: ClassVar[Any] = True
    """Whether a tiny change of the gradient makes a tiny change of the step. A sign does not."""
    amplifies: ClassVar[Any] = 1
    """How much more than other rules the rule may amplify a rounding error."""
    decays_inside: ClassVar[bool] = False
    """Whether ``direction`` applies the ``in_update`` decay, before a trust ratio for example."""
    waits: ClassVar[int] = 0
    """How many first steps count and leave the parameter; their ``direction`` must be finite."""

    lr: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values, groups, vars(self)["_chosen"] = self._given((*self.inside, *args), kwargs)
        self._store(values, self.inside, groups)
        self._refuse()

    def _refuse(self, changed: Iterable[str] = KEPT) -> None:
        """Raise for values that do not go together, each valid by itself; ``changed`` are new."""
        self._refuse_combinations()
        decay_families.refuse_peakless(self)
        refuse_schedules(self)
        self.groups.check(self)
        dtype: Any = self._values.get("state_dtype")
        for slot in dict(dtype) if isinstance(dtype, tuple) else ():
            if slot not in self.declared_slots():
                raise ValueError(
                    f"{self.name}(state_dtype={dict(dtype)!r}): there is no slot {slot}; "
                    f"{self.name} keeps {listed(self.slots())}"
                )

    def _refuse_combinations(self) -> None:
        """Call the author's ``validate``, unless a number is traced."""
        if type(self).validate is Rule.validate:
            return
        now = self.map_numbers(known)
        if not any(map(is_array, now.numbers())):
            now.validate()

    # The methods of an author.

    def validate(self) -> None:
        """Raise for a meaningless combination of hyperparameters.

        It is called when the rule is made, with schedules in place of numbers, and at each step
        with the numbers of the schedules.
        """

    def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
        """Coefficients of step ``t`` (1, 2, ...), computed once per step; the kernel's ``s``.

        Hyperparameters such as ``self.lr`` are numbers here. They are in ``s`` too.
        """
        return {}

    def direction(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The direction to subtract, before lr and decay, and the new slots. Pure."""
        raise NotImplementedError(f"{self.name} does not define direction()")

    def local(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """For rules that need a tree: new slots, and 0-d terms of the sums over parameters."""
        raise NotImplementedError(f"{self.name} sums over a tree and does not define local()")

    def combine(self, xp: Any, sums: Any, shared: Any, s: Any) -> dict[str, Any]:
        """For rules that need a tree: new shared state from the sums.

        Results with undeclared names are passed to ``direction`` and not kept.
        """
        raise NotImplementedError(f"{self.name} sums over a tree and does not define combine()")

    # Derived members.

    @property
    def _own_need(self) -> str:
        """What the rule itself reads, without the rules inside."""
        return str(self.needs)

    @cached_property
    def reduces(self) -> bool:
        """Whether a step needs sums over all parameters."""
        return bool(self.needs == "tree")

    @cached_property
    def phases(self) -> int:
        """The number of sums over all parameters that a step needs, one after another."""
        return int(self._own_need == "tree") + sum(rule.phases for rule in self.inside)

    @cached_property
    def sees_axes(self) -> bool:
        """Whether a parameter's shape matters; otherwise the parameter may be a vector."""
        return self._own_need in SHAPED or any(rule.sees_axes for rule in self._through)

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The rules that parameters may have: this rule, or this rule around each of a route's."""
        below = tuple(branch for rule in self.inside for branch in rule.branches)
        if below == self.inside:
            return (self,)
        return tuple(self._copy(self._values, (rule,)) for rule in below)

    def branch(self, path: str, shape: Any) -> int:
        """Index in ``branches`` of the rule of a parameter."""
        return max((rule.branch(path, shape) for rule in self.inside), default=0)

    def table(self, params: Any) -> str:
        """The parameters: rule, reason, bytes of state; and the predicates that choose none.

        Args:
            params: a tree of arrays, or pairs of a name and a tensor (``named_parameters()``).

        Raises:
            TypeError, ValueError: a parameter that the rule cannot take, named by its path.
        """
        return table.written(self, params)

    def at(self, step: Any) -> Self:
        """The rule after ``step`` steps, with a number for each schedule.

        Without schedules it is the rule itself.

        Raises:
            ValueError: a schedule gave a value that its hyperparameter does not allow.
        """
        now = self
        if self._schedules:
            now = self._copy(scheduled.values_at(self, self._schedules, step))
            vars(now)["_scheduled"] = self._scheduled + self._schedules
            with scheduled.blamed(step):
                now._refuse_combinations()
                decay_families.refuse_peakless(now)
        inside = tuple(rule.at(self.steps_inside(step)) for rule in self.inside)
        same = all(map(is_, inside, self.inside))
        return now if same else now._copy(now._values, inside)

    @cached_property
    def _schedules(self) -> tuple[str, ...]:
        return scheduled.schedules(self)

    def steps_inside(self, step: Any) -> Any:
        """The number of steps of the rules inside after ``step`` steps of this rule."""
        if self.withheld is None:
            return step
        inside = step - self._withheld
        return (inside + abs(inside)) // 2  # never below 0, whatever the calls of a parameter

    def schedule_step(self, name: str, place: int, step: Any) -> Any:
        """The argument of the schedule of element ``place`` of a hyperparameter at ``step``."""
        return step

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """Everything the kernel reads as ``s``: numbers, decay coefficients, ``scalars()``."""
        own = self.scalars(xp, t)
        if (type(self), *own) not in checks.READ:
            checks.refuse_slips(self, own)
        family, lr = self.decay, own.get("step_size", self.lr)
        if family == "in_update" and "rate" in own and not self.decays_inside:
            family = "decoupled"  # the same where lr does not multiply the direction
        decay = own.get("weight_decay", self.weight_decay)
        decay = decay_families.scalars(family, lr, decay, self.peak_lr)
        found = self._numbers | decay | own
        return decay_families.waiting(self, xp, t, family, found) if self.waits else found

    @cached_property
    def _numbers(self) -> dict[str, Any]:
        fields = {n: self._values[n] for n, f in self._hypers.items() if isinstance(f, Hyper)}
        return {name: value for name, value in fields.items() if value is not None}

    def prepared(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient as the rule sees it: sign and coupled decay applied."""
        grad = -grad if self.maximize else grad
        return decay_families.decayed_gradient(self.decay, grad, param, s)

    def redirected(
        self,
        xp: Any,
        grad: Any,
        param: Any,
        state: Any,
        s: Any,
        redirect: Redirect | None,
        form: str = "descended",
    ) -> tuple[Any, Any]:
        """Prepare the gradient, take the direction, descend; ``form``: the method that does so.

        ``redirect(direction, grad)`` returns another direction; ``grad`` is prepared.
        """
        grad = self.prepared(xp, grad, param, state, s)
        direction, slots = self.direction(xp, grad, param, state, s)
        if tuple(direction.shape) != tuple(param.shape):
            raise ValueError(
                f"{self.name}.direction returned an array of shape {tuple(direction.shape)} for a "
                f"parameter of shape {tuple(param.shape)}; they must be equal"
            )
        direction = direction if redirect is None else redirect(direction, grad)
        if self.decay == "cautious":
            s = decay_families.masked(xp, direction, param, s)
        return getattr(self, form)(param, direction, s), slots

    def gather(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any, phase: int
    ) -> tuple[Any, Any]:
        """``local`` on the prepared gradient."""
        return self.local(xp, self.prepared(xp, grad, param, state, s), param, state, s)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """``combine``, in the only phase of a rule by itself."""
        return self._combined(xp, sums, shared, s)

    def _combined(self, xp: Any, sums: Any, shared: Any, s: Any) -> dict[str, Any]:
        new = self.combine(xp, sums, shared, s)
        if self._shared.keys() - new.keys():
            raise ValueError(
                f"{self.name}.combine returned {listed(new)}; {self.name} keeps the shared state "
                f"{listed(self._shared)}"
            )
        return new

    # The methods of a user.

    def init(self, params: Any) -> State:
        """The state before the first step.

        Args:
            params: an array of any Array API library, or a tree (dicts, lists, tuples) of them.

        Raises:
            TypeError, ValueError: a parameter that the rule cannot take, named by its path.
        """
        return whole.init(self, params)

    def update(self, grads: Any, params: Any, state: State) -> tuple[Any, State]:
        """One step. Pure: nothing passed in is changed.

        Args:
            grads: gradients, shaped like ``params``. If a gradient is ``None`` or absent, the
                parameter and its state are unchanged.
            params: an array or a tree of arrays.
            state: the state that ``init`` or the last ``update`` returned.

        Returns:
            The new parameters and the new state.

        Raises:
            TypeError, ValueError: an array or the state does not fit; it is named by its path.
        """
        return whole.update(self, grads, params, state)
