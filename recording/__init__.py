"""A real run on disk: gradients, parameters and hyperparameters of chosen steps.

    with samestep.torch.recorder("run.safetensors", optimizer, model=model):
        train()

    read("run.safetensors").sessions[0].steps  # arrays are read when they are used

``samestep.replay`` recomputes a recording.
"""

from .chosen import Group
from .reading import Recording, Session, Step, read
from .recorder import Recorder
from .spool import RecordingError

__all__ = ["Group", "Recorder", "Recording", "RecordingError", "Session", "Step", "read"]
