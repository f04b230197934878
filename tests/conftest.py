"""What all tests share: Python's cyclic garbage collector looks at what tests make, and not at what they import.

accelerate collects garbage at the end of every training. With torch, TRL, vLLM and lm-eval imported that reads some
million objects that never go away, 0.7 to 2 s each time; frozen, they are left out.
"""

import gc
import sys

import pytest

NEW_MODULES = 200  # of a heavy library; a collection before each freeze keeps garbage from being kept for good

_seen = [0]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if len(sys.modules) >= _seen[0] + NEW_MODULES:
        gc.collect()
        gc.freeze()
        _seen[0] = len(sys.modules)
