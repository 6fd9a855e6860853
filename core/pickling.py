"""A rule as pickles and copies keep it; an earlier version may have written the pickle."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from .arrays import listed
from .quirks import updated
from .version import __version__

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["kept", "restore"]

WRITTEN_BY = "_written_by"
"""The entry of a pickled rule for the versions of samestep and of the rule."""


def kept(rule: Rule) -> dict[str, Any]:
    """The attributes of a rule without derived ones: an id or a hash is one process's own."""
    cls = type(rule)
    own = {
        name: value
        for name, value in vars(rule).items()
        if not isinstance(getattr(cls, name, None), cached_property)
    }
    return {**own, "_variants": {}, WRITTEN_BY: (__version__, cls.version)}


def restore(rule: Rule, state: dict[str, Any]) -> None:
    """Give a rule the attributes of a pickle: translated, and with defaults for new fields.

    Raises:
        TypeError: another version of the rule or of samestep has pickled it.
    """
    state = dict(state)
    wrote, version = state.pop(WRITTEN_BY, ("", 1))
    by = f"samestep {wrote}" if wrote else "another version of samestep"
    if "rule" in state:  # as wrappers once held it
        state["inside"] = (state.pop("rule"),)
    values = updated(rule.published(), state["_values"])
    unknown = values.keys() - {*rule.fields(), "quirks"}
    if unknown or version != type(rule).version:
        had = listed(sorted(unknown)) if unknown else f"version {version} of it"
        here = "" if unknown else f" (here it is at version {type(rule).version})"
        raise TypeError(
            f"{rule.name}: it was pickled by {by}, which had {had}{here}; make the rule "
            "again. samestep.save keeps states for later versions"
        )
    if values.get("quirks", ()) != rule.quirks:  # once an option of the rule
        own = rule.published()._with_quirks(None, values["quirks"])
        object.__setattr__(rule, "__class__", own)
    usual = {name: field.default for name, field in rule._hypers.items()}
    vars(rule).update(state | {"_values": usual | values, "_variants": {}})
