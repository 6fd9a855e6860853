"""The optimizer of each library for each rule, with equal hyperparameters.

The adapters say which optimizer of torch.optim, optax and mlx.optimizers a rule's dialect
reproduces (entry points of the group ``samestep.natives``). In the other libraries an optimizer is
the rule of the same name, whatever the case. It gets the rule's numbers wherever it has an argument
of that name; everything else stays as the library sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import Parameter, signature
from types import ModuleType
from typing import Any

from samestep.declaration import Hyper
from samestep.parity.subjects.importing import alone
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = ["COPY", "LIBRARIES", "Library", "Opponent"]

COPY = "copy"
"""Among the names of libraries: a plain copy, for rules that no other has."""

SWITCHES = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""The ways of executing that torch's optimizers, and those written like them, let one choose."""

GROUPS = {name: {"use_muon": True} for name in ("AdaMuon", "Muon", "NorMuon")}
"""The key that pytorch_optimizer needs in a group of parameters."""


@dataclass(frozen=True)
class Opponent:
    """An optimizer of a library, and our rule that does the same work."""

    rule: Rule
    variants: Mapping[str, Callable[[Any], Any]]
    """How it is made, from what its framework passes, by the way of executing it."""


def _variants(make: Callable[..., Any], accepted: Collection[str]) -> dict[str, Any]:
    chosen = {
        name: {switch: value for switch, value in switches.items() if switch in accepted}
        for name, switches in SWITCHES.items()
    }
    return {name: partial(make, **given) for name, given in chosen.items() if given} or {"": make}


@dataclass(frozen=True)
class Library:
    """A library of optimizers."""

    framework: str
    module: str
    """Its import name."""
    find: Callable[[str], Opponent | None]
    """Its optimizer that is the rule of this name."""

    @property
    def installed(self) -> bool:
        """Whether the library can be imported."""
        return all(find_spec(name) is not None for name in (self.framework, self.module))

    def opponents(self) -> dict[str, Opponent]:
        """Its optimizers by rule; none for a wrapper, whose work is done by another rule."""
        plain = sorted(name for name in registry if not issubclass(registry[name], Wrapper))
        found = {name: self.find(name) for name in plain}
        return {name: opponent for name, opponent in found.items() if opponent is not None}


def _counterpart(library: str, rule: str) -> tuple[Rule, partial[Any]] | None:
    """Our rule in a library's dialect, and the function that makes the library's optimizer."""
    if library not in registry[rule].dialects:
        return None
    ours = registry[rule](like=library)
    (module,) = entry_points(group="samestep.natives", name=library)
    try:
        return ours, module.load().counterpart(rule, ours.hypers)
    except LookupError:
        return None


def _without_parameters(library: str, rule: str) -> Opponent | None:
    """An optimizer that is made without parameters."""
    found = _counterpart(library, rule)
    return found and Opponent(found[0], {"": lambda given: found[1]()})


def _switchable(rule: str) -> Opponent | None:
    """An optimizer of torch.optim, by the ways of executing it."""
    found = _counterpart("torch", rule)
    return found and Opponent(found[0], _variants(found[1], signature(found[1].func).parameters))


def _named(
    module: Callable[[str], ModuleType | None], said: Mapping[str, Any], rule: str
) -> Opponent | None:
    """The library's own class of the rule's name, not one of torch.optim shown again."""
    source = module(rule)
    if source is None:
        return None
    package = source.__name__.partition(".")[0]
    classes = [value for value in vars(source).values() if isinstance(value, type)]
    own = [one for one in classes if one.__module__.partition(".")[0] == package]
    native = next((one for one in own if one.__name__.lower() == rule.lower()), None)
    parameters = signature(native).parameters if native else {}
    if native is None or "model" in parameters:  # of which it is made, as AdamMini of some is
        return None
    ours = registry[rule]()
    values = {
        name: value
        for name, value in ours.hypers.items()
        if isinstance(ours.fields()[name], Hyper) and _fits(name, value, parameters.get(name))
    }

    def make(tensors: Any, **switches: bool) -> Any:
        return native([{"params": tensors, **said.get(rule, {})}], **values, **switches)

    return Opponent(ours, _variants(make, parameters))


def _fits(name: str, value: Any, parameter: Parameter | None) -> bool:
    """Whether a number of ours means the same there, as far as the default tells."""
    if parameter is None or value is None:
        return False
    default = parameter.default
    if isinstance(value, tuple):
        return isinstance(default, tuple) and len(default) == len(value)
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    return name == "lr" or (number and (value < 0) == (default < 0))


def _of_timm(rule: str) -> ModuleType | None:
    """The module of ``timm.optim`` with a rule."""
    try:
        return alone(f"timm.optim.{rule.lower()}")
    except ModuleNotFoundError:
        return None


def _whole(module: str) -> Callable[[str], ModuleType | None]:
    return lambda rule: import_module(module)


LIBRARIES: Mapping[str, Library] = {
    "torch.optim": Library("torch", "torch", _switchable),
    "optax": Library("jax", "optax", partial(_without_parameters, "optax")),
    "mlx.optimizers": Library("mlx", "mlx", partial(_without_parameters, "mlx")),
    "pytorch_optimizer": Library(
        "torch", "pytorch_optimizer", partial(_named, _whole("pytorch_optimizer"), GROUPS)
    ),
    "timm": Library("torch", "timm", partial(_named, _of_timm, {})),
    "torch-optimi": Library("torch", "optimi", partial(_named, _whole("optimi"), {})),
}
"""By the name that ``--against`` takes."""
