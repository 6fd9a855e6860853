"""The suite, tested: faults planted in rules, in what they share and in adapters make it fail.

A fault is caught where a measure of the suite fails on a short run. One that changes no bit of any
run is equivalent, one that changes bits by rounding only is taken for so too. No other may survive.

``make test`` plants faults in the files that are not as on the main branch, or a few where all are;
``make thorough`` plants all.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from inspect import getmodule
from itertools import zip_longest
from pathlib import Path
from pkgutil import iter_modules
from types import FunctionType, ModuleType

import pytest

import samestep
from samestep import coefficients, moves, packing, parts, rules, step, vocabulary, weight_decay
from samestep.conformance.faults.behaviour import InNumPy, OnBackend, Run, judged, runs
from samestep.conformance.faults.kept import faults_of_keeping, runs_of_keeping
from samestep.conformance.faults.mechanical import faults_in
from samestep.conformance.faults.mutation import Fault, functions_of
from samestep.conformance.faults.placement import OnPieces, faults_of_people, faults_of_placement
from samestep.conformance.harness.settings import is_own, representatives, typical
from samestep.parity.backend import Backend
from samestep.rule import Rule, registry
from samestep.rules import SignSGD
from samestep.schedules import CosineDecay

RULES = [registry[name] for name in rules.__all__]
MOST = 60
"""How many runs are tried at most for a fault in what rules share."""
IN_TEST = 120
"""How many faults ``make test`` plants at most, of all that it might."""


def modules_of(package: ModuleType) -> list[ModuleType]:
    names = [found.name for found in iter_modules(package.__path__)]
    return [import_module(f"{package.__name__}.{name}") for name in names]


SHARED = [*modules_of(parts), moves, vocabulary, weight_decay]
ARITHMETIC = [*modules_of(rules), *SHARED]
"""Modules in which everything is run by some rule."""


def defined(module: ModuleType) -> list[type[Rule]]:
    """The rules, and parts of rules, that a module defines."""
    found = [value for value in vars(module).values() if isinstance(value, type)]
    return [kind for kind in found if issubclass(kind, Rule) and getmodule(kind) is module]


def faults_of(module: ModuleType) -> list[Fault]:
    """Faults in what a module computes; what refuses input has tests of its own."""
    functions = [
        f for f in functions_of(module) if not f.__name__.startswith(("validate", "refuse"))
    ]
    kinds = defined(module) or RULES
    return [
        *faults_in(functions, {name for kind in kinds for name in (*kind._slots, *kind._shared)})
    ]


@cache
def users(module: ModuleType) -> tuple[list[Run], list[type[Rule]]]:
    """Runs that enter functions of a module, of its own rules or of as few as enter all; others."""
    functions = {*functions_of(module)}
    chosen = [rule for rule in defined(module) if rule in RULES]
    entering = {} if chosen else {rule: entered_by(rule) & functions for rule in RULES}
    left = {function for entered in entering.values() for function in entered}
    while left:
        chosen.append(max(entering, key=lambda rule: len(entering[rule] & left)))
        left -= entering[chosen[-1]]
    by_rule = [[run for run in runs(rule) if run.functions & functions] for rule in chosen]
    found = [run for several in zip_longest(*by_rule) for run in several if run is not None]
    return found, [rule for rule, own in entering.items() if own and rule not in chosen]


@cache
def entered_by(rule: type[Rule]) -> set[FunctionType]:
    both = [InNumPy(typical(rule)), InNumPy(typical(rule), changes=True)]
    return {function for run in both if run.sound() for function in run.functions}


def judge(
    faults: Sequence[Fault], tried: Sequence[Run], others: Sequence[type[Rule]] = ()
) -> Counter[str]:
    """Plant faults, count the outcomes, and fail if one survives.

    ``others``: rules whose runs are tried too where no run comes to the place of a fault.
    """
    counted: Counter[str] = Counter()
    survivors = []
    left = [*tried]
    for fault in faults:
        (function,) = fault.codes
        suited = [run for run in left if function in run.functions][:MOST]
        outcome, run = judged(fault, suited)
        for rule in others if outcome == "unreached" else ():
            if outcome == "unreached":
                outcome, run = judged(fault, [r for r in runs(rule) if function in r.functions])
        if run in left:  # asked first from then on
            left.remove(run)
            left.insert(0, run)
        counted[outcome] += 1
        survivors += [fault.name] if outcome == "survives" else []
    print(f"{len(faults)} faults:", *(f"{n} {name}" for name, n in sorted(counted.items())))
    assert not survivors, f"{len(survivors)} of {len(faults)} survive:\n" + "\n".join(survivors)
    return counted


@pytest.mark.thorough
@pytest.mark.only(where=is_own)
def test_faults_in_a_rule_are_caught(rule_class):
    """Of the package's, which have references."""
    caught(import_module(rule_class.__module__))


@pytest.mark.thorough
@pytest.mark.parametrize("module", SHARED, ids=lambda module: module.__name__)
def test_faults_in_what_rules_share_are_caught(module):
    caught(module)


def caught(module: ModuleType) -> None:
    faults = faults_of(module)
    assert judge(faults, *users(module))["caught"] >= len(faults) / 2


@cache
def running(backend: Backend) -> list[Run]:
    """Runs of a backend: rules in which is all that adapters treat apart, and one in each dtype."""
    first, *others = representatives()[: 2 if backend.slow else None]
    found = [OnBackend(typical(rule), backend, "float32") for rule in others]
    dtypes = backend.dtypes[:1] if backend.slow else backend.dtypes
    found += [OnBackend(typical(first), backend, dtype) for dtype in dtypes]
    if not backend.slow:  # equal to the last bit, so that a number in float32 is seen
        found.append(OnBackend(typical(SignSGD, lr=CosineDecay(0.1, 20)), backend, "float32"))
    return [run for run in found if run.agrees(run.found)]


def faults_on(backend: Backend) -> list[Fault]:
    """Faults in what a backend executes that is no rule's."""
    library = f"samestep.{backend.library}"
    modules = {step.__name__, coefficients.__name__, packing.__name__, library}
    modules |= {name for name in sys.modules if name.startswith(f"{library}.")}
    modules -= {type(backend).__module__}
    functions = {function for run in running(backend) for function in run.functions}
    suited = [function for function in functions if function.__module__ in modules]
    return [*faults_in(sorted(suited, key=lambda f: (f.__module__, f.__qualname__)))]


def spread(faults: Sequence[Fault], most: int) -> Sequence[Fault]:
    """At most so many of the faults, from all over."""
    return faults[:: max(1, math.ceil(len(faults) / most))]


@pytest.mark.compiler_fails
@pytest.mark.thorough
def test_faults_on_a_backend_are_caught(backend, monkeypatch):
    """All where a step takes a millisecond, and some where it is compiled."""
    monkeypatch.setattr(packing, "SMALL", 100)
    monkeypatch.setattr(packing, "CHUNK", 100)
    faults = faults_on(backend)
    counted = judge(spread(faults, 10 if backend.slow else 400), running(backend))
    assert counted["caught"] >= (1 if backend.slow else counted.total() / 5)


def changed() -> set[Path] | None:
    """The files that are not as on the main branch; ``None`` where that is not known."""
    root = Path(samestep.__file__).parents[1]
    for main in ("origin/main", "main", "origin/master", "master"):
        base = _git(root, "merge-base", "HEAD", main)
        if base is not None:
            names = _git(root, "diff", "--name-only", base[0])
            return None if names is None else {root / name for name in names}
    return None


def _git(root: Path, *arguments: str) -> list[str] | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[:-1]


def in_files(faults: Iterable[Fault], files: set[Path]) -> list[Fault]:
    codes = [(fault, function.__code__) for fault in faults for function in fault.codes]
    return [fault for fault, code in codes if Path(code.co_filename).resolve() in files]


def test_faults_in_what_has_changed_are_caught(monkeypatch):
    """Where nothing has changed, faults in the files of two rules."""
    monkeypatch.setattr(packing, "SMALL", 100)
    monkeypatch.setattr(packing, "CHUNK", 100)
    files = changed() or set()
    modules = [m for m in ARITHMETIC if Path(str(m.__file__)).resolve() in files]
    modules = modules or [import_module(rule.__module__) for rule in representatives()[::7]]
    most = math.ceil(IN_TEST / len(modules))
    counted = [judge(spread(faults_of(module), most), *users(module)) for module in modules]
    assert any(found["caught"] for found in counted) or not any(map(faults_of, modules))


def test_faults_in_an_adapter_that_has_changed_are_caught(backend, monkeypatch):
    """Where none has changed, some faults in all, but not where it would have to be compiled."""
    files = changed() or set()
    adapter = Path(str(import_module(type(backend).__module__).__file__)).resolve().parent
    if backend.slow and adapter not in {path.parent for path in files}:
        return
    monkeypatch.setattr(packing, "SMALL", 100)
    monkeypatch.setattr(packing, "CHUNK", 100)
    faults = faults_on(backend)
    judge(spread(in_files(faults, files) or faults, 5 if backend.slow else 10), running(backend))


def test_a_blind_suite_is_noticed():
    """With a check that never fails a fault survives, and one that no run reaches is not caught."""
    (fault, *_) = faults_of(import_module(samestep.Lion.__module__))
    run = runs(samestep.Lion)[0]
    assert run.shows(fault) == "caught"
    blind = InNumPy(run.rule)
    assert blind.sound()
    blind.allowed = [math.inf] * len(blind.allowed)
    assert blind.shows(fault) == "survives"
    (function,) = fault.codes
    assert run.shows(Fault("none", {function: function.__code__})) == "equivalent"


def test_faults_in_how_parameters_are_kept_are_caught():
    """In stacks of two axes with outputs last: of a rule of matrices, of axes, of one number."""
    tried = runs_of_keeping([typical(registry[name]) for name in ("Muon", "SM3", "TAdam")])
    faults = faults_of_keeping(tried)
    counted = judge(faults, tried)
    assert counted["caught"] >= len(faults) / 3


def on_pieces(*names: str) -> list[OnPieces]:
    found = [OnPieces(typical(registry[name])) for name in names]
    assert all(run.agrees() for run in found)
    return found


def test_faults_that_people_make_in_placement_are_caught():
    tried = on_pieces("Adafactor", "Muon")
    for fault in faults_of_people():
        assert any(run.shows(fault) == "caught" for run in tried), fault.name


@pytest.mark.thorough
def test_faults_in_placement_are_caught():
    """In sums over all and along axes, matrices, and a count in a slot."""
    tried = on_pieces("NAdam", "LAMB", "Adafactor", "Muon")
    tried.append(OnPieces(typical(registry["Adafactor"]), long=0))
    faults = faults_of_placement(tried)
    assert judge(faults, tried)["caught"] >= len(faults) / 3
