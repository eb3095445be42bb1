"""``python -m vringcore``."""

from __future__ import annotations

from vringcore.cli.entry import entry

entry()
