"""The demonstration: one network trained with one rule in every framework, measured step by step.

``samestep demo`` runs it; it needs ``pip install "samestep[demo]"``.
"""
