"""Trainings go on from the states that earlier versions have written."""

from __future__ import annotations

import pickle

import numpy
import pytest

import samestep
from samestep.checkpoints.description import describe, differing_options
from tests.checkpoint.aged_states import AFTER, AGED, CASES, FORMS, flat, shaped

NEEDS = {"msgpack": "flax", "orbax.tar.gz": "orbax.checkpoint"}
NAMES = ("pt", "pkl", "safetensors")
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


def test_an_option_with_another_name_now_is_read_from_a_pickle():
    rule = samestep.AdaptiveClip(samestep.SGD(lr=0.1), layout="io")
    make, given, state = rule.__reduce__()
    values = {"clipping": 0.01, "min_norm": 1e-3, "clip_layout": "io"}
    made = make(*given)
    made.__setstate__({**state, "_values": values})
    assert made == rule
    assert made.layout == "io"


def test_what_another_version_wrote_says_which(tmp_path, monkeypatch):
    """A file, and pickles of a rule and of an optimizer."""
    torch = pytest.importorskip("torch")
    rule, params = samestep.AdamW(), {"w": numpy.ones(3)}
    samestep.save(tmp_path / "x", rule, params, rule.init(params))
    optimizer = samestep.torch.bind(rule, [torch.ones(3)])
    pickled = [pickle.dumps(one) for one in (rule, optimizer)]
    note = f"samestep {samestep.__version__}"
    other = samestep.AdamW(amsgrad=True)
    with pytest.raises(ValueError, match=rf"amsgrad is True here .*written by {note}"):
        samestep.load(tmp_path / "x", other, params)
    monkeypatch.setattr(samestep.AdamW, "version", 2)
    with pytest.raises(ValueError, match=rf"of version 1 of AdamW, .* 2 here.*written by {note}"):
        samestep.load(tmp_path / "x", rule, params)
    for one in pickled:
        with pytest.raises(TypeError, match=rf"by {note}, .* version 1 of it .*at version 2"):
            pickle.loads(one)


def test_an_option_that_came_later_has_its_default_in_a_file():
    described = describe(samestep.AdamW())
    del described["values"]["amsgrad"]
    assert differing_options(samestep.AdamW(), described) == []
    words = differing_options(samestep.AdamW(amsgrad=True), described)
    assert words == ["amsgrad is True here and False there"]
