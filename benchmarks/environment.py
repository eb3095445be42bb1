"""An environment as a user has it: the package, what it needs at run time, and nothing else.

A development environment has more in it, and more costs time: msgspec imports typing_extensions
wherever it is installed, which alone takes as long as the whole analysis.
"""

from __future__ import annotations

import compileall
import importlib.util
import shutil
import stat
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SCRIPT = """#!{python}
import sys
from vringcore.cli.entry import entry
if __name__ == "__main__":
    sys.exit(entry())
"""


def make_environment(directory: Path) -> Path:
    """Make a virtual environment with vringcore in it and return its `vringcore` script.

    As pip does it: the packages are copied, and compiled there. They come from this checkout and
    this interpreter's environment, so no network is needed.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    site = next((directory / "lib").glob("python*/site-packages"))
    needed = [importlib.util.find_spec(name) for name in ("msgspec", "rich")]
    origins = [Path(spec.origin).parent for spec in needed if spec is not None and spec.origin]
    for package in (ROOT / "vringcore", *origins):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, site / package.name, ignore=ignored)
    compileall.compile_dir(site, quiet=2, workers=0)
    script = directory / "bin" / "vringcore"
    script.write_text(_SCRIPT.format(python=directory / "bin" / "python"))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return script
