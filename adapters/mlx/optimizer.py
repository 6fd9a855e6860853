"""A rule as an ``mlx.optimizers.Optimizer``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import mlx.core as xp
import mlx.optimizers
from mlx.utils import tree_map, tree_map_with_path
from samestep import packing
from samestep import step as stepping
from samestep.arrays import known, listed
from samestep.checkpoints.processes import Processes
from samestep.checkpoints.state import Checkpoint
from samestep.checks import check_shared, refuse_lacking
from samestep.counts import MOST, advanced, refuse_count, split, standing, withheld
from samestep.execution import EXECUTIONS, Execution, checked, say
from samestep.kept import rule_of
from samestep.matching import warn_unmatched
from samestep.products import float32_products, multiplies
from samestep.renumbering import at_rate
from samestep.rule import Rule
from samestep.steady import refuse_changed

from . import checkpoint as checkpoints
from .compiling import as_arrays, compiled
from .missing import OWN, Seen, begun, counter, label, late
from .sharded import processes_of
from .shards import Shards, telling
from .trees import leaves

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]


class RuleOptimizer(mlx.optimizers.Optimizer):
    """A rule as an ``mlx.optimizers.Optimizer``; see ``bind``."""

    def __init__(
        self, rule: Rule, *, execution: Execution = "auto", group: Any = None, shards: Any = None
    ) -> None:
        checked(rule, execution)
        super().__init__()  # type: ignore[no-untyped-call]
        self.rule = rule
        self.execution = execution
        self._shards = Shards(rule, group, shards)
        self._said = ""
        self._seen = Seen()
        self._on_host: dict[str, tuple[xp.array, float]] = {}
        if self._has_rate:
            self._show_learning_rate(rule.at(0).hypers["lr"], xp.float32)

    def __repr__(self) -> str:
        return f"samestep.mlx.bind({self.current.full_repr})"

    @property
    def learning_rate(self) -> xp.array:
        """The learning rate: an array in ``state``, in float32 unless parameters are float64.

        With a schedule it is the rate of the last step, as in MLX's own optimizers. A number that
        is set during training is used exactly, but the array is rounded. If the state is saved
        without ``samestep.save``, which keeps the number, set the number again after loading.

        Raises:
            AttributeError: parameters have several rules, so there is not one learning rate.
        """
        if not self._has_rate:
            raise self._several("learning_rate")
        return self._array("learning_rate")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        rule = self.rule.replace(lr=known(value))
        self._show_learning_rate(rule.at(self._value("step")).hypers["lr"])
        self.rule = rule

    @property
    def _has_rate(self) -> bool:
        return "lr" in self.rule.hypers

    @property
    def steps_taken(self) -> int:
        """Steps taken so far."""
        count: Any = self._array("step").item()
        return int(count)

    @property
    def current(self) -> Rule:
        """The rule with the current learning rate."""
        fixed = self._has_rate and not callable(self.rule.hypers["lr"])
        return self.rule.replace(lr=self._value("learning_rate")) if fixed else self.rule

    def checkpoint(self, params: Any = None) -> Checkpoint:
        """State and parameters of a model or a tree, without copies.

        ``samestep.checkpoint`` makes a checkpoint that later steps do not change.

        Raises:
            TypeError: the model is missing; MLX's optimizers do not know their parameters.
        """
        return checkpoints.taken(self, params)

    def restore(self, checkpoint: Checkpoint, params: Any = None) -> Any:
        """Take the state of a checkpoint; a model is changed in place, a tree is returned.

        Raises:
            TypeError: the model is missing; MLX's optimizers do not know their parameters.
        """
        return checkpoints.restore(self, checkpoint, params)

    def _processes(self, params: Any) -> Processes | None:
        """The ranks, if they may have pieces of the parameters; all save and load together."""
        return processes_of(self._shards.group) if self._shards.divides else None

    def resume(self, rule: Rule, step: int, state: Any, shared: dict[str, Any]) -> None:
        """Continue with this rule and state after ``step`` steps."""
        own = {name: self.state[name] for name in OWN if name in self.state}
        self.rule = rule
        self._seen.of = None
        self.state.clear()  # and not made anew, since mx.compile may have captured it
        self.state.update({**own, **state, **({"shared_state": shared} if shared else {})})
        self._store("step", step, xp.array(step, self.state["step"].dtype))
        if self._has_rate:
            now = standing(rule, shared).at(max(step - 1, 0))
            self._show_learning_rate(now.hypers["lr"])

    @telling
    def init(self, parameters: Any) -> None:
        """Make the state of every parameter in a tree; existing state is unchanged."""
        state, arrays = self._begun(parameters), dict(leaves(parameters))
        shared = late(self, arrays, self._value("step"), state.get("shared_state", {}))
        self.state.update(state | ({"shared_state": shared} if shared else {}))

    def init_single(self, parameter: xp.array, state: dict[str, Any]) -> None:
        """Make the state of one parameter whose path is unknown."""
        state.update(stepping.init_slots(rule_of(self.rule, "", parameter), xp, parameter))

    def _begun(self, parameters: Any) -> dict[str, Any]:
        """The state in which every parameter in a tree has its own."""
        if not isinstance(parameters, dict):
            raise TypeError(
                f"{self.rule.name}: the parameters are {type(parameters).__name__}; MLX keeps "
                "state by name, so they must be a Module or a dict"
            )
        for name in {"step", "learning_rate"} & self.state.keys():
            self._array(name)
        named = leaves(parameters)
        for path, parameter in named:
            self._check_parameter(path, parameter)
        arrays = [parameter for _, parameter in named]
        if not self.state.keys() - {*OWN}:
            warn_unmatched(self.rule, [(path, parameter.shape) for path, parameter in named])
        for name in filter(parameters.__contains__, OWN):
            for path, _ in leaves({name: parameters[name]}):
                raise ValueError(
                    f"{self.rule.name}: parameter {path!r} would share the name {name!r} with "
                    "an entry of the optimizer's state; rename it, or put the parameters one "
                    "level deeper"
                )
        own = {name: child for name, child in parameters.items() if name not in OWN}
        self._shards.meet(dict(named))
        state: dict[str, Any] = self._grown(self.state, own)
        wide = any(array.dtype == xp.float64 for array in arrays)
        if self._has_rate and wide and self.learning_rate.dtype != xp.float64:
            state["learning_rate"] = xp.array(self._value("learning_rate"), xp.float64)
        shared = state.get("shared_state", {})
        lacks = self.rule.shared().keys() - shared.keys() if arrays else ()
        if lacks:
            if begun(self):
                check_shared(self.rule, split(shared)[0])
            state["shared_state"] = shared | stepping.init_shared(self.rule, xp, arrays)
        return state

    def _check_parameter(self, path: str, parameter: Any) -> None:
        if not isinstance(parameter, xp.array):
            raise TypeError(
                f"{self.rule.name}: parameter {path!r} is {type(parameter).__name__}; it must "
                "be an mlx.core.array"
            )
        stepping.check(rule_of(self.rule, path, parameter), xp, path, parameter)

    def _grown(self, state: Any, parameters: Any, path: str = "") -> Any:
        """A tree of states with slots for these parameters; other states in it are unchanged."""
        many = isinstance(parameters, (list, tuple))
        fits = isinstance(state, (list, tuple) if many else dict)
        if not fits and not (isinstance(state, dict) and not state):
            raise ValueError(
                f"{self.rule.name}: the state of {path!r} is {type(state).__name__}, where "
                f"{'a list' if many else 'a dict'} belongs; was it made for other parameters?"
            )
        if isinstance(parameters, xp.array):
            if not state:
                own = rule_of(self.rule, path, parameters)
                if own.slots() and xp.default_device() != xp.Device(xp.cpu):
                    refuse_lacking(own, path, parameters.dtype, "the GPU", ("float64",))
                state = stepping.init_slots(own, xp, parameters, self._shards.of(path))
                self._seen.of = None if state else self._seen.of  # its count begins anew too
            return state
        if many:
            grown: Any = [*state, *({} for _ in parameters[len(state) :])]
        else:
            grown = {**state, **{name: {} for name in parameters if name not in state}}
        for name, child in enumerate(parameters) if many else parameters.items():
            grown[name] = self._grown(grown[name], child, f"{path}.{name}" if path else str(name))
        return grown

    @telling
    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """The parameters after one step, in a tree shaped like the gradients.

        Args:
            gradients: a tree of arrays.
            parameters: a tree with at least the parameters of the gradients.
        """
        arrays, given = dict(leaves(parameters)), leaves(gradients)
        for path, grad in given:
            self._check(path, grad, arrays.get(path))
        state = self._begun(tree_map(lambda _, parameter: parameter, gradients, parameters))
        gradients = {n: g for n, g in gradients.items() if n not in OWN}  # nothing is below these
        step = self._value("step")
        host = not isinstance(step, xp.array)
        if not host:  # MLX counts in an unsigned type, where 0 - 1 is not -1
            step = step.astype(xp.int64)
        common, missed = split(state.get("shared_state", {}))
        paths = [path for path, _ in given if path.partition(".")[0] not in OWN]
        histories, missed = self._seen.histories(self, paths, arrays, step, common, missed)
        steps = None if histories is None else histories.steps(xp, step, missed)
        rate = self._learning_rate(step, common) if self._has_rate else None
        rule = self.rule if rate is None else at_rate(self.rule, rate)
        entries: list[stepping.Entry] = []

        def enter(path: str, grad: Any, param: Any, state: dict[str, Any]) -> int:
            own = rule_of(rule, path, param)
            count = step if steps is None else steps(label(path))
            piece = self._shards.of(path)
            entry = stepping.entry(own, xp, path, count, grad, param, state, piece)
            entries.append(entry._replace(copies=self._shards.copies(own, path)))
            return len(entries) - 1

        places = tree_map_with_path(enter, gradients, parameters, state)
        execution = self._chosen(traced=not host)
        run: Any = stepping.run if execution == "reference" else packing.run
        executor = (compiled, as_arrays) if execution == "compiled" else ()
        with float32_products(xp) if multiplies(rule) else nullcontext():
            exchange = self._shards.exchange(paths, rule, step)
            computed, shared = run(xp, entries, common, *executor, exchange=exchange)
            results = list(computed)
        self.state.update(state)
        new_params = [param for param, _ in results]
        for entry, (_, slots) in zip(entries, results, strict=True):
            entry.slots.update(slots)
        if histories is not None:
            counted = step, advanced(step)
            shared = shared | histories.later(xp, missed, counted, (common, shared), counter)
        if shared:
            self.state["shared_state"] = shared
        self._seen.left(shared, traced=not host)
        if callable(self.rule.hypers.get("lr")):
            self._show_learning_rate(rule.hypers["lr"])
        calls = self.state["step"]
        later = calls + 1 if host and step < MOST else advanced(calls)
        self._store("step", step + 1 if host and step < MOST else known(later), later)
        return tree_map(lambda place: new_params[place], places)

    def _chosen(self, traced: bool) -> str:
        """The execution; ``auto`` is ``compiled``, unless the whole step is compiled already."""
        if self.execution != "auto":
            return self.execution
        execution, reason = (
            ("reference", "mx.compile has the whole step")
            if traced
            else ("compiled", "mx.compile takes a moment, at the first step")
        )
        if self._said != execution:
            self._said = execution
            say(self.rule.name, execution, reason)
        return execution

    def _check(self, path: str, grad: Any, parameter: Any) -> None:
        """Raise if a gradient is not an array, or has no parameter."""
        if not isinstance(grad, xp.array):
            raise TypeError(
                f"{self.rule.name}: the gradient of parameter {path!r} is {type(grad).__name__}; "
                "it must be an mlx.core.array, or be left out"
            )
        if not isinstance(parameter, xp.array):
            raise ValueError(
                f"{self.rule.name}: there is a gradient for {path or 'a single array'!r} and no "
                "such parameter"
            )

    def _learning_rate(self, step: Any, common: dict[str, Any]) -> Any:
        """The learning rate of this step: a number, or a traced array."""
        if callable(self.rule.hypers["lr"]):
            held = withheld(xp, self.rule, common, step)
            return self.rule.withholding(held).at(step).hypers["lr"]
        return self._value("learning_rate")

    def _show_learning_rate(self, lr: Any, dtype: xp.Dtype | None = None) -> None:
        self._store("learning_rate", lr, xp.array(lr, dtype or self.learning_rate.dtype))

    def _store(self, name: str, value: Any, array: xp.array) -> None:
        """Put an array into the state, and remember its exact value if that is known."""
        self.state[name] = array
        if not isinstance(value, xp.array):
            self._on_host[name] = (array, value)

    def _value(self, name: str) -> Any:
        """The exact value of a state array if it is known, the array itself if it is traced."""
        array = self._array(name)
        held, value = self._on_host.get(name, (None, None))
        if held is not array:
            if name == "step":
                refuse_count(self.rule, array)
                self._seen.refuse_stale(self)
            value = known(array)
            exact: Any = self.rule.hypers.get("lr")
            same = isinstance(value, float) and isinstance(exact, float)
            if name == "learning_rate" and same and xp.array(exact, array.dtype).item() == value:
                value = exact  # what a state that was saved and loaded has been rounded from
            self._store(name, value, array)
        return value

    def _array(self, name: str) -> xp.array:
        """An array of the state; a number that was put in its place becomes one."""
        if name not in self.state:
            raise ValueError(
                f"{self.rule.name}: the state has no {name}; it has {listed(self.state)}"
            )
        if not isinstance(held := self.state[name], xp.array):
            self.state[name] = array = self._as_array(name, known(held))
            if name != "step":  # which is checked where it is read
                self._on_host[name] = array, known(held)
        found: xp.array = self.state[name]
        return found

    def _as_array(self, name: str, number: Any) -> xp.array:
        if name == "step":
            refuse_count(self.rule, number)
            return xp.array(number, xp.uint64)
        rate: Any = self.rule.all_fields()["lr"]
        lr = rate.validated(self.rule.name, number, schedules=False)
        return xp.array(lr, self._on_host[name][0].dtype if name in self._on_host else xp.float32)

    def _several(self, name: str) -> AttributeError:
        return AttributeError(
            f"{self.rule.name}: parameters have several rules, each with its own {name}; give it "
            "to those, as a schedule if it changes"
        )

    def _has_several(self, name: str) -> bool:
        """Whether a hyperparameter belongs to the rules inside, not to the rule."""
        own = "lr" if name == "learning_rate" else name
        inside = (rule.hypers for rule in self.rule.branches)
        return own not in self.rule.hypers and any(own in hypers for hypers in inside)

    def __getattr__(self, name: str) -> Any:
        if "rule" in self.__dict__ and self._has_several(name):
            raise self._several(name)
        hypers = self.__dict__["rule"].hypers if "rule" in self.__dict__ else {}
        if name in hypers:
            return self._value("learning_rate") if name == "lr" else hypers[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("like", "mask", "groups"):
            raise AttributeError(
                f"{self.rule.name}: {name} is fixed when an optimizer is made; give it to the "
                f"constructor, or bind rule.replace({name}=...)"
            )
        if "rule" in self.__dict__ and self._has_several(name):
            raise self._several(name)
        if name == "state":
            self._seen.of = None
        if name == "lr":
            self.learning_rate = value
        elif "rule" in self.__dict__ and name in self.rule.hypers:
            new = self.rule.replace(**{name: value})
            refuse_changed(self.rule if self.steps_taken else new, new)
            self.rule = new
        else:
            super().__setattr__(name, value)


def bind(
    rule: Rule, *, execution: Execution = "auto", group: Any = None, shards: Any = None
) -> RuleOptimizer:
    """Any rule object, also a user's or a wrapped rule, as an MLX optimizer.

    Args:
        rule: the rule.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            parameters, ``"compiled"`` does so through ``mx.compile``; ``"auto"`` is ``"compiled"``,
            unless the whole step is compiled already.
        group: the ranks among which parameters are divided, as ``mx.distributed.init()`` returns.
        shards: the axis along which every parameter is divided, or pairs of a predicate and an
            axis, of which the first that chooses a parameter counts:
            ``[(Where(path="*.up.weight"), 0)]``. Other parameters are whole on every rank.
    """
    return RuleOptimizer(rule, execution=execution, group=group, shards=shards)
