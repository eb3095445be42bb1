"""``vringcore scan``."""

from __future__ import annotations

import argparse
import gc
import sys
from typing import TYPE_CHECKING, Any

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.scan import ScanRow
    from vringcore.scan.groups import Groups
    from vringcore.scan.scanner import Scan

USAGE = "vringcore scan PATH... [options]"
DESCRIPTION = """\
What is wrong with each of a thousand VMs, and how many have the same cause?

Reads every QEMU core below PATH: files, directories, patterns, tar and zip
archives (packed or not, one within another), objects of a store by URL (s3://,
gs://, https://, sftp://). Cores are known by their content; other files are
counted. Each is read by a worker process under limits of time and memory: one
that crashes, hangs or takes too much is a row with the reason.

Rows go to the file after -o as each is finished, a JSON line per core. Ctrl-C
and kill -9 lose none of them, and --resume goes on. At the end they are put in
the order of path and member. Without -o the groups are printed and no row kept.
"""
EPILOG = """\
exit codes: 0 every core was read, 4 some were not (their rows say why),
3 the rows cannot be written, 2 what was named is not there, 130 interrupted

examples:
  vringcore scan /srv/cores -o rows.jsonl
  vringcore scan /srv/cores -o rows.jsonl --resume
  vringcore scan cores-2026-11.tar.zst --json | jq -r .verdict.summary
  vringcore scan 's3://fleet/cores/*.zst' -o rows.jsonl --export rows.parquet
  vringcore scan /nfs/cores -o rows.jsonl --dask tcp://scheduler:8786
  vringcore groups rows.jsonl               what is wrong, by cause
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument_group("the cores").add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="file, directory, pattern, archive, or URL of a store",
    )
    results = parser.add_argument_group("results")
    results.add_argument("-o", "--output", metavar="ROWS", help="keep the rows here, as JSON lines")
    results.add_argument("--resume", action="store_true", help="go on with what -o has already")
    results.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume: read cores again whose row has an error",
    )
    results.add_argument(
        "--tables",
        metavar="NAMES",
        type=_names,
        default=(),
        help="what rows hold beside the counts: devices,queues,requests,findings",
    )
    results.add_argument(
        "--export",
        metavar="FILE",
        action="append",
        default=[],
        help="at the end write all rows here too: .parquet .duckdb .sqlite .csv (repeatable)",
    )
    results.add_argument(
        "--no-why", action="store_true", help="no verdicts: devices, queues and requests alone"
    )
    _add_files(parser)
    _add_work(parser)
    options.add_output_options(parser)


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("where QEMU's types come from, if not from the core itself")
    files.add_argument(
        "-e",
        "--executable",
        metavar="PATH",
        action="append",
        default=[],
        help="a QEMU binary (repeatable): each core takes that of its build-id",
    )
    options.add_debug_files(files)
    files.add_argument(
        "--sysroot",
        metavar="DIR",
        help="look for the files that cores name below DIR; they are not looked up without it",
    )
    files.add_argument("--layout", metavar="FILE", help="a layout bundle, for cores of one build")
    files.add_argument(
        "--no-cache", action="store_true", help="neither use nor write cached layouts"
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    work = parser.add_argument_group("work and limits")
    work.add_argument(
        "--workers", metavar="N", type=_count, default=0, help="processes; one for each processor"
    )
    work.add_argument(
        "--dask", metavar="ADDRESS", help="let a cluster do it: its scheduler's address"
    )
    work.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=120.0,
        help="what one core may take (%(default)g)",
    )
    work.add_argument(
        "--memory",
        metavar="BYTES",
        type=options.byte_count,
        default=2 << 30,
        help="what a worker may allocate, such as 4G (2G); 0 for no limit",
    )
    work.add_argument(
        "--storage",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="an option for fsspec's store (repeatable): anon=true, endpoint_url=...",
    )
    work.add_argument(
        "--deep", action="store_true", help="allow bounded scans of QEMU's heap for lost requests"
    )
    work.add_argument("--tmpdir", metavar="DIR", help="where packed cores are unpacked")
    work.add_argument(
        "--max-unpacked",
        metavar="BYTES",
        type=options.byte_count,
        help="refuse to unpack more than this for one core, such as 20G",
    )


def run(arguments: argparse.Namespace) -> int:
    """Scan; return the exit code."""
    from vringcore.scan.scanner import scan

    if arguments.output is None and (arguments.resume or arguments.retry_failed):
        raise UsageError("there is nothing to go on with", hint="-o names the rows")
    gc.enable()  # which the console script turned off: this may run for hours
    _check_exports(arguments)
    with _watched() as progress:
        found = scan(
            *arguments.paths,
            out=arguments.output,
            resume=arguments.resume or arguments.retry_failed,
            retry_failed=arguments.retry_failed,
            workers=arguments.workers,
            client=arguments.dask,
            progress=progress,
            **_settings(arguments),
        )
        with found:
            groups = _gather(arguments, found)
    return _tell(arguments, found, groups)


def _gather(arguments: argparse.Namespace, found: Scan) -> Groups:
    """Take all rows, export them, and return their groups."""
    from vringcore.scan.groups import Groups

    groups = Groups()
    kept: list[ScanRow] = []
    for row in _rows(arguments, found):
        groups.add(row)
        if arguments.export:
            kept.append(row)
    if arguments.export:
        from vringcore.scan.export import export

        kept.sort(key=lambda row: row.key)
        for path in arguments.export:
            export(kept, path, arguments.tables)
    return groups


def _rows(arguments: argparse.Namespace, found: Scan) -> Iterator[ScanRow]:
    """Yield the rows of this run, or with ``-o`` those of the file, once it is complete."""
    from vringcore.cli.output import write_json

    try:
        for row in found:
            if arguments.json:
                write_json(row)
            if arguments.output is None:
                yield row
    except KeyboardInterrupt:
        _tell_interrupted(arguments, found)
        raise
    if arguments.output is not None:
        from vringcore.scan.journal import read_rows

        yield from read_rows(arguments.output)


def _tell_interrupted(arguments: argparse.Namespace, found: Scan) -> None:
    if arguments.output is not None:
        print(
            f"vringcore: interrupted; {found.done} rows of this run are in {arguments.output}:"
            " --resume goes on",
            file=sys.stderr,
        )


def _tell(arguments: argparse.Namespace, found: Scan, groups: Groups) -> int:
    from vringcore.cli.output import write_page

    if not arguments.json:
        from vringcore.report.scan import print_scan

        write_page(
            arguments,
            lambda page: print_scan(
                page,
                groups.document(arguments.output or ""),
                skipped=found.skipped,
                resumed=found.resumed,
            ),
        )
    return EXIT_PARTIAL if groups.unreadable else EXIT_OK


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "executables": tuple(arguments.executable),
        "debug_files": tuple(arguments.debug_file),
        "debug_dirs": tuple(arguments.debug_dir),
        "sysroot": arguments.sysroot or "",
        "layout": arguments.layout,
        "tmpdir": arguments.tmpdir,
        "max_unpacked": arguments.max_unpacked,
        "deep": arguments.deep,
        "why": not arguments.no_why,
        "tables": tuple(arguments.tables),
        "timeout": arguments.timeout,
        "memory": arguments.memory,
        "cache": not arguments.no_cache,
        "storage": dict(arguments.storage),
    }


def _check_exports(arguments: argparse.Namespace) -> None:
    if arguments.export:
        from vringcore.scan.export import check

        for path in arguments.export:
            check(path)


def _watched() -> Any:
    """Return a context whose value is called as the scan goes on: a bar, on a terminal alone."""
    from vringcore.cli.scanbar import Bar

    return Bar(sys.stderr)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return value


def _pair(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    words: dict[str, Any] = {"true": True, "false": False}
    return key, words.get(value.lower(), value)
