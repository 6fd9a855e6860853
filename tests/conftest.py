"""The project's own tests are collected as the suite is: with every rule, setting and backend."""

from samestep.conformance.conftest import (
    pytest_configure,
    pytest_generate_tests,
    pytest_runtest_call,
    pytest_runtest_teardown,
)

__all__ = [
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_call",
    "pytest_runtest_teardown",
]
