"""Debian packages: what the lab installs, downloads and unpacks."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

_ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
_SOURCE_LIST = Path("/etc/apt/sources.list.d/vringcore-lab.list")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEFAULT_ARCHIVE = "http://deb.debian.org/debian"


def install(*names: str) -> None:
    """Installs the packages that are not installed yet."""
    missing = [name for name in names if not _installed(name)]
    if missing:
        _apt("update")
        _apt("install", "--no-install-recommends", "-y", *missing)


def dependency_of(package: str, prefix: str) -> str:
    """The first dependency of `package` whose name starts with `prefix`."""
    shown = subprocess.run(
        ["apt-cache", "depends", package], check=True, capture_output=True, text=True
    )
    found = re.search(rf"Depends: ({re.escape(prefix)}\S+)", shown.stdout)
    if found is None:
        raise RuntimeError(f"{package} depends on nothing named {prefix}*")
    return found[1]


def extract(package: str, target: Path) -> None:
    """Unpacks a binary package into `target` without installing it."""
    with tempfile.TemporaryDirectory() as scratch:
        _apt("download", package, cwd=Path(scratch))
        archive = next(Path(scratch).glob("*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)


def fetch_source(package: str, suite: str, target: Path) -> Path:
    """Unpacks a source package of a suite below `target`; returns its directory."""
    _offer_sources()
    target.mkdir(parents=True, exist_ok=True)
    _apt("source", f"{package}/{suite}", cwd=target)
    return next(path for path in target.iterdir() if path.is_dir())


def _offer_sources() -> None:
    archive = _configured_archive()
    lines = [
        f"deb-src [signed-by={_KEYRING}] {archive} {suite} main\n"
        for suite in ("bookworm", "trixie")
    ]
    wanted = "".join(lines)
    if not _SOURCE_LIST.exists() or _SOURCE_LIST.read_text() != wanted:
        _SOURCE_LIST.write_text(wanted)
    _apt("update")


def _configured_archive() -> str:
    configured = Path("/etc/apt/sources.list.d/debian.sources")
    if configured.exists():
        found = re.search(r"^URIs:\s*(\S+/debian)/?\s*$", configured.read_text(), re.MULTILINE)
        if found is not None:
            return found[1]
    return _DEFAULT_ARCHIVE


def _installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def _apt(verb: str, *arguments: str, cwd: Path | None = None) -> None:
    subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", verb, *arguments],
        check=True,
        cwd=cwd,
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
