"""Type stubs of the classes that are made at run time, derived from the declarations.

``python -m samestep.conformance.harness.stubs`` writes an ``__init__.pyi`` beside the
``__init__.py`` of the package, of its rules and of every adapter. With ``--check`` it writes
nothing and names the stubs that are stale. The stub of an adapter whose framework is not installed
is left as it is.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import samestep
from samestep import checkpoints, rules
from samestep.declaration import Hyper, Option, Storage
from samestep.documentation import arguments, described, page
from samestep.rule import Rule, registry

__all__ = ["adapters", "folder", "main", "stale", "stubs"]

HEADER = (
    "# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules."
)

TYPES = '''\
class _Array(Protocol):
    """A 0-d array of any framework, for values that are traced."""

    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> Any: ...

_Schedule: TypeAlias = Callable[[Any], Any]
"""From the 0-based step to the value."""

_Scalar: TypeAlias = float | _Array | _Schedule
_Whole: TypeAlias = int | _Array | _Schedule
'''

SOURCES = {
    "Callable": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
    "Any": "typing",
    "Literal": "typing",
    "Protocol": "typing",
    "TypeAlias": "typing",
    "ParamsT": "torch.optim.optimizer",
    "Rule": "..rule",
    "Wrapper": "..wrapper",
    "Predicate": "..groups",
    "Conditional": "..parts.conditional",
    "Layerwise": "..parts.layerwise",
    "Moments": "..parts.moments",
    "Rooted": "..parts.moments",
    "Momentum": "..parts.momentum",
    "_Scalar": "..rules",
    "_Whole": "..rules",
}
"""The module that a name used in a stub comes from."""


def folder(package: str) -> Path:
    """Where a package lies on disk."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no package {package}")
    return Path(spec.origin).parent


def adapters() -> list[str]:
    """The packages with a backend that serve a native class per rule."""
    packages = {
        entry.module.rpartition(".")[0] for entry in entry_points(group="samestep.backends")
    }
    return sorted(
        package
        for package in packages
        if "native.serve(" in (folder(package) / "__init__.py").read_text(encoding="utf-8")
    )


def stubs() -> Iterator[tuple[Path, str]]:
    """Path and text of every stub."""
    yield folder("samestep") / "__init__.pyi", _core()
    yield folder("samestep.rules") / "__init__.pyi", _rules()
    for name in adapters():
        try:
            adapter = import_module(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            yield folder(name) / "__init__.pyi", _adapter(adapter)


def stale() -> list[Path]:
    """The stubs that are missing, or say something else than the declarations."""
    return [
        path
        for path, text in stubs()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def _core() -> str:
    lazy = "".join(
        f"from samestep.checkpoints import {name} as {name}\n"
        for name in checkpoints.__all__
        if name in samestep.__all__
    )
    return _stub(samestep, f"{lazy}{_exports(samestep)}\n__version__: str\n")


def _rules() -> str:
    classes = [_class(registry[name]) for name in rules.__all__]
    return _stub(rules, "\n".join([TYPES, f"__all__ = {_literal(rules.__all__)}\n", *classes]))


def _adapter(adapter: ModuleType) -> str:
    natives = [_native(adapter, name) for name in rules.__all__]
    return _stub(adapter, "\n".join([_exports(adapter), *natives]))


def _stub(package: ModuleType, body: str) -> str:
    docstring = _docstring(inspect.getdoc(package) or package.__name__, "")
    return f"{HEADER}\n{docstring}\n{_imports(body)}{body}"


def _exports(package: ModuleType) -> str:
    """The package's imports of its public names, as re-exports, and its ``__all__``."""
    lines = []
    for node in ast.parse(inspect.getsource(package)).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            module = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names]
            for name in sorted(rules.__all__ if names == ["*"] else names):
                if name in package.__all__ or name == "rules":
                    lines.append(f"from {module} import {name} as {name}\n")
    return "".join(lines) + f"\n__all__ = {_literal(package.__all__)}\n"


def _imports(body: str) -> str:
    """Imports of the names that a stub uses and does not define."""
    tree = ast.parse(body)
    defined = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    wanted: dict[str, list[str]] = {}
    for name in sorted(used - defined):
        if name in SOURCES:
            wanted.setdefault(SOURCES[name], []).append(name)
    lines = [
        f"from {module} import {', '.join(wanted[module])}\n"
        for module in SOURCES.values()
        if module in wanted
    ]
    return "".join(dict.fromkeys(lines)) + ("\n" if lines else "")


def _class(rule: type[Rule]) -> str:
    """The stub of a rule class."""
    own = [name for name in rule.fields() if name in vars(rule) and name not in vars(Rule)]
    return (
        f"class {rule.__name__}({', '.join(base.__name__ for base in rule.__bases__)}):\n"
        + _docstring(described(rule))
        + "".join(f"\n    {name}: Any" for name in own)
        + ("\n\n" if own else "\n")
        + textwrap.indent(_function("__init__", rule, rule, rules), "    ")
    )


def _native(adapter: ModuleType, name: str) -> str:
    """The stub of an adapter's class, or of its function, for one rule."""
    native, rule = getattr(adapter, name), registry[name]
    first_line = page(rule).partition("\n")[0]
    listed = arguments(rule, native, adapter.bind)
    text = f"{first_line}\n\n{listed}\n\nEquations, source and kin: ``samestep.{name}``."
    if not isinstance(native, type):
        function = _function(name, native, rule, adapter).removesuffix(" ...\n")
        return f"{function}\n{_docstring(text)}"
    initialiser = textwrap.indent(_function("__init__", native, rule, adapter), "    ")
    return f"class {name}({native.__bases__[0].__name__}):\n{_docstring(text)}\n{initialiser}"


def _function(name: str, native: Any, rule: type[Rule], package: ModuleType) -> str:
    """A function with a rule's signature: an initialiser, or what returns a native object."""
    fields = rule.fields()
    lines, returns = [], "None"
    if name == "__init__":
        lines.append("self")
    else:
        returns = inspect.signature(package.bind).return_annotation
    keyword_only = False
    for parameter in inspect.signature(native).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            lines.append("*")
        field = fields.get(parameter.name)
        kind = _type(field) if field else _added(parameter.name, package, rule)
        default = parameter.default
        value = "" if default is parameter.empty else f" = {_literal(default)}"
        lines.append(f"{parameter.name}: {kind}{value}")
    return f"def {name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {returns}: ...\n"


def _added(argument: str, package: ModuleType, rule: type[Rule]) -> str:
    """The type of an argument that a rule has beside its fields."""
    if argument == "execution":
        return f"Literal[{', '.join(map(_literal, package.EXECUTIONS))}]"
    if argument == "like":
        names = ", ".join(map(_literal, rule.dialects))
        return f"Literal[{names}] | None" if names else "None"
    return {
        "capturable": "bool",
        "differentiable": "bool",
        "rule": "Rule",
        "params": "ParamsT",
        "mask": "Predicate | None",
        "groups": "Sequence[tuple[Predicate, Mapping[str, Any]]]",
    }[argument]


def _type(field: Hyper | Option) -> str:
    """The type of the values that a hyperparameter or option takes."""
    default = field.default
    if isinstance(field, Hyper):
        if isinstance(default, tuple):
            return f"tuple[{', '.join(['_Scalar'] * len(default))}]"
        number = "_Whole" if isinstance(default, int) else "_Scalar"
        return number if default is not None else f"{number} | None"
    if field.choices is None:
        return type(default).__name__
    values = ", ".join(_literal(choice) for choice in field.choices if choice is not None)
    kinds = f"Literal[{values}]" + (" | None" if None in field.choices else "")
    return f"{kinds} | Mapping[str, str]" if isinstance(field, Storage) else kinds


def _literal(value: Any) -> str:
    """A default or choice as source code."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[\n" + "".join(f"    {_literal(item)},\n" for item in value) + "]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def _docstring(text: str, indent: str = "    ") -> str:
    mark = 'r"""' if "\\" in text else '"""'
    end = '"""' if "\n" not in text else '\n"""'
    return textwrap.indent(f"{mark}{text}{end}\n", indent)


def main(arguments: list[str] | None = None) -> int:
    """Write the stubs, or check them; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m samestep.conformance.harness.stubs", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    if parser.parse_args(arguments).check:
        outdated = stale()
        for path in outdated:
            print(
                f"{path} is stale: run python -m samestep.conformance.harness.stubs",
                file=sys.stderr,
            )
        return 1 if outdated else 0
    for path, text in stubs():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
