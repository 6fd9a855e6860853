"""Type stubs of the classes that are made at run time, derived from the declarations.

``python -m samestep.conformance.harness.stubs`` writes an ``__init__.pyi`` next to the
``__init__.py`` of the package, of its rules and of every adapter. With ``--check`` it writes
nothing and names the stubs that are stale. The stub of an adapter whose framework is not installed
stays unchanged.

A stub has signatures and types, and the first sentence of each docstring. ``help`` has the rest.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import samestep
from samestep import rules
from samestep.declaration import Hyper, Option, Storage
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
_Groups: TypeAlias = Sequence[tuple[Predicate, Mapping[str, Any]]]
'''

WIDTH = 100
COMMON = 4
"""In how many rules an argument has the same choices before their type has a name."""

SOURCES = {
    "Callable": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
    "Any": "typing",
    "Literal": "typing",
    "Protocol": "typing",
    "TypeAlias": "typing",
    "ParamsT": "torch.optim.optimizer",
    "Rule": "samestep.rule",
    "Predicate": "samestep.groups",
}
"""The module that a name used in a stub comes from; ``_Name`` comes from the stub of the rules."""


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
    packages = _reexports(".", vars(samestep)["PACKAGES"])
    names = _reexports("samestep.checkpoints", vars(samestep)["CHECKPOINTS"])
    return _stub(samestep, f"{packages}{names}{_exports(samestep)}\n__version__: str\n")


def _rules() -> str:
    classes = [registry[name] for name in rules.__all__]
    named = "".join(f"{name}: TypeAlias = {kind}\n" for kind, name in _named().items())
    return _stub(rules, "\n".join([TYPES + named, _all(rules), *map(_class, classes)]))


def _adapter(adapter: ModuleType) -> str:
    natives = [_native(adapter, name) for name in rules.__all__]
    return _stub(adapter, "\n".join([_exports(adapter), *natives]))


def _stub(package: ModuleType, body: str) -> str:
    return f"{HEADER}\n{_sentence(package, '')}\n{_imports(body)}{body}"


def _exports(package: ModuleType) -> str:
    """The package's imports of its public names, as re-exports, and its ``__all__``."""
    lines = ""
    for node in ast.parse(inspect.getsource(package)).body:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names]
            every = rules.__all__ if names == ["*"] else names
            lines += _reexports(module, [n for n in every if n in (*package.__all__, "rules")])
    return f"{lines}\n{_all(package)}"


def _reexports(module: str, names: Iterable[str]) -> str:
    each = [f"{name} as {name}" for name in sorted(names)]
    return _import(module, each) if each else ""


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    return line if len(line) <= WIDTH else _filled(f"from {module} import (", names, ")\n")


def _all(package: ModuleType) -> str:
    return _filled("__all__ = [", map(_literal, package.__all__), "]\n")


def _filled(opening: str, items: Iterable[str], closing: str) -> str:
    """A bracket's items on one line, or on as many as they fill."""
    listed = [*items]
    whole = opening + ", ".join(listed) + closing.lstrip()
    if len(whole.rstrip("\n")) <= WIDTH:
        return whole
    indent = " " * (len(opening) - len(opening.lstrip()) + 4)
    return f"{opening}\n{_filled_lines(listed, ',', indent)}{closing}"


def _filled_lines(items: Iterable[str], end: str, indent: str) -> str:
    """The items, each with its end, on as few lines as they fill."""
    lines: list[str] = []
    for item in items:
        if lines and len(f"{lines[-1]} {item}{end}") <= WIDTH:
            lines[-1] += f" {item}{end}"
        else:
            lines.append(f"{indent}{item}{end}")
    return "".join(f"{line.rstrip(';')}\n" for line in lines)


def _imports(body: str) -> str:
    """Imports of the names that a stub uses and does not define."""
    tree = ast.parse(body)
    defined, used = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.id)
        elif isinstance(node, ast.alias | ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
    bases = {b.__name__: b.__module__ for name in rules.__all__ for b in registry[name].__bases__}
    sources = {**bases, **SOURCES}
    wanted: dict[str, list[str]] = {}
    for name in sorted(used - defined):
        module = sources.get(name, "samestep.rules" if name.startswith("_") else None)
        if module is not None:
            wanted.setdefault(module, []).append(name)
    modules = sorted(wanted, key=lambda module: (module.startswith("samestep"), module))
    lines = "".join(_import(module, wanted[module]) for module in modules)
    return f"{lines}\n" if lines else ""


def _class(rule: type[Rule]) -> str:
    """The stub of a rule class."""
    own = [name for name in rule.fields() if name in vars(rule) and name not in vars(Rule)]
    return (
        f"class {rule.__name__}({', '.join(base.__name__ for base in rule.__bases__)}):\n"
        + _sentence(rule)
        + _filled_lines([f"{name}: Any" for name in own], ";", "    ")
        + _function("__init__", rule, rule, rules, "    ")
    )


def _native(adapter: ModuleType, name: str) -> str:
    """The stub of an adapter's class, or of its function, for one rule."""
    native, rule = getattr(adapter, name), registry[name]
    if not isinstance(native, type):
        return f"{_function(name, native, rule, adapter, end='')}{_sentence(rule)}"
    initialiser = _function("__init__", native, rule, adapter, "    ")
    return f"class {name}({native.__bases__[0].__name__}):\n{_sentence(rule)}{initialiser}"


def _function(
    name: str,
    native: Any,
    rule: type[Rule],
    package: ModuleType,
    indent: str = "",
    end: str = " ...",
) -> str:
    """A function with a rule's signature: an initialiser, or what returns a native object."""
    fields = rule.fields()
    listed, returns = [], "None"
    if name == "__init__":
        listed.append("self")
    else:
        returns = inspect.signature(package.bind).return_annotation
    keyword_only = False
    for parameter in inspect.signature(native).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            listed.append("*")
        field = fields.get(parameter.name)
        kind = _type(field) if field else _added(parameter.name, package, rule)
        default = parameter.default
        value = "" if default is parameter.empty else f" = {_literal(default)}"
        listed.append(f"{parameter.name}: {kind}{value}")
    return _filled(f"{indent}def {name}(", listed, f"{indent}) -> {returns}:{end}\n")


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
        "groups": "_Groups",
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
    kind = _choices(field)
    return _named().get(kind, kind)


def _choices(field: Option) -> str:
    """The type of the choices of an option."""
    choices = field.choices or ()
    values = ", ".join(_literal(choice) for choice in choices if choice is not None)
    kind = f"Literal[{values}]" + (" | None" if None in choices else "")
    return f"{kind} | Mapping[str, str]" if isinstance(field, Storage) else kind


@cache
def _named() -> dict[str, str]:
    """Names for the types of choices that many rules have, by type."""
    found = Counter[tuple[str, str]]()
    for rule in map(registry.__getitem__, rules.__all__):
        for name, field in rule.fields().items():
            if isinstance(field, Option) and field.choices is not None:
                found[_choices(field), name] += 1
    names: dict[str, str] = {}
    for (kind, field_name), number in sorted(found.items()):
        name = "_" + field_name.title().replace("_", "")
        if number >= COMMON and name not in names.values():
            names[kind] = name
    return names


def _literal(value: Any) -> str:
    """A default or choice as source code."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def _sentence(thing: Any, indent: str = "    ") -> str:
    """The first line of a docstring, as a docstring."""
    text = (inspect.getdoc(thing) or thing.__name__).partition("\n")[0]
    mark = 'r"""' if "\\" in text else '"""'
    return f'{indent}{mark}{text}"""\n'


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
