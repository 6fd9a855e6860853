"""Dialects: what libraries compute under a rule's name, as presets of the rule's own fields.

    samestep.Adam(like="keras")        # eps = 1e-7, added before the correction; decoupled decay

A dialect reproduces what the library computes, in its defaults and its faults; ``like=`` is nothing
but those values, and an argument given beside it goes before them. What a dialect does not take
over is rounding: bias corrections taken in float32, or hyperparameters cast to bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .declaration import Hyper, Option

__all__ = ["LIBRARIES", "Preset", "chosen", "preset", "refuse", "values"]

LIBRARIES = {
    "torch": "torch.optim.{rule}",
    "optax": "optax.{lower}",
    "mlx": "mlx.optimizers.{rule}",
    "keras": "keras.optimizers.{rule}",
    "paper": "what the paper prints",
    "mlx-0.0": "mlx.optimizers.{rule} of December 2023",
    "jax-example": "jax.example_libraries.optimizers.{lower}",
    "labml": "labml_nn.optimizers.{rule}",
    "holocron": "holocron.optim.{rule}",
    "xlstm": "xlstm_jax.trainer.optimizer.{lower}",
}
"""The names that ``like=`` takes, and what each calls a rule unless the preset says otherwise."""


@dataclass(frozen=True)
class Preset:
    """What one library computes, as values of the rule's fields that differ from their defaults."""

    values: dict[str, Any]
    note: str
    """What the library does oddly, in a few words."""
    of: str
    """The library's own name for it, with its arguments where they select an algorithm."""

    def named(self, dialect: str, rule: str) -> Preset:
        """The same with the library's usual name for the rule where none is given."""
        usual = LIBRARIES.get(dialect, dialect).format(rule=rule, lower=rule.lower())
        return replace(self, of=self.of or usual)


def preset(note: str = "", /, *, of: str = "", **values: Any) -> Preset:
    """Declare a dialect of a rule.

    Args:
        note: what the library does oddly, in a few words.
        of: what is reproduced, where it is not what ``LIBRARIES`` says.
        values: hyperparameters and options that differ from the rule's defaults.
    """
    return Preset(values, note, of)


def values(dialects: Mapping[str, Preset]) -> dict[str, dict[str, Any]]:
    """The values of every dialect, in the order of names."""
    return {name: item.values for name, item in sorted(dialects.items())}


def chosen(rule: str, presets: Mapping[str, dict[str, Any]], like: Any) -> dict[str, Any]:
    """The values of the dialect that ``like`` names; none where it is ``None``.

    Args:
        rule: name of the rule, for the message.
        presets: the values of every dialect that the rule has.
        like: the argument of that name, as a user gave it.

    Raises:
        ValueError: the rule has no such dialect.
    """
    if like is None:
        return {}
    if not isinstance(like, str) or like not in presets:
        raise ValueError(
            f"{rule}(like={like!r}): there is no such dialect; {rule} has "
            + (", ".join(map(repr, presets)) or "none")
        )
    return presets[like]


def refuse(rule: str, dialects: Mapping[str, Preset], fields: Mapping[str, Hyper | Option]) -> None:
    """Refuse a dialect with a name that is no field, or a value that the field does not take."""
    for dialect, item in dialects.items():
        for name, value in item.values.items():
            if name not in fields:
                raise TypeError(f"{rule}: dialect {dialect!r} sets {name}, which is no field")
            fields[name].validated(f"{rule}(like={dialect!r})", value)
