"""The comparisons of ``samestep parity``, and their reports."""
