"""A recorded run, recomputed in NumPy: the steps at which it departs from the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from samestep.checkpoints.state import Checkpoint
from samestep.recording.reading import Recording, Session, Step, stretch_of
from samestep.recording.spool import RecordingError
from samestep.rule import Rule
from samestep.step import check_slots

from .findings import Departure, Replay, Row
from .gaps import lost, short
from .judging import Bound, Judge, Judgement, finite
from .numbers import Numbers
from .reasons import instead
from .resuming import Resume, continues, same_bits, went_on
from .rules import Asked, Rules
from .states import End
from .stepper import Machine, Values, values_of
from .trials import Pair, fits, trials

__all__ = ["replay"]

SOON = 3
"""A run that never followed its rule departs within this many steps."""


def replay(
    recordings: Sequence[Recording], asked: Asked | None = None, bound: Bound | None = None
) -> Replay:
    """Recompute recorded runs, each of which continues the one before it.

    Args:
        recordings: one recording, or several in their order.
        asked: the rule; by default the rule in the recording.
        bound: how far a step may be off; by default as far as rounding explains.

    Raises:
        RecordingError: no step can be recomputed; the message has the reason.
    """
    run = _Run(recordings, asked or Asked(), bound or Bound())
    offset = 0
    for one in recordings:
        for session in one.sessions:
            offset = run.session(one.path, session, offset)
    if not run.found.steps:
        raise RecordingError(
            f"{recordings[0].path}: no step can be judged: {run.found.unchecked[0][2]}"
            if run.found.unchecked
            else f"{recordings[0].path}: there is no step in it"
        )
    run.found.departures.sort(key=lambda departure: (departure.step, -departure.relative))
    run.explain(recordings)
    return run.found


class _Run:
    """The state of a running recomputation."""

    def __init__(self, recordings: Sequence[Recording], asked: Asked, bound: Bound) -> None:
        steps = [step for one in recordings for step in one.steps]
        if not steps:
            raise RecordingError(f"{recordings[0].path}: there is no step in it")
        self.rules, self.bound = Rules(asked, recordings), bound
        self.dtypes = {n: t.dtype for step in steps for n, t in step.before.items()}
        run = recordings[0].sessions[0].run
        self.found = Replay(
            [one.path for one in recordings],
            recordings[0].optimizer,
            self.rules.shown(steps[0], str(run.get("framework", ""))),
            bound,
        )
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        """The shape of each parameter, and the file in which it was first seen."""
        self.judge = Judge(bound, self.dtypes)
        self.numbers = Numbers()
        self.pair: Pair | None = None
        self.earlier: Pair | None = None
        """The states before the last step."""
        self.last: Step | None = None
        self.firsts = {s.steps[0].number for o in recordings for s in o.sessions if s.steps}
        self.kept: dict[int, End] = {}
        """By step, the end from which a later session may resume."""
        self.unjudged: list[str] = []
        """Parameters whose state is not known in this stretch."""
        self.free: Pair | None = None
        self.free_params: list[Values] = [{}, {}]

    def session(self, path: str, session: Session, offset: int) -> int:
        """Recompute one session; returns the number of the next step."""
        steps = session.steps
        if not steps:
            return offset
        if offset and steps[0].number == 0:  # the process counts from 0 again
            steps = [replace(step, number=step.number + offset) for step in steps]
        each = session.run.get("counts") == "each"
        for place, step in enumerate(steps):
            rules = self.rules.of(step)
            self._refuse_parts(session, rules)
            self._refuse_shapes(path, step, rules)
            if place == 0 or step.begins:
                self._begin(path, steps, place, rules, each)
            elif self.last is not None:
                self._between(self.last, step)
            self.numbers.note(step.number, rules)
            self.found.discarded += step.discarded
            self._finite(step, rules)
            if self.pair is None:
                continue
            self._step(steps, place, rules)
            self.last = step
            if step.number + 1 in self.firsts:
                self.kept[step.number + 1] = self._end()
        return steps[-1].number + 1

    def explain(self, recordings: Sequence[Recording]) -> None:
        """Explain a run that departs in its first steps."""
        session = recordings[0].sessions[0]
        stretch = stretch_of(session.steps, 0)
        first = self.found.first
        soon = first is not None and not first.why and first.step <= stretch[0].number + SOON
        if soon and stretch[0].fresh:
            each = session.run.get("counts") == "each"
            self.found.instead = instead(stretch, self.rules, self.bound, each)

    def _refuse_parts(self, session: Session, rules: dict[str, Rule]) -> None:
        """Raise if the rule sums over all parameters and some are not recorded."""
        total = session.run.get("parameters", len(rules))
        summing = next((rule.name for rule in rules.values() if rule.phases), None)
        if summing is not None and len(rules) < total:
            raise RecordingError(
                f"{summing} sums over all parameters, of which {len(rules)} of {total} are "
                "recorded; record all of them"
            )

    def _refuse_shapes(self, path: str, step: Step, rules: dict[str, Rule]) -> None:
        """Raise if a parameter has changed its shape, or has one that its rule does not take."""
        for name, tensor in step.before.items():
            if len(tensor.shape) < rules[name].min_ndim:
                raise RecordingError(
                    f"{path}: {rules[name].name} takes no parameter such as {name} of shape "
                    f"{tensor.shape}; record those that it steps, with parameters="
                )
            shape, where = self.shapes.setdefault(name, (tensor.shape, path))
            if tensor.shape != shape:
                raise RecordingError(
                    f"{path}: {name} has shape {tensor.shape}, and had {shape} in {where}"
                )

    def _begin(
        self, path: str, steps: list[Step], place: int, rules: dict[str, Rule], each: bool
    ) -> None:
        """Take the state at the beginning of a stretch."""
        step, params = steps[place], values_of(steps[place].before)
        self.unjudged = []
        if self.last is not None and self.pair is not None:
            self.kept.setdefault(self.last.number + 1, self._end())
        if place == 0 and step.number in self.kept:
            end, stretch = self.kept[step.number], stretch_of(steps, place)
            others = self.numbers.apart(stretch, self.rules)
            try:
                resume, self.pair = went_on(end, stretch, path, self.rules, others)
            except ValueError as error:
                raise RecordingError(
                    f"{path} does not go on where the part before it ends: {error}"
                ) from None
            self.judge, self.unjudged = end.judge, resume.unjudged
            self.found.resumes.append(resume)
            if {*params} == {*self.unjudged}:
                self._take(steps, place, rules, each, params)
        else:
            if place == 0 and self.last is not None and step.number > self.last.number + 1:
                gap = f"steps {self.last.number + 1} to {step.number - 1} are in no file"
                why = f"{gap}, so it cannot be judged how the run went on"
                self.found.resumes.append(Resume(step.number, path, False, [why], unknown=[why]))
            if place and self.last is not None and self.pair is not None:
                self._carried(self.last, step, rules)
            self._take(steps, place, rules, each, params)
        if self.pair is not None:
            self._free(params)

    def _carried(self, last: Step, step: Step, rules: Mapping[str, Rule]) -> None:
        """Note what the counts of a state tell of the steps before it that are not recorded."""
        assert self.pair is not None
        where = last.number, step.number
        self.found.between += step.number - last.number - 1
        words = lost(last, step, self.pair, rules)
        self.found.lost += [(*where, one) for one in words]
        if not words and (count := short(last, step, self.pair, rules)):
            self.found.uncounted.append((*where, count))

    def _end(self) -> End:
        assert self.last is not None and self.pair is not None and self.earlier is not None
        return End(self.last, self.pair.copy(), self.earlier, self.judge.copy())

    def _finite(self, step: Step, rules: Mapping[str, Rule]) -> None:
        """Note the first array that is not finite, and whether the parameters are."""
        kinds = (
            ("the parameter", step.before),
            ("the gradient of", step.grads),
            ("the new parameter", step.after),
        )
        if self.found.not_finite is None:
            bad = ((what, path) for what, own in kinds for path, t in own.items() if not finite(t))
            first = next(bad, None)
            if first is not None:
                self.found.not_finite = (step.number, *first)
                skips = all(rule.withheld is not None for rule in rules.values())
                self.found.skipped = skips and not _moves(step)
        if self.found.not_finite is not None:
            self.found.ends_finite = all(map(finite, step.after.values()))

    def _take(
        self,
        steps: list[Step],
        place: int,
        rules: dict[str, Rule],
        each: bool,
        params: Values,
    ) -> None:
        """Take the recorded state, or the first state if the run begins here."""
        step = steps[place]
        pair = Pair(*(Machine(wide, self.dtypes, each) for wide in (True, False)))
        stateless = not any(rule.slots() or rule.shared() for rule in rules.values())
        foreign = "" if step.state is None else _foreign(step.state, rules)
        known = step.fresh or (step.state is not None and not foreign) or stateless
        self.pair = pair if known else None
        if not known:
            why = f"the optimizer's state is not in the recording ({step.why or 'unknown'})"
            why = f"the recorded state is of another rule: {foreign}" if foreign else why
            last = stretch_of(steps, place)[-1].number
            self.found.unchecked.append((step.number, last, why))
            return
        for machine in pair:
            try:
                if step.state is not None and not foreign:
                    machine.take(step.state, rules, params)
                else:
                    machine.fresh(rules, params)
            except (KeyError, ValueError) as error:
                raise RecordingError(f"the state recorded at step {step.number}: {error}") from None
            if stateless and not step.fresh:
                machine.count = step.number
                machine.own = {n: o._replace(step=step.number) for n, o in machine.own.items()}
        self.judge = Judge(self.bound, self.dtypes)

    def _free(self, params: Values) -> None:
        """Begin whole runs of the rule from here."""
        assert self.pair is not None
        self.free = self.pair.copy()
        self.free_params = [dict(params), dict(params)]

    def _between(self, last: Step, step: Step) -> None:
        """Note parameters that something else has changed since the last step."""
        moved = [n for n in step.before if n in last.after and not continues(step, last, n)]
        if moved and self.pair is not None:
            self.found.changes.append((step.number, moved))
            for params in self.free_params:
                params.update(values_of({name: step.before[name] for name in moved}))

    def _step(self, steps: list[Step], place: int, rules: dict[str, Rule]) -> None:
        step = steps[place]
        grads, before, after = (values_of(part) for part in (step.grads, step.before, step.after))
        assert self.pair is not None and self.free is not None
        old, seen = self.pair.copy(), self.judge.copy()
        self.earlier = old
        computed = self.pair.step(rules, grads, before)
        judged: dict[str, Judgement] = {}
        for name in before:
            if name in self.unjudged:
                continue
            row = self._row(name, step)
            results = [one[name] for one in computed]
            judged[name] = self.judge.judged(name, rules[name], before[name], after[name], *results)
            row.steps += 1
            self.found.moved |= judged[name].tells
            row.ulp = max(row.ulp, judged[name].ulp)
        self._depart(steps, place, rules, old, seen, judged)
        worst = [max((own.ulp for own in judged.values()), default=0.0)]
        for at, machine in enumerate(self.free):
            params = {name: self.free_params[at].get(name, before[name]) for name in before}
            self.free_params[at] = machine.step(rules, grads, params)
            worst.append(self._apart(at, {name: after[name] for name in judged}))
        self.found.growth.append((step.number, *worst))  # type: ignore[arg-type]

    def _row(self, name: str, step: Step) -> Row:
        tensor = step.before[name]
        return self.found.rows.setdefault(name, Row(name, tensor.shape, tensor.dtype))

    def _apart(self, at: int, after: Values) -> float:
        """The distance of the recorded run from a whole run of the rule, in ULP."""
        worst = 0.0
        for name, value in after.items():
            own = self.judge.apart(name, value, self.free_params[at][name])
            row, where = self.found.rows[name], ("float64", "float32")[at]
            setattr(row, where, max(getattr(row, where), own))
            worst = max(worst, own)
        return worst

    def _depart(
        self,
        steps: list[Step],
        place: int,
        rules: dict[str, Rule],
        old: Pair,
        seen: Judge,
        judged: dict[str, Judgement],
    ) -> None:
        """Note the parameters that depart in a step, and the explanation."""
        step = steps[place]
        wrong = {name for name, own in judged.items() if not own.within}
        known = {departure.path for departure in self.found.departures}
        for name in wrong:
            self.found.rows[name].departing += 1
        why = self._why(steps, place, rules, old, seen, wrong - known)
        for name in sorted(wrong - known, key=list(judged).index):
            own = judged[name]
            self.found.departures.append(
                Departure(
                    step.number,
                    name,
                    own.ulp,
                    own.relative,
                    own.place,
                    own.recorded,
                    own.computed,
                    why.get(name, ""),
                )
            )
        for at, departure in enumerate(self.found.departures):
            if departure.path in wrong:
                self.found.departures[at] = replace(departure, until=step.number)

    def _why(
        self,
        steps: list[Step],
        place: int,
        rules: dict[str, Rule],
        old: Pair,
        seen: Judge,
        names: set[str],
    ) -> dict[str, str]:
        """The explanation of parameters that depart here first; they continue with that state."""
        step, found = steps[place], {}
        for name in names:
            if name not in step.grads:
                found[name] = "it has no gradient in this step, and has changed"
            elif same_bits(step.before[name], step.after[name]):
                found[name] = "it was not stepped"
        left = {name for name in names if name not in found}
        stretch = stretch_of(steps, place)
        params = values_of(step.before)
        for trial in trials(old, rules, params) if left else ():
            for name in fits(trial, stretch, self.rules, seen, left):
                found[name] = f"from here on as if {trial.says}"
                left.discard(name)
                if not trial.changes:
                    self._go_on(trial.pair, name, rules, step)
        return found

    def _go_on(self, pair: Pair, name: str, rules: dict[str, Rule], step: Step) -> None:
        """Continue a parameter with another state, whose first step is this one."""
        assert self.pair is not None
        alone = pair.copy()
        alone.step(rules, values_of(step.grads), values_of(step.before))
        for mine, theirs in zip(self.pair, alone, strict=True):
            mine.own[name] = theirs.own[name]


def _moves(step: Step) -> bool:
    """Whether a step changes a parameter."""
    return not all(same_bits(tensor, step.after[name]) for name, tensor in step.before.items())


def _foreign(state: Checkpoint, rules: Mapping[str, Rule]) -> str:
    """In words, how a recorded state is none of these rules; empty if it is theirs."""
    for name, own in state.parameters.items():
        if name in rules and own.slots is not None:
            try:
                check_slots(rules[name], name, own.slots, own.shape)
            except ValueError as error:
                return str(error)
    return ""
