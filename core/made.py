"""How a class body becomes a rule: declared fields, signature, and the values of an instance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from . import documentation
from .declaration import Hyper, Option, Shared, Slot, plain
from .dialects import Preset
from .groups import Groups
from .spelling import ELSEWHERE, did_you_mean

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["NEEDS", "SHAPED", "Declared", "registry"]

registry: dict[str, type[Rule]] = {}
"""Every rule class by name: the package's own and those that users define."""

NEEDS = ("element", "tensor", "axes", "factored", "matrix", "tree")
"""What a rule may read in addition to its own element, from the least to the most."""
SHAPED = ("axes", "factored", "matrix")
"""The needs for which the shape of a parameter matters."""

FIRST = ("lr", "betas")
"""Names that come first in a signature."""
LAST = ("weight_decay", "decay", "maximize", "state_dtype")
"""Names that come last in a signature, within numbers and within options."""

RESERVED = ("inner", "keep", "params", "rate", "rule", "shrink")
"""Names that a rule may not declare, since they have another meaning in its arithmetic."""


class Declared:
    """Immutable values of the fields that a class body declares; the base of ``Rule``."""

    dialects: ClassVar[dict[str, Preset]] = {}
    """What libraries compute under this rule's name: presets of its fields, for ``like=``."""

    groups: Groups
    """Which parameters have other numbers, and which do not decay."""
    _shared_part: ClassVar[bool] = False
    _values: dict[str, Any]
    _variants: dict[Any, Rule]
    _hypers: ClassVar[dict[str, Hyper | Option]] = {}
    _slots: ClassVar[dict[str, Slot]] = {}
    _shared: ClassVar[dict[str, Shared]] = {}
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Declared in cls.__bases__:  # Rule itself, which is no optimizer
            return
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
            rule = cast("type[Rule]", cls)
            cls.__doc__ = documentation.described(rule)
            known = registry.get(cls.__name__)
            if known is not None and known.__module__ != cls.__module__:
                raise ValueError(
                    f"a rule named {cls.__name__} exists already, in "
                    f"{known.__module__}; choose another name"
                )
            registry[cls.__name__] = rule

    @classmethod
    def _declared(cls, kind: Any) -> dict[str, Any]:
        """What the class and its bases declare, in the order of the signature."""
        bases = [base for base in reversed(cls.__mro__) if issubclass(base, Declared)]
        if kind is not Slot:  # a rule's own fields stand before those of the parts it shares
            bases.sort(key=lambda base: (Declared in base.__bases__, base._shared_part))
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

    # From arguments to values.

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, or an error that says which name was meant."""
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

    def _set(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Bind and validate the arguments, and keep them."""
        bound = self._bind(args, kwargs)
        like = bound.pop("like", None)
        groups = Groups(self.name, bound.pop("mask", None), bound.pop("groups", ()))
        chosen = _chosen(self.name, self._presets(), like)
        values = {n: f.default for n, f in self._hypers.items()} | chosen | bound
        self._store({n: f.validated(self.name, values[n]) for n, f in self._hypers.items()}, groups)

    def _store(self, values: dict[str, Any], groups: Groups) -> None:
        object.__setattr__(self, "_values", values)
        vars(self).update(values)  # read before ``Field.__get__``, which explains what is missing
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "_variants", {})

    # Dialects.

    @classmethod
    def _presets(cls) -> dict[str, dict[str, Any]]:
        """The values of every dialect, in the order of names."""
        return {name: item.values for name, item in sorted(cls.dialects.items())}

    def _all_presets(self) -> dict[str, dict[str, Any]]:
        """The values of every dialect, those of a wrapped rule included."""
        return self._presets()

    def _without_like(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes with the values of a dialect in the place of its name."""
        chosen = _chosen(self.name, self._all_presets(), changes.pop("like", None))
        return {**chosen, **changes}

    @property
    def dialect(self) -> str | None:
        """Name of the dialect with most values, all of which are the rule's, or ``None``."""
        alike = [
            (len(item.values), name)
            for name, item in self.dialects.items()
            if all(self.hypers[field] == value for field, value in item.values.items())
        ]
        return max(alike, key=lambda pair: pair[0])[1] if alike else None

    # The values.

    @property
    def name(self) -> str:
        """Name of the rule."""
        return type(self).__name__

    @property
    def hypers(self) -> dict[str, Any]:
        """Every hyperparameter and option by name."""
        return dict(self._values)

    @classmethod
    def fields(cls) -> dict[str, Hyper | Option]:
        """The declared hyperparameters and options by name."""
        return dict(cls._hypers)

    def all_fields(self) -> dict[str, Hyper | Option]:
        """The declared fields, those of a wrapped rule included."""
        return dict(self._hypers)

    def numbers(self) -> Iterator[Any]:
        """Every hyperparameter that is no option, tuples taken apart."""
        for name, field in self._hypers.items():
            if isinstance(field, Hyper) and name in self._values:
                value = self._values[name]
                yield from value if isinstance(value, tuple) else (value,)

    def replace(self, **changes: Any) -> Self:
        """The same rule with some hyperparameters changed; ``like`` changes those of a dialect."""
        changes = self._without_like(changes)
        return type(self)(**{**self._values, **self.groups.arguments(), **changes})

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

    def _copy(self, values: dict[str, Any], groups: Groups | None = None) -> Self:
        copy = object.__new__(type(self))
        copy._store(values, self.groups if groups is None else groups)
        return copy

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
        cls = type(self)  # what is derived is left out; a hash is one process's own
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(getattr(cls, name, None), cached_property)
        }

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), tuple(sorted(self._plain().items(), key=lambda item: item[0]))))

    def _plain(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.hypers.items()}


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


def _refuse_clashes(cls: type[Declared]) -> None:
    """A name may stand for one thing only: all of them become keys of one flat record."""
    root = next(base for base in cls.__mro__ if Declared in base.__bases__)
    names = [*cls._hypers, *cls._slots, *cls._shared]
    for name in names:
        own = inspect.getattr_static(root, name, None)
        shadows = own is not None and not isinstance(own, (Hyper, Option))
        if names.count(name) > 1 or shadows or name in RESERVED:
            raise TypeError(f"{cls.__name__} declares {name!r} twice, or it is a reserved name")
    wraps = "rule" in cls.__signature__.parameters
    if not (wraps or cls._shared_part or "lr" in cls._hypers):
        raise TypeError(f"{cls.__name__} declares no lr; every rule has a step size")
    needs = cast("type[Rule]", cls).needs
    if not isinstance(needs, (property, cached_property)) and needs not in NEEDS:
        raise TypeError(f"{cls.__name__}.needs is {needs!r}; it must be one of {NEEDS}")


def _refuse_presets(cls: type[Declared]) -> None:
    """A dialect is made of values that the rule's own fields take."""
    for dialect, item in cls.dialects.items():
        for name, value in item.values.items():
            if name not in cls._hypers:
                raise TypeError(
                    f"{cls.__name__}: dialect {dialect!r} sets {name}, which is no field"
                )
            cls._hypers[name].validated(f"{cls.__name__}(like={dialect!r})", value)
