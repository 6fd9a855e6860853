"""The conformance suite, and what is built on every framework at once.

``pytest --pyargs samestep.conformance`` runs the suite on this machine.
"""
