"""Debian packages: what the lab installs, downloads and unpacks."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
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


def dependency_of(package: str, prefix: str, options: Sequence[str] = ()) -> str:
    """The first dependency of `package` whose name starts with `prefix`."""
    shown = subprocess.run(
        ["apt-cache", *options, "depends", package], check=True, capture_output=True, text=True
    )
    found = re.search(rf"Depends: ({re.escape(prefix)}\S+)", shown.stdout)
    if found is None:
        raise LookupError(f"{package} depends on nothing named {prefix}*")
    return found[1]


def extract(package: str, target: Path, options: Sequence[str] = ()) -> None:
    """Unpacks a binary package into `target` without installing it.

    :param options: of apt, as `another_suite` gives them
    """
    with tempfile.TemporaryDirectory() as scratch:
        _apt(*options, "download", package, cwd=Path(scratch))
        archive = next(Path(scratch).glob("*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)


def another_suite(name: str, directory: Path) -> list[str]:
    """Options with which apt knows the packages of that suite of Debian, and no others.

    Its lists lie in `directory`; the machine's own apt is left as it is.
    """
    for place in ("lists/partial", "archives/partial"):
        (directory / place).mkdir(parents=True, exist_ok=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_configured_archive()} {name} main\n")
    options = [
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"),
        *("-o", f"Dir::State::lists={directory / 'lists'}", "-o", f"Dir::Cache={directory}"),
    ]
    _apt(*options, "update")
    return options


def fetch_source(package: str, suite: str, target: Path, release: str = "") -> Path:
    """Unpacks a source package of a suite below `target`; returns its directory.

    :param release: the beginning of the upstream version, where the suite's newest is not wanted
    :raises LookupError: no version offered begins with `release`
    """
    _offer_sources()
    target.mkdir(parents=True, exist_ok=True)
    wanted = f"={_offered_source(package, release)}" if release else f"/{suite}"
    _apt("source", package + wanted, cwd=target)
    return next(path for path in target.iterdir() if path.is_dir())


def _offered_source(package: str, release: str) -> str:
    """The last version of a source package that begins with `release`, its epoch aside."""
    shown = subprocess.run(
        ["apt-cache", "showsrc", "--only-source", package],
        check=True,
        capture_output=True,
        text=True,
    )
    pattern = rf"^Version: ((?:\d+:)?{re.escape(release)}\..*)$"
    offered: list[str] = re.findall(pattern, shown.stdout, re.MULTILINE)
    if not offered:
        raise LookupError(f"no source of {package} {release} is offered any more")
    return offered[-1]


def _offer_sources() -> None:
    archive = _configured_archive()
    lines = [
        f"deb-src [signed-by={_KEYRING}] {archive} {suite} main\n"
        for suite in ("bullseye", "bookworm", "trixie", "sid")
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


def _apt(*words: str, cwd: Path | None = None) -> None:
    subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *words],
        check=True,
        cwd=cwd,
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
