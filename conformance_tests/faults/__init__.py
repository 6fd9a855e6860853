"""Faults planted in the code, which the suite and the diagnosis have to find."""
