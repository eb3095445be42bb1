"""How properties are tried, and where a run keeps what it learns of builds.

A slow machine is no failure, so no example has a deadline. In continuous integration the same
examples are tried every time, so that a change is judged by what it changed; on a developer's
machine they are new each time, and what they find stays in `.hypothesis/`.

A run has a cache of layouts of its own, shared by its workers: the user's may be of another state
of the code, whose answers would be tested then.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

CACHE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the cache, once: workers inherit the controller's environment."""
    # A shell ignores it for what runs in the background, and so would the programs under test.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[CACHE] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vringcore-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)
