"""How properties are tried.

A slow machine is no failure, so no example has a deadline. In continuous integration the same
examples are tried every time, so that a change is judged by what it changed; on a developer's
machine they are new each time, and what they find stays in `.hypothesis/`.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
