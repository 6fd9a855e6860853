"""Subjects of a comparison: any optimizer, found by its name, that takes and gives NumPy arrays."""
