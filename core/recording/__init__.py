"""A real run on disk, and recomputed: does it do what its rule says?

with samestep.torch.recorder("run.safetensors", optimizer, model=model):
    train()

found = replay([read("run.safetensors")])
found.verdict        "agree", "departs"
found.sentences      where it departs, and whether a resume was exact
"""

from .against import Against, against
from .chosen import Group
from .findings import Departure, Replay
from .reading import Recording, Session, Step, read
from .recorder import Recorder
from .replaying import replay
from .resuming import Resume
from .rules import Asked
from .spool import RecordingError

__all__ = [
    "Against",
    "Asked",
    "Departure",
    "Group",
    "Recorder",
    "Recording",
    "RecordingError",
    "Replay",
    "Resume",
    "Session",
    "Step",
    "against",
    "read",
    "replay",
]
