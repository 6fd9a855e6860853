"""The update rule: its declaration made into a class, and one step as a pure function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import array_api_compat

from . import step as stepping
from . import tree
from . import weight_decay as decay_families
from .declaration import Hyper, Option, Shared, Slot, hyper, is_array, option

__all__ = ["ELSEWHERE", "Rule", "State", "Wrapper", "registry"]

registry: dict[str, type[Rule]] = {}
"""Every rule class by name: those of the package and those that a user has defined."""

ELSEWHERE = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "beta1": "betas",
    "beta2": "betas",
    "beta_1": "betas",
    "beta_2": "betas",
    "b1": "betas",
    "b2": "betas",
    "wd": "weight_decay",
}
"""How other libraries spell our hyperparameters; used in messages only."""

NEEDS = ("element", "tensor", "factored", "matrix", "tree")


def _number(value: Any) -> Any:
    """What a schedule returned: a Python number if its value is known, else as it is."""
    try:
        return float(value) if is_array(value) else value
    except Exception:  # every framework has its own error for a value that is being traced
        return value


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _refuse_unknown(rule: Rule, grads: Any, arrays: Mapping[tuple[Any, ...], Any]) -> None:
    for path, _ in tree.leaves(grads):
        if path not in arrays:
            raise ValueError(
                f"{rule.name}: there is a gradient for {_dotted(path)!r} and no such parameter"
            )


def _refuse_clashes(cls: type[Rule]) -> None:
    """A name may stand for one thing only: all of them become keys of one flat record."""
    names = [*cls._fields, *cls._slots, *cls._shared]
    for name in names:
        own = inspect.getattr_static(Rule, name, None)
        shadows = own is not None and not isinstance(own, (Hyper, Option))
        if names.count(name) > 1 or shadows or name in ("params", "inner", "rule"):
            raise TypeError(f"{cls.__name__} declares {name!r} twice, or it is a reserved name")
    if not isinstance(cls.needs, property) and "lr" not in cls._fields:
        raise TypeError(f"{cls.__name__} declares no lr; every rule has a step size")
    if not isinstance(cls.needs, property) and cls.needs not in NEEDS:
        raise TypeError(f"{cls.__name__}.needs is {cls.needs!r}; it must be one of {NEEDS}")


class State(NamedTuple):
    """The state of a tree of parameters.

    ``step``: steps taken so far. ``slots``: for each slot, a tree shaped like the parameters.
    ``shared``: 0-d arrays kept once for all parameters.
    """

    step: Any
    slots: dict[str, Any]
    shared: dict[str, Any]


class Rule:
    """An update rule on ``(grad, param, state)``, independent of any framework.

    A subclass declares hyperparameters and slots in its body and defines ``direction``, and
    ``scalars`` where it has coefficients to prepare. Instances are immutable.
    """

    weight_decay = hyper(
        0.0,
        "strength of weight decay, which enters as decay says",
        unit="1/lr, or gradient/parameter with l2",
        ge=0,
        typical=0.1,
    )
    decay = option("decoupled", "how weight decay enters", choices=decay_families.FAMILIES)
    maximize = option(False, "ascend instead of descend")
    state_dtype = option(
        None,
        "dtype of the state; None is the parameter's",
        choices=(None, "float32", "float64", "bfloat16", "float16"),
    )

    needs: ClassVar[Any] = "element"
    """What the rule reads beside its own element: one of ``NEEDS``."""
    min_ndim: ClassVar[Any] = 0
    """How many dimensions a parameter must have at least."""
    continuous: ClassVar[bool] = True
    """Whether a tiny change of the gradient makes a tiny change of the step; not so with a sign."""
    decays_inside: ClassVar[bool] = False
    """Whether ``direction`` itself places the ``in_update`` decay (before a trust ratio, say)."""

    lr: Any
    _values: dict[str, Any]
    _fields: ClassVar[dict[str, Hyper | Option]] = {}
    _slots: ClassVar[dict[str, Slot]] = {}
    _shared: ClassVar[dict[str, Shared]] = {}
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fields = cls._declared((Hyper, Option))
        cls._slots = cls._declared(Slot)
        cls._shared = cls._declared(Shared)
        cls.__signature__ = cls._derived_signature()
        _refuse_clashes(cls)
        if register:
            known = registry.get(cls.__name__)
            if known is not None and known.__module__ != cls.__module__:
                raise ValueError(
                    f"a rule named {cls.__name__} exists already, in "
                    f"{known.__module__}; choose another name"
                )
            registry[cls.__name__] = cls

    @classmethod
    def _declared(cls, kind: Any) -> dict[str, Any]:
        bases = [base for base in reversed(cls.__mro__) if base not in (object, Rule)]
        found: dict[str, Any] = {}
        for name in [name for base in (*bases, Rule) for name in vars(base)]:
            value = inspect.getattr_static(cls, name)
            if isinstance(value, kind):
                found.setdefault(name, value)
        return found

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        common = set(vars(Rule))
        return inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY
                    if name in common and name != "weight_decay"
                    else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=field.default,
                )
                for name, field in sorted(
                    cls._fields.items(), key=lambda item: item[0] in common - {"weight_decay"}
                )
            ]
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = self._bind(args, kwargs)
        values = {name: field.default for name, field in self._fields.items()} | bound
        self._store({n: f.validated(self.name, values[n]) for n, f in self._fields.items()})
        self.validate()

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        for name, value in kwargs.items():
            if name not in cls.__signature__.parameters:
                near = difflib.get_close_matches(name, cls.__signature__.parameters, 1)
                near = [ELSEWHERE[name]] if name in ELSEWHERE else near
                raise TypeError(
                    f"{cls.__name__}({name}={value!r}): there is no {name}; {cls.__name__} "
                    f"takes {', '.join(cls.__signature__.parameters)}"
                    + (f". Did you mean {near[0]}?" if near else "")
                )
        try:
            return dict(cls.__signature__.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}: {error}; the signature is {cls.__name__}{cls.__signature__}"
            ) from None

    def _store(self, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    # What an author defines.

    def validate(self) -> None:
        """Refuse combinations of hyperparameters that mean nothing; single ranges are declared."""

    def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
        """Coefficients of step ``t`` (1, 2, ...), computed once per step; the kernel's ``s``.

        ``self.lr`` and the others are numbers here, schedules resolved. They are in ``s`` as well.
        """
        return {}

    def direction(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """What the parameter moves against, before lr and decay, and the new slots. Pure."""
        raise NotImplementedError(f"{self.name} does not define direction()")

    def local(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """For rules that need a tree: new slots, and 0-d terms to be summed over parameters."""
        raise NotImplementedError(f"{self.name} needs a tree but does not define local()")

    def combine(self, xp: Any, sums: Any, shared: Any, s: Any) -> dict[str, Any]:
        """For rules that need a tree: new shared state from the sums.

        Names beyond the declared ones are passed on to ``direction`` and not kept.
        """
        raise NotImplementedError(f"{self.name} needs a tree but does not define combine()")

    # What is derived.

    @property
    def name(self) -> str:
        """Name of the rule."""
        return type(self).__name__

    @property
    def hypers(self) -> dict[str, Any]:
        """Every hyperparameter and option by name."""
        return dict(self._values)

    @property
    def storage(self) -> str | None:
        """Name of the state's dtype; ``None`` is the parameter's."""
        dtype: str | None = self.hypers["state_dtype"]
        return dtype

    @property
    def reduces(self) -> bool:
        """Whether a step needs sums over all parameters."""
        return bool(self.needs == "tree")

    @classmethod
    def fields(cls) -> dict[str, Hyper | Option]:
        """The declared hyperparameters and options by name."""
        return dict(cls._fields)

    def slots(self) -> dict[str, Slot]:
        """The state arrays that this instance keeps for a parameter."""
        return {n: s for n, s in self._slots.items() if s.only_if is None or self._on(s.only_if)}

    def declared_slots(self) -> dict[str, Slot]:
        """All slots, those included that hyperparameters switch off."""
        return dict(self._slots)

    def _on(self, name: str) -> bool:
        value = self._values[name]
        return is_array(value) or callable(value) or bool(value)

    def shared(self) -> dict[str, Shared]:
        """The 0-d state arrays kept once for all parameters."""
        return dict(self._shared)

    def start(self, item: Shared) -> Any:
        """First value of a shared state array."""
        return self._values[item.start] if isinstance(item.start, str) else item.start

    def replace(self, **changes: Any) -> Self:
        """The same rule with some hyperparameters changed."""
        return type(self)(**{**self._values, **changes})

    def at(self, step: Any) -> Self:
        """The rule as it is after ``step`` steps: schedules resolved to numbers.

        Raises:
            ValueError: a schedule gave what its hyperparameter may not be.
        """
        values = dict(self._values)
        for name, field in self._fields.items():
            value = values[name]
            parts = value if isinstance(value, tuple) else (value,)
            if isinstance(field, Hyper) and any(map(callable, parts)):
                now = tuple(_number(part(step)) if callable(part) else part for part in parts)
                try:
                    values[name] = field.validated(self.name, now if parts is value else now[0])
                except ValueError as error:
                    raise ValueError(f"{error}; the schedule gave it for step {step}") from None
        return self._copy(values)

    def numbers(self) -> Iterator[Any]:
        """Every hyperparameter that is no option, tuples taken apart."""
        for name, field in self._fields.items():
            if isinstance(field, Hyper) and name in self._values:
                value = self._values[name]
                yield from value if isinstance(value, tuple) else (value,)

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number."""
        values = dict(self._values)
        for name, field in self._fields.items():
            if isinstance(field, Hyper):
                value = values[name]
                values[name] = (
                    tuple(map(function, value)) if isinstance(value, tuple) else function(value)
                )
        return self._copy(values)

    def without_numbers(self) -> Self:
        """A copy with options only: what a kernel may know, and what it is compiled for."""
        options = {n: self._values[n] for n, f in self._fields.items() if isinstance(f, Option)}
        return self._copy(options)

    def _copy(self, values: dict[str, Any]) -> Self:
        copy = object.__new__(type(self))
        copy._store(values)
        return copy

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """Everything the kernel reads as ``s``: numbers, decay coefficients, ``scalars()``."""
        numbers = {
            n: self._values[n]
            for n, f in self._fields.items()
            if isinstance(f, Hyper) and self._values[n] is not None
        }
        decay = {}
        if "decay" in self._fields:
            decay = decay_families.scalars(self.decay, self.lr, self.weight_decay)
        return numbers | decay | self.scalars(xp, t)

    def prepared(self, grad: Any, param: Any, s: Any) -> Any:
        """The gradient as the rule sees it: sign and coupled decay applied."""
        grad = -grad if self.maximize else grad
        return decay_families.decayed_gradient(self.decay, grad, param, s)

    def step(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """Prepare the gradient, take the direction, descend; arrays in the compute dtype."""
        direction, slots = self.direction(xp, self.prepared(grad, param, s), param, state, s)
        if tuple(direction.shape) != tuple(param.shape):
            raise ValueError(
                f"{self.name}.direction returned an array of shape {tuple(direction.shape)} for a "
                f"parameter of shape {tuple(param.shape)}; they must be equal"
            )
        if not self.decays_inside:
            direction = decay_families.decayed_direction(self.decay, direction, param, s)
        return decay_families.descend(self.decay, param, direction, s), slots

    def gather(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """``local`` on the prepared gradient."""
        return self.local(xp, self.prepared(grad, param, s), param, state, s)

    # What a user calls.

    def init(self, params: Any) -> State:
        """The state before the first step.

        Args:
            params: an array of any Array API library, or a tree (dicts, lists, tuples) of them.

        Raises:
            TypeError, ValueError: a parameter that the rule cannot take, named by its path.
        """
        arrays = dict(tree.leaves(params))
        if not arrays:
            return State(0, dict.fromkeys(self.slots(), params), {})
        xp = array_api_compat.array_namespace(next(iter(arrays.values())))
        for path, array in arrays.items():
            stepping.check(self, xp, _dotted(path), array)
        first = {path: stepping.init_slots(self, xp, array) for path, array in arrays.items()}

        def first_slot(name: str) -> Any:
            return tree.rebuild(params, lambda path, _: first[path][name])

        slots = {name: first_slot(name) for name in self.slots()}
        return State(0, slots, stepping.init_shared(self, xp, list(arrays.values())))

    def update(self, grads: Any, params: Any, state: State) -> tuple[Any, State]:
        """One step. Pure: nothing passed in is changed.

        Args:
            grads: gradients, shaped like ``params``; where they are ``None`` or absent the
                parameter and its state stay as they are.
            params: an array or a tree of arrays.
            state: what ``init`` or the last ``update`` returned.

        Returns:
            The new parameters and the new state.

        Raises:
            TypeError, ValueError: arrays or a state that do not fit, named by their path.
        """
        if not isinstance(state, State):
            raise TypeError(
                f"{self.name}.update: state is {type(state).__name__}; "
                "it must be what init() or update() returned"
            )
        stepping.check_slots(self, "the parameters", state.slots)
        if state.slots and set(state.shared) != set(self.shared()):
            raise ValueError(
                f"{self.name}: the shared state has {_listed(state.shared)}; "
                f"{self.name} keeps {_listed(self.shared())}"
            )
        arrays = dict(tree.leaves(params))
        _refuse_unknown(self, grads, arrays)
        given = {path: grad for path in arrays if (grad := tree.subtree(grads, path)) is not None}
        if not given:
            return params, state._replace(step=state.step + 1)
        xp = array_api_compat.array_namespace(arrays[next(iter(given))])
        for path, grad in given.items():
            stepping.check(self, xp, _dotted(path), arrays[path], grad)
        entries = [
            stepping.Entry(
                self, state.step, grad, arrays[path], self._slots_of(state, path, grad.shape)
            )
            for path, grad in given.items()
        ]
        results, shared = stepping.run(xp, entries, state.shared)
        new = dict(zip(given, results, strict=True))

        def new_slot(name: str) -> Any:
            old = state.slots[name]
            return tree.rebuild(
                params,
                lambda path, _: new[path][1][name] if path in new else tree.subtree(old, path),
            )

        return (
            tree.rebuild(params, lambda path, old: new[path][0] if path in new else old),
            State(state.step + 1, {name: new_slot(name) for name in self.slots()}, shared),
        )

    def _slots_of(self, state: State, path: tuple[Any, ...], shape: Any) -> dict[str, Any]:
        found = {name: tree.subtree(state.slots[name], path) for name in self.slots()}
        for name, value in found.items():
            if value is None:
                raise ValueError(
                    f"{self.name}: the state has no slot {name} for parameter "
                    f"{_dotted(path)!r}; was it made for other parameters?"
                )
        stepping.check_slots(self, _dotted(path), found, shape)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is immutable; use rule.replace({name}={value!r})")

    def __repr__(self) -> str:
        shown = [f"{n}={v!r}" for n, v in self._values.items() if v != self._fields[n].default]
        return f"{self.name}({', '.join(shown)})"

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and self.hypers == other.hypers

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted(self.hypers.items(), key=lambda item: item[0]))))


class _Wrapped:
    """A hyperparameter that a wrapper leaves to the rule inside."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: Any, owner: type) -> Any:
        return self if wrapper is None else wrapper.rule.hypers[self.name]


class Wrapper(Rule, register=False):
    """A rule around another rule. It has the wrapped rule's hyperparameters beside its own.

    A subclass declares its own and defines ``step``, which calls ``self.rule.step`` with
    ``s.inner``.
    """

    weight_decay, decay = _Wrapped(), _Wrapped()
    maximize, state_dtype = _Wrapped(), _Wrapped()

    def __init__(self, rule: Rule, *args: Any, **kwargs: Any) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(
                f"{self.name}({rule!r}): the first argument must be a rule, "
                f"such as {self.name}(AdamW(lr=1e-3))"
            )
        object.__setattr__(self, "rule", rule)
        taken = {*rule.hypers, *rule.slots(), *rule.shared()} & {*self._fields, *self._slots}
        if taken:
            raise ValueError(
                f"{self.name}({rule!r}): both have {_listed(taken)}; "
                f"{self.name} cannot wrap {rule.name}"
            )
        super().__init__(*args, **kwargs)

    rule: Rule

    def at(self, step: Any) -> Self:
        """Both rules as they are after ``step`` steps."""
        return super().at(step)._around(self.rule.at(step))

    def __getattr__(self, name: str) -> Any:
        if name in self._fields or name.startswith("_") or name == "rule":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.rule, name)

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        first = inspect.Parameter("rule", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return inspect.Signature([first, *super()._derived_signature().parameters.values()])

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = super()._bind((None, *args), kwargs)
        return {name: value for name, value in bound.items() if name != "rule"}

    @property
    def needs(self) -> str:
        """What the wrapped rule needs."""
        return str(self.rule.needs)

    @property
    def min_ndim(self) -> int:
        """What the wrapped rule takes."""
        return int(self.rule.min_ndim)

    @property
    def hypers(self) -> dict[str, Any]:
        """The wrapped rule's hyperparameters and the wrapper's own."""
        return {**self.rule.hypers, **self._values}

    def slots(self) -> dict[str, Slot]:
        """The wrapped rule's slots and the wrapper's own."""
        return {**self.rule.slots(), **super().slots()}

    def declared_slots(self) -> dict[str, Slot]:
        """All slots of both."""
        return {**self.rule.declared_slots(), **super().declared_slots()}

    def shared(self) -> dict[str, Shared]:
        """The wrapped rule's shared state and the wrapper's own."""
        return {**self.rule.shared(), **super().shared()}

    def start(self, item: Shared) -> Any:
        """First value of a shared state array, the wrapped rule's or the wrapper's."""
        own = item in self._shared.values()
        return super().start(item) if own else self.rule.start(item)

    def replace(self, **changes: Any) -> Self:
        """The same rule with some hyperparameters changed, its own or the wrapped rule's."""
        own = {name: changes.pop(name) for name in [*changes] if name in self._fields}
        return type(self)(self.rule.replace(**changes), **{**self._values, **own})

    def numbers(self) -> Iterator[Any]:
        """The numbers of both."""
        yield from self.rule.numbers()
        yield from super().numbers()

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number of both."""
        return super().map_numbers(function)._around(self.rule.map_numbers(function))

    def without_numbers(self) -> Self:
        """A copy of both with options only."""
        return super().without_numbers()._around(self.rule.without_numbers())

    def _around(self, rule: Rule) -> Self:
        object.__setattr__(self, "rule", rule)
        return self

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """The wrapper's ``s``, with the wrapped rule's as ``s.inner``."""
        return {**super().coefficients(xp, t), "inner": self.rule.coefficients(xp, t)}

    def step(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """The wrapped rule's step."""
        return self.rule.step(xp, grad, param, state, s.inner)

    def gather(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """The wrapped rule's share of the sums."""
        return self.rule.gather(xp, grad, param, state, s.inner)

    def combine(self, xp: Any, sums: Any, shared: Any, s: Any) -> dict[str, Any]:
        """The wrapped rule's shared state."""
        return self.rule.combine(xp, sums, shared, s.inner)

    def __repr__(self) -> str:
        return super().__repr__().replace("(", f"({self.rule!r}, ", 1).replace(", )", ")")

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and self.rule == other.rule

    __hash__ = Rule.__hash__
