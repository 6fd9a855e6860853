"""Type stubs of the classes that are made at run time, derived from the declarations.

A build of the package writes an ``__init__.pyi`` next to the ``__init__.py`` of the core, of its
rules and of every adapter; so does ``python -m samestep.conformance.harness.stubs`` after a
declaration has changed. They are not in the repository. No framework is imported: how an adapter
makes its classes is read from the call of ``native.serve`` in its ``__init__.py``.

A stub has signatures and types, and the first sentence of each docstring. ``help`` has the rest.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import samestep
from samestep import native, rules
from samestep.declaration import Hyper, Option, Storage
from samestep.rule import Rule, registry

__all__ = ["ROOT", "adapters", "folder", "main", "project", "stubs"]

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
"""The number of rules that share an argument's choices before their type gets a name."""

SOURCES = {
    "Callable": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
    "Any": "typing",
    "Literal": "typing",
    "Protocol": "typing",
    "TypeAlias": "typing",
    "ParamsT": "torch.optim.optimizer",
    "ProcessGroup": "torch.distributed",
    "Rule": "samestep.rule",
    "Predicate": "samestep.groups",
    "Execution": "samestep.execution",
}
"""The module that a name used in a stub comes from; ``_Name`` comes from the stub of the rules."""


ROOT = Path(samestep.__file__).parents[1]
"""The folder of ``pyproject.toml``; of an installed package it holds something else."""


@cache
def project() -> dict[str, Any]:
    """The content of ``pyproject.toml``."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def folder(package: str) -> Path:
    """The folder of a package in the checkout."""
    own: str | None = project()["tool"]["setuptools"]["package-dir"].get(package)
    if own is not None:
        return ROOT / own
    above, _, name = package.rpartition(".")
    return folder(above) / name


def adapters() -> list[str]:
    """The packages with a backend that serve a native class per rule."""
    modules = project()["project"]["entry-points"]["samestep.backends"].values()
    packages = sorted(module.rpartition(".")[0] for module in modules)
    return [package for package in packages if "native.serve(" in _source(package)]


def _source(package: str) -> str:
    return (folder(package) / "__init__.py").read_text(encoding="utf-8")


def stubs() -> Iterator[tuple[Path, str]]:
    """Path and text of every stub."""
    texts = {"samestep": _core(), "samestep.rules": _rules()}
    for package, text in {**texts, **{name: _adapter(name) for name in adapters()}}.items():
        yield folder(package) / "__init__.pyi", text


def _core() -> str:
    packages = _reexports(".", vars(samestep)["PACKAGES"])
    names = _reexports("samestep.checkpoints", vars(samestep)["CHECKPOINTS"])
    exports = _exports("samestep", samestep.__all__)
    return _stub("samestep", f"{packages}{names}{exports}\n__version__: str\n")


def _rules() -> str:
    classes = [_class(registry[name]) for name in rules.__all__]
    named = "".join(f"{name}: TypeAlias = {kind}\n" for kind, name in _named().items())
    return _stub("samestep.rules", "\n".join([TYPES + named, _all(rules.__all__), *classes]))


def _adapter(package: str) -> str:
    call, literals = _served(package)
    own = {one.arg: one.value for one in call.keywords}
    before = ast.literal_eval(own["before"]) if "before" in own else []
    keywords = literals[ast.unparse(own["keywords"])]
    base = _made_by(package, ast.unparse(call.args[1]))
    natives = [_native(registry[name], base, before, keywords) for name in rules.__all__]
    return _stub(package, "\n".join([_exports(package, literals["__all__"]), *natives]))


def _served(package: str) -> tuple[ast.Call, dict[str, Any]]:
    """The call that makes an adapter's classes, and the literals that its module names."""
    calls, literals = [], {}
    for node in ast.parse(_source(package)).body:
        match node:
            case ast.Assign([ast.Tuple()], ast.Call() as call):
                calls.append(call)
            case ast.Assign([ast.Name(name)], ast.List() | ast.Dict() as value):
                literals[name] = ast.literal_eval(value)
    (served,) = calls
    return served, literals


def _made_by(package: str, base: str) -> tuple[str, bool]:
    """The class that natives are of, and whether they are functions that return it."""
    for node in ast.parse((folder(package) / "optimizer.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == base and node.returns is not None:
            return ast.unparse(node.returns), True
    return base, False


def _stub(package: str, body: str) -> str:
    sentence = _sentence(ast.get_docstring(ast.parse(_source(package))) or "", "")
    return f"{HEADER}\n{sentence}\n{_imports(body)}{body}"


def _exports(package: str, public: Sequence[str]) -> str:
    """The package's imports of its public names, as re-exports, and its ``__all__``."""
    lines = ""
    for node in ast.parse(_source(package)).body:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names]
            every = rules.__all__ if names == ["*"] else names
            lines += _reexports(module, [n for n in every if n in (*public, "rules")])
    return f"{lines}\n{_all(public)}"


def _reexports(module: str, names: Iterable[str]) -> str:
    each = [f"{name} as {name}" for name in sorted(names)]
    return _import(module, each) if each else ""


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    return line if len(line) <= WIDTH else _filled(f"from {module} import (", names, ")\n")


def _all(public: Sequence[str]) -> str:
    return _filled("__all__ = [", map(_literal, public), "]\n")


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
        + _sentence(rule.__doc__)
        + _filled_lines([f"{name}: Any" for name in own], ";", "    ")
        + _initialiser(rule, rule.__signature__)
    )


def _native(
    rule: type[Rule], base: tuple[str, bool], before: Sequence[str], keywords: Mapping[str, Any]
) -> str:
    """The stub of an adapter's class, or of its function, for one rule."""
    name, doc = rule.__name__, _sentence(rule.__doc__)
    kind, is_function = base
    signature = native.signature(rule, before, keywords)
    if is_function:
        return _filled(f"def {name}(", _arguments(rule, signature), f") -> {kind}:\n{doc}")
    return f"class {name}({kind}):\n{doc}{_initialiser(rule, signature)}"


def _initialiser(rule: type[Rule], signature: inspect.Signature) -> str:
    listed = ["self", *_arguments(rule, signature)]
    return _filled("    def __init__(", listed, "    ) -> None: ...\n")


def _arguments(rule: type[Rule], signature: inspect.Signature) -> Iterator[str]:
    """The arguments of a signature, with the types that a rule's fields have."""
    fields = rule.fields()
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        field = fields.get(parameter.name)
        kind = _type(field) if field else _added(parameter.name, rule)
        default = parameter.default
        value = "" if default is parameter.empty else f" = {_literal(default)}"
        yield f"{parameter.name}: {kind}{value}"


def _added(argument: str, rule: type[Rule]) -> str:
    """The type of an argument that a rule has in addition to its fields."""
    if argument == "like":
        names = ", ".join(map(_literal, rule.dialects))
        return f"Literal[{names}] | None" if names else "None"
    return {
        "axis_name": "Any",
        "execution": "Execution",
        "capturable": "bool",
        "differentiable": "bool",
        "reduce_over": "ProcessGroup | None",
        "share_work": "ProcessGroup | None",
        "rule": "Rule",
        "params": "ParamsT",
        "mask": "Predicate | None",
        "group": "Any",
        "groups": "_Groups",
        "shards": "Any",
    }[argument]


def _type(field: Hyper | Option) -> str:
    """The type of the values that a hyperparameter or option takes."""
    default = field.default
    if isinstance(field, Hyper):
        if isinstance(default, tuple):
            return f"tuple[{', '.join(['_Scalar'] * len(default))}]"
        number = "_Whole" if isinstance(default, int) else "_Scalar"
        return number if default is not None else f"{number} | None"
    if field.name == "layout":
        return "str | None"
    if hasattr(field, "annotation"):
        return str(field.annotation)
    if field.choices is None:
        return "int | tuple[int, ...] | None" if default is None else type(default).__name__
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
            if isinstance(field, Option) and field.choices is not None and name != "layout":
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


def _sentence(text: str | None, indent: str = "    ") -> str:
    """The first line of a docstring, as a docstring."""
    first = (text or "").partition("\n")[0]
    mark = 'r"""' if "\\" in first else '"""'
    return f'{indent}{mark}{first}"""\n'


def main() -> None:
    """Write the stubs."""
    for path, text in stubs():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
