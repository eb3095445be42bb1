"""``python -m vringcore``."""

from __future__ import annotations

import sys

from vringcore.cli.main import entry

sys.exit(entry())
