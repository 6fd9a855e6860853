"""Variants of a rule: its options and numbers changed, and what people get wrong beside them."""
