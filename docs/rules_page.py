"""Derived pages: the overview from the README, a section per rule from its declaration."""

import inspect
import re
from pathlib import Path

from mkdocs.structure.files import File

import samestep

README = Path(__file__).parent.parent / "README.md"


def on_files(files, config):
    """Add the derived pages to those in ``pages``."""
    overview = README.read_text(encoding="utf-8").replace("docs/pages/", "")
    overview = re.sub(r"\[(examples/[^]]*)\]\([^)]*\)", r"`\1`", overview)
    for name, text in {"index.md": overview, "rules.md": rules()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def rules():
    """Every rule: its docstring, hyperparameters and state."""
    return "# Rules\n\n" + "\n\n".join(
        section(samestep.registry[n]) for n in sorted(samestep.registry)
    )


def section(rule):
    """One rule's section."""
    rows = [
        f"| `{name}` | `{field.default!r}` | {field.range} | {getattr(field, 'unit', '')} "
        f"| {field.meaning} |"
        for name, field in rule.fields().items()
    ]
    slots = [f"- `{name}`: {slot.meaning}" for name, slot in (rule._slots | rule._shared).items()]
    return "\n".join(
        [
            f"## {rule.__name__}",
            "",
            "```text",
            inspect.cleandoc(rule.__doc__ or ""),
            "```",
            "",
            "| hyperparameter | default | allowed | unit | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "State:",
            "",
            *slots,
        ]
    )
