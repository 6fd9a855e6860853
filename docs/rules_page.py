"""Derived pages: the overview from the README, a section per rule from its declaration."""

import re
from pathlib import Path

from mkdocs.structure.files import File

import samestep
from samestep.command_line.differences import changed
from samestep.declaration import Hyper, Option
from samestep.documentation import page

README = Path(__file__).parent.parent / "README.md"


def on_files(files, config):
    """Add the derived pages to those in ``pages``."""
    overview = README.read_text(encoding="utf-8").replace("docs/pages/", "")
    overview = re.sub(r"\[([^]]*)\]\((?![a-z_/]+\.md)[^)]*\)", r"\1", overview)
    for name, text in {"index.md": overview, "rules.md": rules()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def rules():
    """Every rule: its docstring, hyperparameters, options, dialects and state."""
    return "# Rules\n\n" + "\n\n".join(
        section(samestep.registry[n]) for n in sorted(samestep.registry)
    )


def section(rule):
    """One rule's section."""
    fields = rule.fields().values()
    slots = [f"- `{name}`: {slot.meaning}" for name, slot in (rule._slots | rule._shared).items()]
    hypers = [
        [code(field.name), code(repr(field.default)), field.range, field.unit, field.meaning]
        for field in fields
        if isinstance(field, Hyper)
    ]
    options = [
        [code(field.name), code(repr(field.default)), choices(field), field.meaning]
        for field in fields
        if isinstance(field, Option)
    ]
    dialects = [
        [code(name), preset.of, differing(rule, name), preset.note]
        for name, preset in rule.dialects.items()
    ]
    return "\n".join(
        [
            f"## {rule.__name__}",
            "",
            "```text",
            page(rule),
            "```",
            "",
            *table(["hyperparameter", "default", "allowed", "unit", "meaning"], hypers),
            *table(["option", "default", "choices", "meaning"], options),
            *table(["like", "computes what this does", "values that differ", "note"], dialects),
            "State:" if slots else "It keeps no state.",
            "",
            *slots,
        ]
    )


def table(head, rows):
    """Lines of a Markdown table and an empty line; nothing if there are no rows."""
    lines = [head, ["---"] * len(head), *rows]
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return [*shown, ""] if rows else []


def code(text):
    """Text as code."""
    return f"`{text}`"


def choices(field):
    """What an option may be, each as code."""
    if field.choices is None:
        return field.range
    words = field.range.removeprefix("one of ")
    return words.replace(
        ", ".join(map(repr, field.choices)), ", ".join(code(repr(c)) for c in field.choices)
    )


def differing(rule, dialect):
    """The values of a dialect that differ from the rule's defaults."""
    values = changed(rule, dialect)
    return ", ".join(code(f"{name}={value!r}") for name, value in values.items()) or "none"
