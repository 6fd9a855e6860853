"""Trainings go on from the states that earlier versions have written."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.checkpoints.description import describe, differing_options
from tests.checkpoint.aged_states import AFTER, AGED, CASES, FORMS, flat, shaped

NEEDS = {"msgpack": "flax", "orbax.tar.gz": "orbax.checkpoint"}
NAMES = ("pt", "safetensors")
"""Formats with names of options; the others have arrays only: one version stands for all."""
LAST = "cb080e5"
WRITTEN = [
    pytest.param(
        path,
        id=f"{path.parent.name}-{path.name}",
        marks=()
        if path.parent.name == LAST or path.name.split(".", 1)[1] in NAMES
        else pytest.mark.thorough,
    )
    for path in sorted(AGED.glob("*/*"))
    if path.name != "parameters.npz"
]


@pytest.mark.parametrize("path", WRITTEN)
def test_a_state_of_an_earlier_version_goes_on_as_it_did_there(path):
    name, suffix = path.name.split(".", 1)
    if suffix in NEEDS:
        pytest.importorskip(NEEDS[suffix])
    with numpy.load(path.parent / "parameters.npz") as values:
        before, after = values[path.name]
    case = CASES[name]
    training = FORMS[suffix](case, shaped(case, before))
    training.read(path)
    training.train(AFTER)
    numpy.testing.assert_allclose(flat(case, training.params()), after, rtol=2e-5, atol=1e-6)


def test_an_option_that_came_later_has_its_default_in_a_file():
    described = describe(samestep.AdamW())
    del described["values"]["amsgrad"]
    assert differing_options(samestep.AdamW(), described) == []
    words = differing_options(samestep.AdamW(amsgrad=True), described)
    assert words == ["amsgrad is True here and False there"]
