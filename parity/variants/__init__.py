"""Variants of a rule: other options and numbers, quirks of libraries, and common mistakes."""
