"""``samestep replay``: what a recorded run does, beside its rule or beside another run."""
