"""Optimizer states in files of ``torch.save``, which are loaded with ``weights_only=True`` only."""

# ruff: noqa: PLC0415  (torch is imported only for a file of its own)

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from samestep.checkpoints import Checkpoint, CheckpointError
from samestep.checkpoints.correspondence import About
from samestep.checkpoints.description import made
from samestep.kept import KEPT
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

from .descriptions import native_classes

__all__ = [
    "classes_of",
    "described",
    "groups_of",
    "loaded",
    "optimizer_in",
    "save",
    "taken",
    "to_torch",
]

HELD = ("optimizer", "optimizer_state_dict", "optim", "optimizer_states", "opt")
"""Names under which training scripts save the optimizer's state dict."""
SCHEDULED = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
"""Entries that torch's schedulers add to a group."""
RECORD = "written_by"
"""The entry of a group that says what wrote it, in state dicts of samestep.torch."""
BESIDE = {"params", "param_names", "places", "calls", RECORD, *SCHEDULED}


def loaded(path: Path) -> Any:
    """The content of a file of torch.save.

    Raises:
        CheckpointError: the file has other objects than tensors and plain data, or is damaged.
    """
    import torch

    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: it has other objects than tensors and plain data, which are not loaded "
            f"since that would run code{_culprit(str(error))}"
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: torch cannot load it: {_first(error)}") from None


def _culprit(text: str) -> str:
    found = text.partition("GLOBAL ")[2].partition(" was not")[0]
    return f": {found}" if 0 < len(found) < 100 else ""


def _first(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def optimizer_in(content: Any) -> tuple[Mapping[str, Any] | None, str]:
    """The state dict of an optimizer, and where in the file it is.

    Raises:
        CheckpointError: there are several.
    """
    if not isinstance(content, Mapping):
        return None, ""
    if _is_state_dict(content):
        return content, ""
    for name in HELD:
        inside = content.get(name)
        several = [inside] if isinstance(inside, Mapping) else inside
        if not isinstance(several, (list, tuple)) or not several:
            continue
        if len(several) > 1:
            raise CheckpointError(f"there are {len(several)} optimizers in {name!r}; save one")
        if _is_state_dict(several[0]):
            return several[0], name
    return None, ""


def _is_state_dict(content: Any) -> bool:
    """Whether the content has the form of an optimizer's state dict."""
    if not isinstance(content, Mapping) or not isinstance(content.get("state"), Mapping):
        return False
    groups = content.get("param_groups")
    return (
        isinstance(groups, (list, tuple))
        and bool(groups)
        and all(isinstance(g, Mapping) and isinstance(g.get("params"), list) for g in groups)
        and all(isinstance(state, Mapping) for state in content["state"].values())
    )


def described(content: Any) -> str:
    """The content of a file in words that follow "a file of torch.save with"."""
    import torch

    found, name = optimizer_in(content)
    if found is not None:
        where = f" in {name!r}, beside {_others(content, name)}" if name else ""
        return _whose(found) + where
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}; no optimizer state"
    if content and all(map(torch.is_tensor, content.values())):
        return f"a model's state dict of {len(content)} tensors; no optimizer state"
    return f"a dict of {', '.join(map(repr, [*content][:5]))}; no optimizer state"


def _whose(state_dict: Mapping[str, Any]) -> str:
    from samestep.torch.libraries import LIBRARIES

    written = _written(state_dict)
    if written:
        return f"the state dict of an optimizer of samestep.torch, {', '.join(written)}"
    theirs = classes_of(state_dict)
    if theirs:
        return f"the state dict of torch.optim.{' or '.join(theirs)}"
    ours = _rules_like(state_dict)
    if ours:
        return f"the state dict of an optimizer of samestep.torch, {' or '.join(ours)}"
    groups = state_dict["param_groups"]
    for name, library in LIBRARIES.items():
        if library.sign and all(library.sign in group for group in groups):
            return f"the state dict of an optimizer of {name}; --rule {name}.CLASS says which"
    return "the state dict of an optimizer, by its groups none of torch.optim"


def _others(content: Mapping[str, Any], name: str) -> str:
    others = [repr(other) for other in content if other != name]
    return ", ".join(others[:5]) + (" and others" if len(others) > 5 else "") or "nothing else"


def groups_of(state_dict: Mapping[str, Any]) -> list[str]:
    """The entries of the groups, a line for each."""
    found = []
    for place, group in enumerate(state_dict["param_groups"]):
        said = {n: v for n, v in group.items() if n not in ("params", "param_names", RECORD)}
        words = ", ".join(f"{name}={value!r}" for name, value in said.items())
        found.append(f"group {place} of {len(group['params']):,} parameters: {words}")
    return found


def classes_of(state_dict: Mapping[str, Any]) -> list[str]:
    """The classes of torch.optim whose groups have these entries."""
    import torch

    groups = state_dict["param_groups"]
    names = {*groups[0]} - BESIDE if groups else set()
    found = []
    for name in torch.optim.__all__:
        cls: Any = getattr(torch.optim, name, None)
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer):
            try:
                make: Any = cls
                defaults = make([torch.nn.Parameter(torch.zeros(1, 1))], lr=0.1).defaults
            except (TypeError, ValueError):
                continue
            if {*defaults} == names:
                found.append(name)
    if {"Adam", "AdamW"} <= {*found}:  # the value of one entry tells them apart
        found = ["AdamW" if groups[0].get("decoupled_weight_decay") else "Adam"]
    return found


def _written(state_dict: Mapping[str, Any]) -> list[str]:
    """The rules that the groups say they are of, a wrapper before the rules inside it.

    State dicts of torch.optim say none, nor do those of earlier versions of samestep.
    """
    records = [group.get(RECORD) for group in state_dict["param_groups"]]
    rules = [record.get("rules") for record in records if isinstance(record, Mapping)]
    return [*dict.fromkeys(str(name) for own in rules if isinstance(own, Mapping) for name in own)]


def _rules_like(state_dict: Mapping[str, Any]) -> list[str]:
    """The rules whose optimizers in samestep.torch have such groups and slots, likeliest first."""
    from samestep.torch.entries import slots_in

    groups, states = state_dict["param_groups"], state_dict["state"].values()
    names = {*groups[0]} - BESIDE - {"capturable", "differentiable", *KEPT} if groups else set()
    kept = {name for state in states for name in slots_in(state)} - {"step"}
    found: dict[str, int] = {}
    for name, cls in sorted(registry.items()):
        shared, slots = {*cls._shared}, {*cls._slots}
        if (
            issubclass(cls, Wrapper)
            or {*cls.fields()} - {*KEPT} != names - shared
            or not kept <= slots
        ):
            continue
        own = [{n: v for n, v in group.items() if n in cls.fields()} for group in groups]
        try:
            usual, fit = cls().hypers, [cls(**values) for values in own]
        except (TypeError, ValueError):
            continue
        if all(kept <= {*rule.slots()} for rule in fit):
            found[name] = sum(rule.hypers[n] == v for rule in fit for n, v in usual.items())
    return sorted(found, key=lambda name: -found[name])


def _wraps(state_dict: Mapping[str, Any]) -> bool:
    """Whether the groups have the numbers of a rule and of wrappers around it."""
    groups = state_dict["param_groups"]
    names = {*groups[0]} - BESIDE - {"capturable", "differentiable"} if groups else set()
    around = {n for cls in registry.values() if issubclass(cls, Wrapper) for n in cls.fields()}
    plain = (cls for cls in registry.values() if not issubclass(cls, Wrapper))
    return any(
        {*cls.fields()} - {*KEPT} < names and names - {*cls.fields()} - {*cls._shared} <= around
        for cls in plain
    )


def taken(content: Any, named: str | None) -> tuple[Checkpoint, str]:
    """The optimizer state in a file of torch, and the name of the optimizer's class.

    Raises:
        CheckpointError: there is no state, its class is not known, or it cannot be carried.
    """
    from samestep.torch.libraries import LIBRARIES
    from samestep.torch.natives import from_state_dict

    state_dict, _ = optimizer_in(content)
    if state_dict is None:
        raise CheckpointError(f"it has {described(content)}")
    library, _, cls = (named or "").rpartition(".")
    library = library.removesuffix("optim").rstrip(".") or "torch"
    if library not in (*LIBRARIES, "samestep", "samestep.torch"):
        raise CheckpointError(
            f"--rule {named}: there is no library {library!r}; there are "
            f"{', '.join(LIBRARIES)} and samestep"
        )
    found = [cls] if cls else [] if _written(state_dict) else classes_of(state_dict)
    if library.startswith("samestep") or (not cls and not found):
        return _ours(state_dict, cls)
    if len(found) > 1:
        raise CheckpointError(
            f"its groups are those of {' and '.join(found)}; say which it is: --rule {found[0]}"
        )
    return from_state_dict(found[0], state_dict, dialect=library), f"{_library(library)}{found[0]}"


def _library(name: str) -> str:
    return "torch.optim." if name == "torch" else f"{name}."


def _ours(state_dict: Mapping[str, Any], name: str) -> tuple[Checkpoint, str]:
    """The state of an optimizer of samestep.torch."""
    import samestep.torch

    written = _written(state_dict)
    found = [name] if name else written or _rules_like(state_dict)
    if not name and (len(written) > 1 or (not found and _wraps(state_dict))):
        said = f": {', '.join(written)}" if written else ""
        raise CheckpointError(
            "its groups are those of a rule of samestep.torch with others around or beside it"
            f"{said}, and do not say how they are put together; load it into the optimizer that it "
            "is of, and samestep.save(path, optimizer) writes the checkpoint"
        )
    if not found:
        raise CheckpointError(
            "its groups are those of no class of torch.optim and of no rule; --rule says which "
            f"it is: {listed_numbers(state_dict)}"
        )
    if len(found) > 1:
        raise CheckpointError(
            f"its groups are those of the rules {', '.join(found)}; say which it is: --rule "
            f"samestep.{found[0]}"
        )
    if found[0] not in registry:
        raise CheckpointError(f"there is no rule {found[0]}; there are {', '.join(registry)}")
    cls = registry[found[0]]
    places = count()
    groups: list[dict[str, Any]] = []
    for group in state_dict["param_groups"]:
        own = {n: v for n, v in group.items() if n in cls.fields()}
        names = group.get("param_names")
        members = []
        for at, key in enumerate(group["params"]):
            param, place = _stand_in(key, state_dict["state"].get(key, {})), next(places)
            members.append((str(names[at] if names else place), param))
        groups.append({**own, "params": members if names else [param for _, param in members]})
    try:
        first = {n: v for n, v in groups[0].items() if n != "params"}
        optimizer: Any = samestep.torch.bind(cls(**first), groups)
        optimizer.load_state_dict(dict(state_dict))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"it is no state of samestep.torch.{found[0]}: {error}") from None
    saved: Checkpoint = optimizer.checkpoint()
    return saved, f"samestep.torch.{found[0]}"


def listed_numbers(state_dict: Mapping[str, Any]) -> str:
    """The names of the entries of a group."""
    groups = state_dict["param_groups"]
    return ", ".join(sorted({*groups[0]} - BESIDE)) if groups else "there are no groups"


def _stand_in(key: Any, state: Mapping[str, Any]) -> Any:
    """A parameter with the shape and dtype of its state; it takes no memory."""
    import torch

    from samestep.torch.entries import slots_in

    arrays = [v for n, v in slots_in(state).items() if n != "step" and torch.is_tensor(v)]
    if not arrays:
        raise CheckpointError(f"parameter {key!r} has no state, which would tell its shape")
    largest = max(arrays, key=lambda array: array.numel())
    return torch.nn.Parameter(torch.zeros((), dtype=largest.dtype).expand(largest.shape))


def to_torch(saved: Checkpoint, named: str | None) -> tuple[dict[str, Any], str]:
    """A state dict of torch.optim, and the name of the class.

    Raises:
        CheckpointError: no class of torch.optim computes the same.
    """
    from samestep.torch.libraries import LIBRARIES

    known = native_classes(saved, named, "torch.optim", LIBRARIES["torch"].table)
    reasons = []
    for cls in known:
        try:
            return _state_dict(saved, cls), f"torch.optim.{cls}"
        except (CheckpointError, TypeError, ValueError) as error:
            reasons.append(f"torch.optim.{cls}: {error}")
    raise CheckpointError("; ".join(reasons))


def _state_dict(saved: Checkpoint, name: str) -> dict[str, Any]:
    import torch

    from samestep.torch.libraries import LIBRARIES
    from samestep.torch.natives import into_state_dict

    native, optim = LIBRARIES["torch"].table[name], getattr(torch.optim, name)
    groups: list[dict[str, Any]] = []
    alike: list[Any] = []
    for path, own in saved.parameters.items():
        if own.rule not in alike:
            alike.append(own.rule)
            values = _values(made(own.rule))
            numbers = native.arguments(values, About({}, own.dtype, own.step))
            groups.append({**numbers, "params": []})
        param = torch.zeros((), dtype=getattr(torch, own.dtype)).expand(own.shape)
        groups[alike.index(own.rule)]["params"].append((path, torch.nn.Parameter(param)))
    order = [path for group in groups for path, _ in group["params"]]
    if order == [str(place) for place in range(len(order))]:  # of parameters without names
        for group in groups:
            group["params"] = [param for _, param in group["params"]]
    first = {n: v for n, v in groups[0].items() if n != "params"}
    skeleton = optim(groups, **first).state_dict()
    plain = {path: replace(own, value=None) for path, own in saved.parameters.items()}
    return into_state_dict(name, skeleton, replace(saved, parameters=plain))


def _values(rule: Rule) -> dict[str, Any]:
    return {name: value for name, value in rule.hypers.items() if name != "state_dtype"}


def save(state_dict: Mapping[str, Any], file: BinaryIO) -> None:
    """Write the state dict with torch.save."""
    import torch

    torch.save(dict(state_dict), file)
