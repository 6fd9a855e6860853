"""Optimizers of one name in several libraries, found in what the libraries export.

Case and underscores in a name do not count. Left out are optimizers that only one library has, base
classes, and wrappers of optimizers, which the name of an argument gives away. A flag with the name
of an optimizer makes its owner one of them: ``Adam(amsgrad=True)`` is an AMSGrad.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from types import ModuleType
from typing import Any

from samestep.parity import Subject, SubjectError, subject
from samestep.parity.subjects.importing import alone
from samestep.rule import registry
from samestep.wrapper import Wrapper

__all__ = ["LIBRARIES", "OURS", "Group", "Peer", "groups", "made"]

OURS = "samestep"
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch.optim",),
    "optax": ("optax", "optax.contrib"),
    "mlx": ("mlx.optimizers",),
    "keras": ("keras.optimizers",),
}
"""The modules that export a library's optimizers, by the name of its dialect."""


@dataclass(frozen=True)
class Peer:
    """An optimizer of a library, with the arguments that make it the one of a name."""

    library: str
    name: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def title(self) -> str:
        """Name and arguments."""
        words = ", ".join(f"{name}={value!r}" for name, value in self.given)
        return f"{self.name}({words})" if words else self.name


@dataclass(frozen=True)
class Group:
    """All of one name."""

    name: str
    peers: tuple[Peer, ...]
    """Peers of the libraries; ours comes last."""
    others: tuple[Peer, ...] = ()
    """Peers from other modules, which are compared only with ours."""
    refused: tuple[str, ...] = ()
    """Sentences about the peers that cannot be stepped."""

    @property
    def ours(self) -> Peer | None:
        """The rule of that name here."""
        return next((peer for peer in self.peers if peer.library == OURS), None)

    @property
    def dialects(self) -> list[tuple[Peer, Peer]]:
        """Optimizers of libraries, and the rule with the dialect that is to reproduce them."""
        if self.ours is None:
            return []
        known = registry[self.ours.name.partition(":")[2]].dialects
        return [
            (peer, replace(self.ours, given=(("like", peer.library),)))
            for peer in (*self.peers, *self.others)
            if peer.library in known
        ]

    @property
    def pairs(self) -> list[tuple[Peer, Peer]]:
        """All that is to be compared but for the dialects."""
        inner = [(a, b) for i, a in enumerate(self.peers) for b in self.peers[i + 1 :]]
        ours = self.ours
        return inner + [(other, ours) for other in self.others if ours is not None]


def key(name: str) -> str:
    """The form in which all spellings of a name are equal."""
    return name.lower().replace("_", "")


def groups(others: Sequence[str] = (), only: Iterable[str] = ()) -> list[Group]:
    """All names that two of the libraries have, or another module and we.

    Args:
        others: modules that export more optimizers.
        only: names to keep; all if empty.
    """
    wanted = {key(name) for name in only}
    found = {library: _exported(library) for library in LIBRARIES}
    found[OURS] = {key(n): n for n, rule in registry.items() if not issubclass(rule, Wrapper)}
    more = {module: _of_module(module, _imported(module)) for module in others}
    keys = sorted({name for by_key in found.values() for name in by_key})
    made = (_group(name, found, more) for name in keys if not wanted or name in wanted)
    return [group for group in made if group is not None]


def _group(
    name: str, found: Mapping[str, Mapping[str, str]], more: Mapping[str, Mapping[str, str]]
) -> Group | None:
    peers: list[Peer] = []
    others: list[Peer] = []
    for library, by_key in found.items():
        if name in by_key:
            prefix = f"{OURS}:" if library == OURS else ""
            peers.append(Peer(library, f"{prefix}{by_key[name]}"))
        elif library != OURS:
            peers += _flagged(library, by_key, name)
    if OURS in (peer.library for peer in peers):
        known = {id(_resolved(peer.name)) for peer in peers if peer.library != OURS}
        others = [
            Peer(module.partition(".")[0], by_key[name])
            for module, by_key in more.items()
            if name in by_key and id(_resolved(by_key[name])) not in known  # exported again
        ]
    if len(peers) + len(others) < 2:
        return None
    reasons = {peer: _refusal(peer) for peer in peers}
    peers = [peer for peer, reason in reasons.items() if not reason]
    if not peers and not others:
        return None
    spelled = found[OURS].get(name) or peers[0].name.rpartition(".")[2]
    return Group(spelled, tuple(peers), tuple(others), tuple(filter(None, reasons.values())))


def _refusal(peer: Peer) -> str:
    """Why it cannot be stepped; empty where it can."""
    try:
        made(peer)
    except SubjectError as error:
        return str(error)
    return ""


def _flagged(library: str, by_key: Mapping[str, str], name: str) -> Iterator[Peer]:
    """The optimizer with a flag of that name; of several the one with the shortest name."""
    having = []
    for full in by_key.values():
        for argument, default in _arguments(_resolved(full)).items():
            if key(argument) == name and default is False:
                having.append((len(full), full, argument))
    for _, full, argument in sorted(having)[:1]:
        yield Peer(library, full, ((argument, True),))


def made(peer: Peer) -> Subject:
    """The subject."""
    known = peer.library == OURS or peer.library in LIBRARIES
    target = peer.name if known else _resolved(peer.name)
    return replace(subject(target, **dict(peer.given)), name=peer.title)


@cache
def _exported(library: str) -> dict[str, str]:
    """The optimizers that a library exports, by key; empty if it is not installed."""
    found: dict[str, str] = {}
    for name in LIBRARIES[library]:
        with suppress(SubjectError):
            found = _of_module(name, _imported(name)) | found
    return found


def _of_module(name: str, module: ModuleType) -> dict[str, str]:
    items = {n: value for n, value in vars(module).items() if not n.startswith("_")}
    classes = [value for value in items.values() if isinstance(value, type)]
    return {
        key(n): f"{name}.{n}"
        for n, value in sorted(items.items())
        if _is_maker(value) and not _is_base(value, classes) and not _wraps(value)
    }


def _is_maker(value: Any) -> bool:
    return isinstance(value, (type, partial)) or inspect.isfunction(value)


def _is_base(value: Any, classes: Sequence[type]) -> bool:
    """Whether most of the other classes are its subclasses."""
    if not isinstance(value, type):
        return False
    return 2 * sum(value in other.__mro__ for other in classes) > len(classes) > 2


def _wraps(value: Any) -> bool:
    required = [name for name, default in _arguments(value).items() if default is ...]
    return any("optim" in name for name in required)


@cache
def _arguments(value: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: ... if p.default is p.empty else p.default for p in parameters}


def _resolved(full: str) -> Any:
    module, _, name = full.rpartition(".")
    return getattr(_imported(module), name)


@cache
def _imported(name: str) -> ModuleType:
    """A module; by itself where only the package around it cannot be imported.

    Raises:
        SubjectError: it cannot be imported.
    """
    if name.startswith("keras"):
        importlib.import_module("samestep.keras.subject")  # which chooses its backend
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = error
    try:
        if "." in name:
            return alone(name)
    except ImportError as error:
        reason = error
    raise SubjectError(f"{name} cannot be imported: {reason}") from reason
