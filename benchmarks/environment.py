"""An environment as a user has it: the package, what it needs at run time, and nothing else.

A development environment has more in it, and more costs time: msgspec imports typing_extensions
wherever it is installed, which alone takes as long as the whole analysis.
"""

from __future__ import annotations

import importlib.util
import stat
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SCRIPT = """#!{python}
import re
import sys
from vringcore.cli.entry import entry
if __name__ == "__main__":
    sys.exit(entry())
"""


def make_environment(directory: Path) -> Path:
    """Make a virtual environment with vringcore in it and return its `vringcore` script.

    The packages are linked from this interpreter's environment, so no network is needed.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    site = next((directory / "lib").glob("python*/site-packages"))
    (site / "vringcore").symlink_to(ROOT / "vringcore")
    spec = importlib.util.find_spec("msgspec")
    assert spec is not None
    assert spec.origin is not None
    (site / "msgspec").symlink_to(Path(spec.origin).parent)
    script = directory / "bin" / "vringcore"
    script.write_text(_SCRIPT.format(python=directory / "bin" / "python"))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return script
