"""``help`` of every public class and function is complete; they are found, not listed."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import samestep
from samestep.conformance.harness import stubs
from samestep.declaration import Hyper, Option
from samestep.rule import Rule, registry

RULES = {name: registry[name] for name in samestep.rules.__all__}
PLACES = ["samestep", "samestep.schedules", *stubs.adapters()]
UNDESCRIBED = {"self", "xp", "args", "kwargs"}
"""Not described where they are arguments: ``xp`` is the namespace of the arrays everywhere."""
INTERNAL = re.compile(r"\b(?:_values|_bind|_store|plan|executor|foreach|ELSEWHERE)\b")
"""Words of the implementation, which say nothing to who calls it."""


def _found() -> Iterator[Any]:
    """Every exported class and function but the rules, with its place."""
    for place in PLACES:
        module = _installed(place)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if name not in RULES and (inspect.isclass(value) or inspect.isfunction(value)):
                yield pytest.param(value, id=f"{place}.{name}")


def _installed(place: str) -> Any:
    try:
        return import_module(place)
    except ImportError:
        return None


PUBLIC = list(_found())


def _text(thing: Any) -> str:
    """What ``help`` says of a thing, and of the public one that it says to see."""
    text = inspect.getdoc(thing) or ""
    module = import_module(thing.__module__)
    seen = [vars(module).get(name) for name in re.findall(r"; see ``(\w+)``", text)]
    return "\n".join([text, *(inspect.getdoc(other) or "" for other in seen)])


def _section(text: str, title: str) -> dict[str, str]:
    """The entries of a section by name."""
    lines = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(?=\S)", lines, flags=re.M)
    pairs = (" ".join(entry.split()).partition(": ") for entry in entries if entry.strip())
    return {each: words for names, _, words in pairs for each in names.split(", ")}


def _undescribed(thing: Any) -> list[str]:
    """The parameters of a function, or of a class that is called, that its text does not name."""
    if inspect.isabstract(thing) or _is_error(thing):
        return []
    text = _text(thing)
    names = {*inspect.signature(thing).parameters} - UNDESCRIBED
    return sorted(n for n in names if not re.search(rf"(?:``\(?|^ +|, |\*){n}\b", text, re.M))


def _is_error(thing: Any) -> bool:
    """Whether it is made by what raises it, not by a user."""
    return inspect.isclass(thing) and issubclass(thing, Exception)


def _raises(function: Any) -> bool:
    """Whether a function itself has a ``raise``; one without an argument passes on another's."""
    body = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(body))


def _missing(shown: Any, rule: type[Rule]) -> list[str]:
    """What the text about a rule, or about a framework's class for it, leaves out."""
    text = inspect.getdoc(shown) or ""
    described, state = _section(text, "Args"), _section(text, "State")
    missing = []
    for name, parameter in inspect.signature(shown).parameters.items():
        words, field = described.get(name, ""), rule.fields().get(name)
        wanted = [] if parameter.default is parameter.empty else [f"{parameter.default!r} by"]
        if isinstance(field, Hyper | Option):
            wanted.append(field.meaning)
        if isinstance(field, Hyper):
            wanted += [f"[{field.unit}]", field.range]
        missing += [f"{name}: {each}" for each in wanted if each not in words]
        missing += [name] if not words else []
    missing += [f"state {name}" for name in {**rule._slots, **rule._shared} if not state.get(name)]
    missing += [f"like={n}" for n in rule.dialects if not _section(text, "Dialects").get(n)]
    source = re.search(r"^Source: (.*(?:\n .*)*)", text, re.M)
    if source is None or not re.search(
        r"arXiv \d{4}\.\d{4,5}|https?://|\b(19|20)\d\d\b", source[1]
    ):
        missing.append("source")
    missing += [] if "\nDiffers from:" in text or not rule.dialects else ["differences"]
    return missing + [
        each for each in ("TypeError", "ValueError") if each not in _section(text, "Raises")
    ]


@pytest.mark.parametrize("thing", PUBLIC)
def test_it_says_what_it_is_and_takes(thing: Any) -> None:
    text = inspect.getdoc(thing) or ""
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert own and not text.startswith(f"{thing.__name__}("), "no docstring of its own"
    assert re.match(r"[^\n]+[.:](\n\n|$)", text), "one sentence, then an empty line"
    assert _undescribed(thing) == []
    assert not INTERNAL.search(text)


@pytest.mark.parametrize("thing", [p for p in PUBLIC if inspect.isfunction(p.values[0])])
def test_it_says_what_it_raises(thing: Any) -> None:
    if _raises(thing):
        assert "Raises:\n" in (inspect.getdoc(thing) or "")


@pytest.mark.parametrize("thing", PUBLIC)
def test_help_has_the_signature(thing: Any) -> None:
    text = pydoc.render_doc(thing, renderer=pydoc.plaintext)
    made = thing.__init__ is not object.__init__ and not _is_error(thing)
    if made or inspect.isfunction(thing):
        assert f"{thing.__name__}{inspect.signature(thing)}" in text


@pytest.mark.parametrize("place", ["samestep", *stubs.adapters()])
@pytest.mark.parametrize("name", RULES)
def test_help_of_a_rule_is_complete(place: str, name: str) -> None:
    shown = getattr(pytest.importorskip(place), name)
    assert _missing(shown, RULES[name]) == []
    assert not INTERNAL.search(inspect.getdoc(shown) or "")
    text = pydoc.render_doc(shown, renderer=pydoc.plaintext)
    assert f"{name}{inspect.signature(shown)}" in text
    assert not re.search(r"^ \|  _[a-z]", text, re.M), "private names are shown"


def test_what_is_missing_is_found() -> None:
    class Bare:
        def __init__(self, rate: float) -> None:
            """Nothing about its argument."""

    def alone(number: float, other: float) -> None:
        """Something of ``number``; see ``alone``."""
        raise ValueError(number, other)

    assert _undescribed(Bare) == ["rate"]
    assert _undescribed(alone) == ["other"]
    assert _raises(alone)


@pytest.mark.parametrize("name", ["AdamW", "SkipNonFinite"])
def test_a_stripped_docstring_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES[name]
    whole = inspect.getdoc(rule) or ""
    monkeypatch.setattr(rule, "__doc__", "Nothing but a sentence.")
    found = _missing(rule, rule)
    assert {*inspect.signature(rule).parameters} <= {*found} and "source" in found
    for section in ("Args", "State", "Raises"):
        monkeypatch.setattr(rule, "__doc__", re.sub(rf"\n{section}:\n(?: .*\n?)*", "", whole))
        assert _missing(rule, rule), section
