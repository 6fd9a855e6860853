"""A recorded run, recomputed: are its steps the steps of its rule?

    found = replay([read("run.safetensors")])  # read is samestep.recording's
    found.verdict        "agree", "departs"
    found.sentences      where it departs, and whether a resume was exact

``against`` compares two recordings of the same run: did the gradients differ first, or the
optimizer?
"""

from .findings import Departure, Replay
from .replaying import replay
from .resuming import Resume
from .rules import Asked
from .two_runs import Against, against

__all__ = ["Against", "Asked", "Departure", "Replay", "Resume", "against", "replay"]
