"""Derived: the overview from the README, a section per rule, what was sent in about hardware."""

import json
import re
from pathlib import Path

from mkdocs.structure.files import File

import samestep
from samestep.benchmarks import hardware
from samestep.command_line.commands.list import rule_report
from samestep.command_line.markdown import markdown

README = Path(__file__).parent.parent / "README.md"


def on_files(files, config):
    """Add the derived pages to those in ``pages``."""
    overview = README.read_text(encoding="utf-8").replace("docs/pages/", "")
    overview = re.sub(r"\[([^]]*)\]\((?![a-z_/]+\.md)[^)]*\)", r"\1", overview)
    rules = "\n".join(markdown(rule_report(name)) for name in sorted(samestep.registry))
    for name, text in {"index.md": overview, "rules.md": f"# Rules\n\n{rules}"}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Show every run of ``benchmarks/gpu.sh`` that was sent in."""
    if page.file.src_uri != "hardware.md":
        return markdown
    runs = sorted((Path(__file__).parent / "pages" / "hardware").glob("*.json"))
    read = [json.loads(path.read_text(encoding="utf-8")) for path in runs]
    return "\n\n".join([markdown, *map(hardware.markdown, read)])
