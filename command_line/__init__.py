"""The commands of ``samestep``."""
