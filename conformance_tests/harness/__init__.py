"""The machinery of the suite: cases, bounds, references, measures."""
