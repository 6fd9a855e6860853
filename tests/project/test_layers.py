"""A module imports its own layer and those above it in this table; adapters never each other."""

import ast
from importlib.util import resolve_name
from pathlib import Path

import samestep

ROOT = Path(samestep.__file__).parent.parent
LAYERS = (
    {"samestep": "core"},
    {"samestep.checkpoints": "checkpoints"},
    {"samestep.parity": "parity"},
    {"samestep.recording": "recording", "samestep.replay": "recording/replay"},
    {f"samestep.{path.name}": f"adapters/{path.name}" for path in ROOT.glob("adapters/[!_]*")},
    {"samestep.benchmarks": "benchmarks"},
    {"samestep.command_line": "command_line"},
    {"samestep.conformance": "conformance_tests"},
)
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}
FOLDERS = {ROOT / folder: package for layer in LAYERS for package, folder in layer.items()}
IMPORTS = ast.Import | ast.ImportFrom
MODULES = {path: folder for folder in sorted(FOLDERS) for path in folder.rglob("*.py")}


def test_a_module_imports_no_layer_below_its_own():
    for path, folder in MODULES.items():
        own = FOLDERS[folder]
        package = ".".join((own, *path.relative_to(folder).parent.parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, IMPORTS) else []
            if isinstance(node, ast.ImportFrom):
                source = resolve_name("." * node.level + (node.module or ""), package)
                names = [f"{source}.{name}" for name in names]
            for name in names:
                dotted = (p for p in LEVEL if f"{name}.".startswith(f"{p}."))
                found = max(dotted, key=len, default=own)
                alike = found == own or LEVEL[own] == LEVEL["samestep.recording"]
                assert LEVEL[found] < LEVEL[own] + alike, f"{path}:{node.lineno}: {name}"
