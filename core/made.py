"""From a class body to a rule: the declared fields, the signature, and refusals."""

from __future__ import annotations

import inspect
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from . import dialects as presets
from . import documentation
from .declaration import Hyper, Option, Shared, Slot
from .dialects import Preset
from .groups import Groups
from .kept import options
from .quirks import Quirk, applied, named
from .spelling import ELSEWHERE, did_you_mean, resembles

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["HERE", "NEEDS", "SHAPED", "Declared", "registry"]

registry: dict[str, type[Rule]] = {}
"""Every rule class by name: the package's rules and users' rules."""

NEEDS = ("element", "tensor", "axes", "factored", "matrix", "tree")
"""The needs, from the least to the most: one element, sums over a tensor, ..., all parameters."""
SHAPED = ("axes", "factored", "matrix")
"""The needs for which the shape of a parameter matters."""

FIRST = ("lr", "betas")
"""Names that come first in a signature."""
LAST = ("weight_decay", "peak_lr", "decay", "maximize", "state_dtype", "layout", "batch_axes")
"""Names that come last in a signature, within numbers and within options."""

RESERVED = ("inner", "keep", "lost", "params", "rate", "rule", "shrink", "groups", "like", "mask")
"""Names that a rule may not declare: they have another meaning in its arithmetic or constructor."""


UNCALLED = {"direction": "prepare, redirect or step", "prepared": "prepare"}
"""The methods of a rule that a wrapper does not call, and what it defines in their place."""
HERE = ("samestep.moves", "samestep.rule", "samestep.wrapper")
"""Where the methods are defined that a rule has not defined."""
STEPPED_OVER = ("direction", "prepare", "redirect")
"""The methods that a step calls, unless a class defines its own."""
OF_WRAPPERS = ("acts", "prepare", "redirect")
"""The methods that only rules around others call."""


class Declared:
    """A class whose body declares fields, slots and shared state; the base of every rule."""

    dialects: ClassVar[dict[str, Preset]] = {}
    """The values and quirks of each library, for ``like=``."""
    quirks: ClassVar[tuple[str, ...]] = ()
    """Names of the quirks of this class; the registered class has none."""

    _published: ClassVar[Any] = None
    """The registered class, for a class with quirks."""
    groups: Groups
    """Groups of parameters with their own numbers, and the parameters without decay."""
    inside: tuple[Rule, ...] = ()
    """The rules that this one holds: none, the wrapped rule, or every rule of a route."""
    _holds: ClassVar[tuple[str, ...]] = ()
    """The constructor's arguments that are rules. A class with any has no fields of ``Rule``."""
    _common: ClassVar[type[Declared]]
    """``Rule``, whose fields are common to all rules that hold no others."""
    _shared_part: ClassVar[bool] = False
    _values: dict[str, Any]
    _hypers: ClassVar[dict[str, Hyper | Option]] = {}
    _slots: ClassVar[dict[str, Slot]] = {}
    _shared: ClassVar[dict[str, Shared]] = {}
    __signature__: ClassVar[inspect.Signature]
    axes_alike: ClassVar[bool] = False
    """Whether a rule that reads axes reads all of them in the same way, whatever their order."""

    def __init_subclass__(cls, register: bool = True, root: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if root:
            cls._common = cls
            return
        cls._shared_part = not register
        need = str(getattr(cls, "reads" if cls._holds else "needs", NEEDS[0]))
        own_fields = cls._declared((Hyper, Option))
        kept = options("tensor" if cls.axes_alike else need)
        for name in own_fields.keys() & kept.keys():
            raise TypeError(
                f"{cls.__name__} declares {name!r}, which every rule that needs {need} has: the "
                "arithmetic sees one parameter, its outputs first; leave the declaration out"
            )
        cls._hypers = own_fields | kept
        cls._slots = cls._declared(Slot)
        cls._shared = cls._declared(Shared)
        own = vars(cls).get("dialects", {})
        if register and cls.__module__.startswith(("samestep.rules.", "samestep.routes")):
            own = {**presets.presets(cls.__name__), **own}
        cls.dialects = {name: item.named(name, cls.__name__) for name, item in own.items()}
        _refuse_clashes(cls)
        cls.__signature__ = cls._derived_signature()
        _settle_min_ndim(cls)
        presets.refuse(cls.__name__, cls.dialects, cls._hypers)
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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An instance of the class with the quirks that are asked for, by name or by dialect."""
        made: Any = cls._with_quirks(kwargs.get("like"), kwargs.get("quirks"))
        return cast(Self, object.__new__(made))

    @classmethod
    def _with_quirks(cls, like: Any, names: Any) -> Any:
        """The class with the quirks that have these names, or with those of a dialect."""
        published = cls.published()
        if names is not None:
            return applied(published, named(published, names))
        known = published.dialects.get(like) if isinstance(like, str) else None
        return cls if known is None else applied(published, named(published, known.quirk_names))

    @classmethod
    def published(cls) -> Any:
        """The class that is registered: this one without its quirks."""
        return vars(cls).get("_published") or cls

    @classmethod
    def is_own(cls) -> bool:
        """Whether the rule is the package's own."""
        module: str = cls.published().__module__
        return module.startswith(("samestep.rules.", "samestep.routes"))

    @classmethod
    def quirks_known(cls) -> tuple[Quirk, ...]:
        """The quirks that libraries have of this rule."""
        own = (quirk for preset in cls.dialects.values() for quirk in preset.quirks)
        return tuple(dict.fromkeys((*presets.quirks(cls.__name__), *own)))

    @classmethod
    def _declared(cls, kind: Any) -> dict[str, Any]:
        """All declarations of a kind in the class and its bases, in the signature's order."""
        bases = [base for base in reversed(cls.__mro__) if issubclass(base, Declared)]
        if cls._holds:  # the fields of Rule are those of the rules inside
            bases.remove(cls._common)
        if kind is not Slot:  # a rule's own fields stand before those of the parts it shares
            bases.sort(key=lambda base: (base is cls._common, base._shared_part))
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
        """The rule inside, if any; numbers; then by keyword options, and what chooses values."""
        kinds = inspect.Parameter
        numbers = {n: f.default for n, f in cls._hypers.items() if isinstance(f, Hyper)}
        options = {n: f.default for n, f in cls._hypers.items() if isinstance(f, Option)}
        chosen = {"like": None, "mask": None, "groups": ()}
        return inspect.Signature(
            [kinds(n, kinds.POSITIONAL_OR_KEYWORD) for n in cls._holds]
            + [kinds(n, kinds.POSITIONAL_OR_KEYWORD, default=value) for n, value in numbers.items()]
            + [kinds(n, kinds.KEYWORD_ONLY, default=v) for n, v in {**options, **chosen}.items()]
        )

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, or an error with the signature."""
        cls._refuse_unknown(kwargs)
        try:
            return dict(cls.__signature__.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}: {error}; the signature is {cls.__name__}{cls.__signature__}"
            ) from None

    @classmethod
    def _refuse_unknown(cls, given: dict[str, Any]) -> None:
        """Raise for an argument that there is not, and say which name was meant."""
        takes = cls.__signature__.parameters
        for name, value in given.items():
            if name not in takes:
                raise TypeError(
                    f"{cls.__name__}({name}={value!r}): there is no {name}; {cls.__name__} "
                    f"takes {', '.join(takes)}{did_you_mean(ELSEWHERE.get(name, name), takes)}"
                )

    @classmethod
    def _given(
        cls, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], Groups, frozenset[str]]:
        """From the constructor's arguments, every field's value, the groups, and what was given."""
        name = cls.__name__
        bound = cls._bind(args, {n: v for n, v in kwargs.items() if n != "quirks"})
        groups = Groups(name, bound.pop("mask", None), bound.pop("groups", ()))
        like = presets.chosen(name, presets.values(cls), bound.pop("like", None))
        values = {n: f.default for n, f in cls._hypers.items()} | like | bound
        valid = {n: f.validated(name, values[n]) for n, f in cls._hypers.items()}
        return cls._with_names(valid), groups, frozenset(bound) & cls._hypers.keys()

    @classmethod
    def _with_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values, and the names of the class's quirks if it has any."""
        return {**values, "quirks": cls.quirks} if cls.quirks else values

    @classmethod
    def fields(cls) -> dict[str, Hyper | Option]:
        """The declared hyperparameters and options by name."""
        return dict(cls._hypers)


def _settle_min_ndim(cls: Any) -> None:
    """Give a rule of matrices two dimensions at least, unless it says otherwise."""
    said = any("min_ndim" in vars(base) for base in cls.__mro__ if base is not cls._common)
    if not (cls._holds or said) and cls.needs == "matrix":
        cls.min_ndim = 2


def _refuse_uncalled(cls: type[Declared]) -> None:
    """Raise for a method that is never called: a rule's in a wrapper, or a wrapper's in a rule."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    for name in vars(cls).keys() & UNCALLED.keys() if cls._holds else ():
        raise TypeError(
            f"{cls.__name__}.{name} is never called: a wrapper takes the {name} of the rule in it; "
            f"define {UNCALLED[name]}"
        )
    defines_them = "_holds" in vars(cls) or cls.__module__.startswith("samestep.parts.")
    for name in () if defines_them else vars(cls).keys() & {*OF_WRAPPERS} - inherited:
        meant = "a wrapper that lets no step be taken in some calls" if cls._holds else "a Wrapper"
        raise TypeError(f"{cls.__name__}.{name} is never called: it is a method of {meant}")
    if "_published" not in vars(cls):
        _refuse_stepped_over(cls)


def _refuse_stepped_over(cls: type[Declared]) -> None:
    """Raise for a method that a step of one's own does not call, and for two forms of a step."""
    bases = cls.__mro__
    written = {
        name: next(i for i, base in enumerate(bases) if base is object or _writes(base, name))
        for name in ("step", "moved", *STEPPED_OVER)
    }
    form = min(("moved", "step"), key=written.__getitem__)
    if written["moved"] == written["step"] < len(bases) - 1:
        raise TypeError(
            f"{cls.__name__} has step and moved, which are one step; define one of them"
        )
    own = bases[: written[form] + 1]
    functions = [f for base in own for f in vars(base).items() if inspect.isroutine(f[1])]
    for name in STEPPED_OVER if own[-1] is not object else ():
        calls = {name, "redirected", "super", *(base.__name__ for base in bases)}
        codes = (getattr(inspect.unwrap(f), "__code__", None) for n, f in functions if n != name)
        named = map(_names, filter(None, codes))
        if written[name] <= written[form] and not any(map(calls.intersection, named)):
            raise TypeError(
                f"{cls.__name__}.{name} is never called: {cls.__name__}.{form} is the step, and "
                f"does not call it; remove one of the two, or call self.{name} in {form}"
            )


def _writes(cls: type, name: str) -> bool:
    """Whether a class has a method of its own, and none that the package gives to every rule."""
    return getattr(vars(cls).get(name), "__module__", HERE[0]) not in HERE


def _names(code: CodeType) -> set[str]:
    """What a function names, or one inside it."""
    inside = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names, *code.co_freevars}.union(*inside)


def _refuse_waiting(cls: type[Declared]) -> None:
    """Raise for ``waits`` that is no number of steps, or that a wrapper has."""
    waits = vars(cls).get("waits", 0)
    if cls._holds and "waits" in vars(cls):
        raise TypeError(f"{cls.__name__} declares waits; the steps are those of the rule inside")
    if type(waits) is not int or waits < 0:
        raise TypeError(f"{cls.__name__}.waits is {waits!r}; it must be a number of steps")


def _refuse_clashes(cls: type[Declared]) -> None:
    """Raise for a name with two meanings, and for a need that there is not."""
    names = [*cls._hypers, *cls._slots, *cls._shared]
    for name in names:
        own = inspect.getattr_static(cls._common, name, None)
        shadows = own is not None and not isinstance(own, (Hyper, Option))
        if names.count(name) > 1:
            raise TypeError(f"{cls.__name__} declares {name!r} twice")
        if shadows or name in RESERVED:
            raise TypeError(
                f"{cls.__name__} declares {name!r}, which every rule has already; give it another "
                "name"
            )
    _refuse_uncalled(cls)
    _refuse_waiting(cls)
    inherited = {name for base in cls.__mro__[1:] for name in vars(base) if name[0] != "_"}
    for name in () if "_holds" in vars(cls) else vars(cls).keys() - inherited - {*names}:
        meant = "" if name[0] == "_" else resembles(name, inherited)
        if meant:
            raise TypeError(f"{cls.__name__}.{name}: nothing reads it. Did you mean {meant!r}?")
    for name, item in {**cls._slots, **cls._shared}.items():
        for word in ("start", "only_if"):
            other = getattr(item, word, None)
            if isinstance(other, str) and other not in cls._hypers:
                raise TypeError(
                    f"{cls.__name__}.{name}: {word}={other!r} is no hyperparameter of the rule"
                    + did_you_mean(other, cls._hypers)
                )
    if not (cls._holds or cls._shared_part or "lr" in cls._hypers):
        raise TypeError(f"{cls.__name__} declares no lr; every rule has a step size")
    _refuse_need(cls)


def _refuse_need(cls: type[Declared]) -> None:
    """Raise for a need that there is not, and for what does not go with it."""
    word = "reads" if cls._holds else "needs"
    need = getattr(cls, word, NEEDS[0])
    if cls._holds and isinstance(vars(cls).get("needs"), str):
        raise TypeError(f"{cls.__name__} declares needs; a wrapper declares reads")
    if not cls._holds and "reads" in vars(cls):
        raise TypeError(f"{cls.__name__} declares reads; a rule declares needs")
    least = vars(cls).get("min_ndim", 0)
    if not hasattr(least, "__get__") and (type(least) is not int or least < 0):
        raise TypeError(f"{cls.__name__}.min_ndim is {least!r}; it must be a whole number >= 0")
    if cls._shared and need != "tree":
        raise TypeError(
            f"{cls.__name__} declares the shared {', '.join(cls._shared)}, which only combine "
            f"changes; declare {word} = 'tree'"
        )
    if need not in NEEDS:
        raise TypeError(f"{cls.__name__}.{word} is {need!r}; it must be one of {NEEDS}")
