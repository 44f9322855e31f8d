"""Failures of the shared checks say what they compared."""

import pytest

pytest.register_assert_rewrite("tests.bad_input.case", "tests.bad_input.invariants", "tests.bad_input.watch")
