"""Keras's own optimizers: the state that they keep, and how they are stepped.

There is no native class for Keras. Its optimizers are read, written and compared.
"""
