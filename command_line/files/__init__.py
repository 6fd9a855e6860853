"""``samestep inspect`` and ``samestep convert``: files of optimizer states on the command line."""
