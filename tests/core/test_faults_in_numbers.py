"""Faults planted in how a rule gets its numbers, by schedule and by group, are caught by tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import samestep
from samestep.conformance.faults.behaviour import SHAPES, Outcome, Run, bits, judged, snapshot
from samestep.conformance.faults.mechanical import faults_in
from samestep.conformance.faults.mutation import Fault, entered, planted
from samestep.conformance.harness.reference import recorded
from samestep.conformance.rules import test_groups as every
from samestep.parity.backend import NUMPY
from tests.core import test_groups, test_schedules


class WithGroups(Run):
    """Rules with schedules, masks and groups, for which there are checks of their own.

    Args:
        checks: tests, each with its arguments.
    """

    def __init__(self, checks: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
        self.checks = checks
        self.functions = entered(self._found)
        self.found = self._found()

    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""
        with planted(fault):
            try:
                if self._found() == self.found:
                    return "equivalent"
                for check, arguments in self.checks:
                    check(*arguments)
            except Exception:  # a test of the suite that raises anything fails
                return "caught"
        return "survives"

    def _found(self) -> list[Any]:
        def falling(step: Any) -> Any:
            return 0.01 * 0.5**step

        matrices = [(lambda parameter: parameter.ndim > 1, {"lr": 0.1, "weight_decay": 0.3})]
        values: Any = {"mask": lambda parameter: parameter.ndim != 1, "weight_decay": 0.1}
        made = [
            samestep.AdamW(lr=falling, groups=matrices, **values),
            samestep.Lookahead(samestep.AdamW(groups=matrices), groups=[(matrices[0][0], {})]),
            samestep.AdEMAMix(alpha=falling, betas=(0.9, 0.99, falling), slow_start=2, **values),
        ]
        found = []
        for rule in made:
            trajectory = recorded(rule, 4, SHAPES)
            params: Any = trajectory.params
            state = rule.init(params)
            for grads in trajectory.grads:
                params, state = rule.update(grads, params, state)
                found += bits([snapshot(params, state)])
        return found


WIRING = ("at", "of", "schedule_step", "place", "applied", "_resolved")
"""Methods by which a rule gets its numbers: from schedules, and from groups."""


def test_faults_in_how_a_rule_gets_its_numbers_are_caught():
    checks = [
        (every.test_every_rule_gives_each_parameter_its_group_s_numbers, (samestep.AdamW,)),
        (every.test_a_mask_switches_every_family_of_decay_off, (samestep.AdamW,)),
        (test_schedules.test_a_traced_step_gives_the_rule_the_same_schedule, ()),
        (test_groups.test_a_parameter_of_several_groups_takes_the_first, (NUMPY,)),
        (test_groups.test_groups_of_a_wrapper_and_of_the_rule_inside_come_together, (NUMPY,)),
        (
            test_groups.test_slow_start_is_where_alpha_s_and_beta3_s_schedules_begin_and_no_other,
            (NUMPY, 3),
        ),
    ]
    run = WithGroups(checks)
    functions = [f for f in run.functions if f.__name__ in WIRING]
    assert {f.__name__ for f in functions} >= {"at", "of", "schedule_step", "place", "applied"}
    functions.sort(key=lambda function: function.__qualname__)
    found = {fault.name: judged(fault, [run])[0] for fault in faults_in(functions)}
    assert [name for name, outcome in found.items() if outcome == "survives"] == []
    assert [*found.values()].count("caught") >= 10
