"""The update rule: its declaration made into a class, and one step as a pure function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import array_api_compat

from . import documentation, table, tree
from . import step as stepping
from . import weight_decay as decay_families
from .arrays import is_array, known, listed
from .declaration import Hyper, Option, Shared, Slot, Storage, hyper, option, plain
from .dialects import Preset
from .groups import Groups
from .spelling import ELSEWHERE, did_you_mean

__all__ = ["Rule", "State", "registry"]

registry: dict[str, type[Rule]] = {}
"""Every rule class by name: those of the package and those that a user has defined."""

NEEDS = ("element", "tensor", "axes", "factored", "matrix", "tree")
"""What a rule may read beside its own element, from the least to the most."""
SHAPED = ("axes", "factored", "matrix")
"""Those of them for which the shape of a parameter matters."""

FIRST = ("lr", "betas")
"""What a rule's signature begins with."""
LAST = ("weight_decay", "decay", "maximize", "state_dtype")
"""What it ends with, numbers and options each."""

RESERVED = ("inner", "keep", "params", "rate", "rule", "shrink")
"""Names that mean something else where a rule's own names are used."""


def _refuse_unknown(rule: Rule, grads: Any, arrays: Mapping[tuple[Any, ...], Any]) -> None:
    for path, grad in tree.leaves(grads):
        below = [tree.dotted(known) for known in arrays if known[: len(path)] == path]
        if path not in arrays and below:
            where = f"for {tree.dotted(path)!r} " if path else ""
            raise ValueError(
                f"{rule.name}: the gradient {where}is {type(grad).__name__}, where the parameters "
                f"are a tree: {listed(below)}"
            )
        if path not in arrays:
            raise ValueError(
                f"{rule.name}: there is a gradient for {tree.dotted(path)!r} and no such parameter"
            )


class _Found(NamedTuple):
    """An array that a rule was given, and what to call it."""

    array: Any
    path: tuple[Any, ...]
    of: str = ""

    def __str__(self) -> str:
        parameter = f"parameter {tree.dotted(self.path)!r}" if self.path else "the parameter"
        module, kind = type(self.array).__module__.partition(".")[0], type(self.array).__name__
        kind = kind if module == "builtins" else f"{module}'s {kind}"
        return f"{self.of}{parameter} is {kind}"


def _namespace(rule: Rule, arrays: Iterable[_Found]) -> Any:
    """The library of all arrays."""
    libraries: dict[type, tuple[Any, _Found]] = {}
    for found in arrays:
        if type(found.array) in libraries:
            continue
        try:
            xp = array_api_compat.array_namespace(found.array)
        except TypeError:
            raise TypeError(
                f"{rule.name}: {found}; it must be an array of NumPy, torch, JAX, MLX or another "
                "library that follows the Array API"
            ) from None
        for other, first in libraries.values():
            if xp is not other:
                raise TypeError(f"{rule.name}: {first}, {found}; all must be arrays of one library")
        libraries[type(found.array)] = xp, found
    return next(iter(libraries.values()))[0]


@contextmanager
def _at(step: Any) -> Iterator[None]:
    """Say of an error that a schedule is to blame, and at which step."""
    try:
        yield
    except ValueError as error:
        now = known(step)
        when = "a traced step" if is_array(now) else f"step {now}"
        raise ValueError(f"{error}; the schedule gave it for {when}") from None


def _chosen(rule: str, presets: Mapping[str, dict[str, Any]], like: Any) -> dict[str, Any]:
    """The values of the dialect that was asked for."""
    if like is None:
        return {}
    if not isinstance(like, str) or like not in presets:
        raise ValueError(
            f"{rule}(like={like!r}): there is no such dialect; {rule} has "
            + (", ".join(map(repr, presets)) or "none")
        )
    return presets[like]


def _refuse_clashes(cls: type[Rule]) -> None:
    """A name may stand for one thing only: all of them become keys of one flat record."""
    names = [*cls._hypers, *cls._slots, *cls._shared]
    for name in names:
        own = inspect.getattr_static(Rule, name, None)
        shadows = own is not None and not isinstance(own, (Hyper, Option))
        if names.count(name) > 1 or shadows or name in RESERVED:
            raise TypeError(f"{cls.__name__} declares {name!r} twice, or it is a reserved name")
    wraps = "rule" in cls.__signature__.parameters
    if not (wraps or cls._shared_part or "lr" in cls._hypers):
        raise TypeError(f"{cls.__name__} declares no lr; every rule has a step size")
    if not isinstance(cls.needs, property) and cls.needs not in NEEDS:
        raise TypeError(f"{cls.__name__}.needs is {cls.needs!r}; it must be one of {NEEDS}")


def _refuse_presets(cls: type[Rule]) -> None:
    """A dialect is made of values that the rule's own fields take."""
    for dialect, item in cls.dialects.items():
        for name, value in item.values.items():
            if name not in cls._hypers:
                raise TypeError(
                    f"{cls.__name__}: dialect {dialect!r} sets {name}, which is no field"
                )
            cls._hypers[name].validated(f"{cls.__name__}(like={dialect!r})", value)


class State(NamedTuple):
    """The state of a tree of parameters.

    ``step``: steps taken so far. ``slots``: for each slot, a tree shaped like the parameters.
    ``shared``: 0-d arrays kept once for all parameters.
    """

    step: Any
    slots: dict[str, Any]
    shared: dict[str, Any]

    @property
    def steps_taken(self) -> int:
        """Steps taken so far, as every optimizer of samestep says it.

        Raises:
            TypeError: the step is traced, and so not known.
        """
        count = known(self.step)
        if is_array(count):
            raise TypeError("the step is traced; steps_taken is known outside of jit only")
        return int(count)


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
    state_dtype = Storage(None, "dtype of the state, or of single slots; None is the parameter's")

    needs: ClassVar[Any] = "element"
    """What the rule reads beside its own element: one of ``NEEDS``."""
    min_ndim: ClassVar[Any] = 0
    """How many dimensions a parameter must have at least."""
    continuous: ClassVar[bool] = True
    """Whether a tiny change of the gradient makes a tiny change of the step; not so with a sign."""
    amplifies: ClassVar[float] = 1
    """How much more than others the rule may make of a rounding error in its gradient."""
    version: ClassVar[int] = 1
    """Of the state: raised when what a slot holds comes to mean something else."""
    decays_inside: ClassVar[bool] = False
    """Whether ``direction`` itself places the ``in_update`` decay (before a trust ratio, say)."""
    dialects: ClassVar[dict[str, Preset]] = {}
    """What libraries compute under this rule's name: presets of its fields, for ``like=``."""

    lr: Any
    groups: Groups
    """Which parameters have other numbers, and which do not decay."""
    _shared_part: ClassVar[bool] = False
    _values: dict[str, Any]
    _variants: dict[Any, Rule]
    _scheduled: tuple[str, ...] = ()
    """Of a rule at one step: the numbers that a schedule gave."""
    _hypers: ClassVar[dict[str, Hyper | Option]] = {}
    _slots: ClassVar[dict[str, Slot]] = {}
    _shared: ClassVar[dict[str, Shared]] = {}
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._shared_part = not register
        cls._hypers = cls._declared((Hyper, Option))
        cls._slots = cls._declared(Slot)
        cls._shared = cls._declared(Shared)
        own = vars(cls).get("dialects", {})
        cls.dialects = {name: item.named(name, cls.__name__) for name, item in own.items()}
        cls.__signature__ = cls._derived_signature()
        _refuse_clashes(cls)
        _refuse_presets(cls)
        if register:
            cls.__doc__ = documentation.described(cls)
            known = registry.get(cls.__name__)
            if known is not None and known.__module__ != cls.__module__:
                raise ValueError(
                    f"a rule named {cls.__name__} exists already, in "
                    f"{known.__module__}; choose another name"
                )
            registry[cls.__name__] = cls

    @classmethod
    def _declared(cls, kind: Any) -> dict[str, Any]:
        """What the class and its bases declare, in the order of the signature."""
        bases = [base for base in reversed(cls.__mro__) if issubclass(base, Rule)]
        if kind is not Slot:  # a rule's own fields stand before those of the parts it shares
            bases.sort(key=lambda base: (base is Rule, base._shared_part))
        names = [n for base in bases for n, v in vars(base).items() if isinstance(v, kind)]
        places = {name: place for place, name in enumerate((*FIRST, None, *LAST))}
        names.sort(key=lambda name: places.get(name, places[None]))
        found: dict[str, Any] = {}
        for name in names:
            value = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
            if isinstance(value, kind):
                found.setdefault(name, value)
        return found

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        """Numbers first, which may be given by position; then options, and what chooses them."""
        kinds = inspect.Parameter
        numbers = {n: f.default for n, f in cls._hypers.items() if isinstance(f, Hyper)}
        options = {n: f.default for n, f in cls._hypers.items() if isinstance(f, Option)}
        chosen = {"like": None, "mask": None, "groups": ()}
        return inspect.Signature(
            [kinds(n, kinds.POSITIONAL_OR_KEYWORD, default=value) for n, value in numbers.items()]
            + [kinds(n, kinds.KEYWORD_ONLY, default=v) for n, v in {**options, **chosen}.items()]
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = self._bind(args, kwargs)
        like = bound.pop("like", None)
        groups = Groups(self.name, bound.pop("mask", None), bound.pop("groups", ()))
        chosen = _chosen(self.name, self._presets(), like)
        values = {n: f.default for n, f in self._hypers.items()} | chosen | bound
        self._store({n: f.validated(self.name, values[n]) for n, f in self._hypers.items()}, groups)
        self._refuse_combinations()
        groups.check(self)
        self._refuse_stray_dtypes()

    @classmethod
    def _presets(cls) -> dict[str, dict[str, Any]]:
        """The values of every dialect, in the order of names."""
        return {name: item.values for name, item in sorted(cls.dialects.items())}

    def _all_presets(self) -> dict[str, dict[str, Any]]:
        """The values of every dialect, those of a wrapped rule included."""
        return self._presets()

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        for name, value in kwargs.items():
            if name not in cls.__signature__.parameters:
                takes = cls.__signature__.parameters
                raise TypeError(
                    f"{cls.__name__}({name}={value!r}): there is no {name}; {cls.__name__} "
                    f"takes {', '.join(takes)}{did_you_mean(ELSEWHERE.get(name, name), takes)}"
                )
        try:
            return dict(cls.__signature__.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}: {error}; the signature is {cls.__name__}{cls.__signature__}"
            ) from None

    def _store(self, values: dict[str, Any], groups: Groups) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "_variants", {})

    def _refuse_stray_dtypes(self) -> None:
        dtype: Any = self.hypers.get("state_dtype")
        for slot in dict(dtype) if isinstance(dtype, tuple) else ():
            if slot not in self.declared_slots():
                raise ValueError(
                    f"{self.name}(state_dtype={dict(dtype)!r}): there is no slot {slot}; "
                    f"{self.name} keeps {listed(self.slots())}"
                )

    def _refuse_combinations(self) -> None:
        """What the author refuses; nothing as long as a number is traced."""
        now = self.map_numbers(known)
        if not any(map(is_array, now.numbers())):
            now.validate()

    # What an author defines.

    def validate(self) -> None:
        """Refuse combinations of hyperparameters that mean nothing; single ranges are declared.

        Called when the rule is made, with schedules in place of numbers, and again with the numbers
        that they give at each step.
        """

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

    def storage(self, slot: str) -> str | None:
        """Name of a slot's dtype; ``None`` is the parameter's."""
        return self._dtype_of(slot, self.hypers["state_dtype"])

    @staticmethod
    def _dtype_of(slot: str, dtype: Any) -> str | None:
        return dict(dtype).get(slot) if isinstance(dtype, tuple) else dtype

    @property
    def reduces(self) -> bool:
        """Whether a step needs sums over all parameters."""
        return bool(self.needs == "tree")

    @property
    def phases(self) -> int:
        """How many sums over all parameters a step needs, each after the one before."""
        return int(self.reduces)

    @property
    def sees_axes(self) -> bool:
        """Whether a parameter's shape matters; to other rules it may come as a vector."""
        return self.needs in SHAPED

    @property
    def divides(self) -> bool:
        """Whether a step is a direction and a descent, so that something can come between."""
        return type(self).step is Rule.step

    @classmethod
    def fields(cls) -> dict[str, Hyper | Option]:
        """The declared hyperparameters and options by name."""
        return dict(cls._hypers)

    def all_fields(self) -> dict[str, Hyper | Option]:
        """The declared fields, those of a wrapped rule included."""
        return dict(self._hypers)

    def slots(self) -> dict[str, Slot]:
        """The state arrays that this instance keeps for a parameter."""
        return {n: s for n, s in self._slots.items() if s.only_if is None or self._on(s.only_if)}

    def declared_slots(self) -> dict[str, Slot]:
        """All slots, those included that hyperparameters switch off."""
        return dict(self._slots)

    def _on(self, name: str) -> bool:
        value = getattr(self, name)
        return name in self._scheduled or is_array(value) or callable(value) or bool(value)

    def shared(self) -> dict[str, Shared]:
        """The 0-d state arrays kept once for all parameters."""
        return dict(self._shared)

    def first_value(self, item: Shared) -> Any:
        """First value of a shared state array."""
        return self._values[item.start] if isinstance(item.start, str) else item.start

    def replace(self, **changes: Any) -> Self:
        """The same rule with some hyperparameters changed; ``like`` changes those of a dialect."""
        changes = self._without_like(changes)
        return type(self)(**{**self._values, **self.groups.arguments(), **changes})

    def _without_like(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes with the values of a dialect in the place of its name."""
        chosen = _chosen(self.name, self._all_presets(), changes.pop("like", None))
        return {**chosen, **changes}

    def of(self, path: str, shape: Any) -> Rule:
        """The rule for one parameter: with its group's numbers, and decay only where it applies."""
        place = self.groups.place(path, tuple(shape))
        if place == (None, True):
            return self
        if place not in self._variants:
            self._variants[place] = self.groups.applied(self, place)
            object.__setattr__(self._variants[place], "_whole", self)
        return self._variants[place]

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The rules that parameters may have: this one; several in a route."""
        return (self,)

    def branch(self, path: str, shape: Any) -> int:
        """Place among the branches of the rule that has a parameter."""
        return 0

    def reasons(self, path: str, shape: Any) -> list[str]:
        """Why a parameter has the rule and the numbers that it has, in a few words each."""
        place, decays = self.groups.place(path, tuple(shape))
        group = [] if place is None else [f"group {place}"]
        return group if decays else [*group, "not in mask"]

    def table(self, params: Any) -> str:
        """Which parameter has which rule, why, and how many bytes of state that takes.

        Args:
            params: a tree of arrays, or pairs of a name and a tensor (``named_parameters()``).

        Raises:
            TypeError, ValueError: a parameter that the rule cannot take, named by its path.
        """
        return table.written(self, params)

    @property
    def whole(self) -> Rule:
        """The rule of all parameters, of which this may be one group's."""
        rule: Rule = vars(self).get("_whole", self)
        return rule

    @property
    def dialect(self) -> str | None:
        """Name of the dialect with most values, all of which are the rule's, or ``None``."""
        alike = [
            (len(item.values), name)
            for name, item in self.dialects.items()
            if all(self.hypers[field] == value for field, value in item.values.items())
        ]
        return max(alike, key=lambda pair: pair[0])[1] if alike else None

    def at(self, step: Any) -> Self:
        """The rule as it is after ``step`` steps: schedules resolved to numbers.

        Raises:
            ValueError: a schedule gave what its hyperparameter may not be.
        """
        values, scheduled = dict(self._values), []
        for name, field in self._hypers.items():
            value = values[name]
            parts = value if isinstance(value, tuple) else (value,)
            if isinstance(field, Hyper) and any(map(callable, parts)):
                steps = [self.schedule_step(name, place, step) for place in range(len(parts))]
                now = tuple(
                    known(part(seen)) if callable(part) else part
                    for part, seen in zip(parts, steps, strict=True)
                )
                scheduled.append(name)
                given = now if parts is value else now[0]
                with _at(step):
                    values[name] = field.validated(self.name, given, schedules=False)
        copy = self._copy(values)
        if scheduled:
            object.__setattr__(copy, "_scheduled", tuple(scheduled))
            with _at(step):
                copy._refuse_combinations()
        return copy

    def schedule_step(self, name: str, place: int, step: Any) -> Any:
        """What a schedule of element ``place`` of a hyperparameter is called with at ``step``."""
        return step

    def numbers(self) -> Iterator[Any]:
        """Every hyperparameter that is no option, tuples taken apart."""
        for name, field in self._hypers.items():
            if isinstance(field, Hyper) and name in self._values:
                value = self._values[name]
                yield from value if isinstance(value, tuple) else (value,)

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number."""
        values = dict(self._values)
        for name, field in self._hypers.items():
            if isinstance(field, Hyper):
                value = values[name]
                values[name] = (
                    tuple(map(function, value)) if isinstance(value, tuple) else function(value)
                )
        return self._copy(values)

    def without_numbers(self) -> Self:
        """A copy with options only: what a kernel may know, and what it is compiled for."""
        return self._bare

    @cached_property
    def _bare(self) -> Self:
        return self._stripped()

    def _stripped(self) -> Self:
        options = {n: self._values[n] for n, f in self._hypers.items() if isinstance(f, Option)}
        return self._copy(options, Groups(self.name))

    def _copy(self, values: dict[str, Any], groups: Groups | None = None) -> Self:
        copy = object.__new__(type(self))
        copy._store(values, self.groups if groups is None else groups)
        object.__setattr__(copy, "_scheduled", self._scheduled)
        return copy

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """Everything the kernel reads as ``s``: numbers, decay coefficients, ``scalars()``."""
        own = self.scalars(xp, t)
        family = self.decay
        if family == "in_update" and "rate" in own and not self.decays_inside:
            family = "decoupled"  # the same where lr does not multiply the direction
        decay = decay_families.scalars(family, self.lr, own.get("weight_decay", self.weight_decay))
        return self._numbers() | decay | own

    def _numbers(self) -> dict[str, Any]:
        fields = {n: self._values[n] for n, f in self._hypers.items() if isinstance(f, Hyper)}
        return {name: value for name, value in fields.items() if value is not None}

    def prepared(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient as the rule sees it: sign and coupled decay applied."""
        grad = -grad if self.maximize else grad
        return decay_families.decayed_gradient(self.decay, grad, param, s)

    def directed(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """``direction`` on the prepared gradient, and the new slots."""
        direction, slots = self.direction(xp, grad, param, state, s)
        if tuple(direction.shape) != tuple(param.shape):
            raise ValueError(
                f"{self.name}.direction returned an array of shape {tuple(direction.shape)} for a "
                f"parameter of shape {tuple(param.shape)}; they must be equal"
            )
        return direction, slots

    def descended(self, param: Any, direction: Any, s: Any) -> Any:
        """The parameter after a step against a direction, with the decay around it."""
        if not self.decays_inside:
            direction = decay_families.decayed_direction(self.decay, direction, param, s)
        return decay_families.descend(param, direction, s)

    def step(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """Prepare the gradient, take the direction, descend; arrays in the compute dtype."""
        grad = self.prepared(xp, grad, param, state, s)
        direction, slots = self.directed(xp, grad, param, state, s)
        return self.descended(param, direction, s), slots

    def gather(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any, phase: int
    ) -> tuple[Any, Any]:
        """``local`` on the prepared gradient."""
        return self.local(xp, self.prepared(xp, grad, param, state, s), param, state, s)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """``combine``, in the only phase of a rule by itself."""
        return self.combine(xp, sums, shared, s)

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
        xp = _namespace(self, (_Found(array, path) for path, array in arrays.items()))
        own = {path: self.of(tree.dotted(path), array.shape) for path, array in arrays.items()}
        for path, array in arrays.items():
            stepping.check(own[path], xp, tree.dotted(path), array)
        first = {path: stepping.init_slots(own[path], xp, array) for path, array in arrays.items()}

        def first_slot(name: str) -> Any:
            return tree.rebuild(params, lambda path, _: first[path].get(name))

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
        arrays = dict(tree.leaves(params))
        if arrays and state.slots and set(state.shared) != set(self.shared()):
            raise ValueError(
                f"{self.name}: the shared state has {listed(state.shared)}; "
                f"{self.name} keeps {listed(self.shared())}"
            )
        _refuse_unknown(self, grads, arrays)
        given = {path: grad for path in arrays if (grad := tree.subtree(grads, path)) is not None}
        if not given:
            return params, state._replace(step=state.step + 1)
        xp = _namespace(self, self._arrays_of(given, arrays, state))
        own = {path: self.of(tree.dotted(path), arrays[path].shape) for path in given}
        for path, grad in given.items():
            stepping.check(own[path], xp, tree.dotted(path), arrays[path], grad)
        entries = [
            stepping.Entry(
                own[path],
                state.step,
                grad,
                arrays[path],
                own[path]._slots_of(state, path, grad.shape),
            )
            for path, grad in given.items()
        ]
        results, shared = stepping.run(xp, entries, state.shared)
        new = dict(zip(given, results, strict=True))

        def new_slot(name: str) -> Any:
            old = state.slots[name]
            return tree.rebuild(
                params,
                lambda path, _: new[path][1].get(name) if path in new else tree.subtree(old, path),
            )

        return (
            tree.rebuild(params, lambda path, old: new[path][0] if path in new else old),
            State(state.step + 1, {name: new_slot(name) for name in self.slots()}, shared),
        )

    def _slots_of(self, state: State, path: tuple[Any, ...], shape: Any) -> dict[str, Any]:
        everywhere = {name: tree.subtree(slot, path) for name, slot in state.slots.items()}
        found = {name: value for name, value in everywhere.items() if value is not None}
        for name in self.slots():
            if name not in found:
                raise ValueError(
                    f"{self.name}: the state has no slot {name} for parameter "
                    f"{tree.dotted(path)!r}; was it made for other parameters?"
                )
        stepping.check_slots(self, tree.dotted(path), found, shape)
        return found

    def _arrays_of(
        self, given: Mapping[tuple[Any, ...], Any], arrays: Mapping[Any, Any], state: State
    ) -> Iterator[_Found]:
        """Everything that a step reads."""
        for path, grad in given.items():
            yield _Found(arrays[path], path)
            yield _Found(grad, path, "the gradient of ")
            for name in self.slots():
                value = tree.subtree(state.slots[name], path)
                parts = value if isinstance(value, tuple) else (value,)
                found = [part for part in parts if part is not None]
                yield from (_Found(part, path, f"slot {name} of ") for part in found)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is immutable; use rule.replace({name}={value!r})")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self._shown())})"

    def _shown(self) -> list[str]:
        """Its arguments as they are written, without those that are the defaults."""
        shown = {n: v for n, v in self._values.items() if v != self._hypers[n].default}
        shown |= {n: v for n, v in self.groups.arguments().items() if v}
        return [f"{name}={value!r}" for name, value in shown.items()]

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            type(self) is type(other)
            and self._plain() == other._plain()
            and self.groups == other.groups
        )

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_bare", "_hash")  # a hash is one process's own
        return {name: value for name, value in vars(self).items() if name not in derived}

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), tuple(sorted(self._plain().items(), key=lambda item: item[0]))))

    def _plain(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.hypers.items()}
