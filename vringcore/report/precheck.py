"""What a core, or one to be taken, can answer, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.model.values import Absent
from vringcore.report.cells import about, clean
from vringcore.report.page import Column

if TYPE_CHECKING:
    from vringcore.model.precheck import (
        CheckedFile,
        CheckedModule,
        CheckedProcess,
        PrecheckDocument,
    )
    from vringcore.report.page import Page

MAX_SHOWN = 12
"""Missing libraries that are shown; of more, their number."""


def print_precheck(page: Page, document: PrecheckDocument, *, detailed: bool) -> None:
    """Print what can be answered, then what that rests on, then what to set."""
    page.header(f"{clean(document.path)}: {_verdict(document)}")
    page.line()
    page.listing([(name, text) for name, text in _facts(page, document) if text])
    if document.program.is_qemu is False:
        page.close(document.limits)
        return
    page.line()
    page.table(
        [
            Column("verb", [each.verb for each in document.answers]),
            Column("answers", [each.answer for each in document.answers]),
            Column("why not wholly", [each.why for each in document.answers], foldable=True),
        ],
        ["" if each.answer == "yes" else "bold yellow" for each in document.answers],
    )
    _print_modules(page, document.modules or (), detailed=detailed)
    if document.next_capture:
        page.line()
        page.line("before the next core is taken:", "bold")
    for advice in document.next_capture:
        page.line(f"  {clean(advice.what)}: {clean(advice.why)}", hang=4)
        if advice.how:
            page.line(f"    {clean(advice.how)}", hang=6)
    page.close(document.limits)


def _verdict(document: PrecheckDocument) -> str:
    if document.program.is_qemu is False:
        return f"not a QEMU: {clean(document.program.why)}"
    answers = [each.answer for each in document.answers]
    if all(answer == "yes" for answer in answers):
        return "every question can be answered"
    if all(answer == "no" for answer in answers):
        return f"no question can be answered: {clean(document.answers[0].why)}"
    return "some questions can be answered, others not or in part"


def _facts(page: Page, document: PrecheckDocument) -> list[tuple[str, str]]:
    program, ram, debug = document.program, document.guest_ram, document.debug_information
    is_qemu = {True: "yes", False: "no", None: "cannot be told"}[program.is_qemu]
    configured = ram.configured if isinstance(ram.configured, Absent) else about(ram.configured)
    where = debug.file or (debug.package and f"install {debug.package}")
    build = f", build-id {program.build_id}" if program.build_id else ", build-id unknown"
    rows = [("a QEMU", f"{is_qemu}: {program.why}{build}")]
    if document.core is not UNSET:
        rows += _file_facts(page, document.core)
        if document.registers is not UNSET:
            rows.append(("threads", f"{document.threads}, {document.registers} with registers"))
    if document.process is not UNSET:
        rows += _process_facts(page, document.process)
    held = f"{about(ram.bytes)} of {page.notes.text(configured)}; " if ram.bytes else ""
    if program.is_qemu is not False:
        rows.append(("guest RAM", f"{ram.state}: {held}{ram.why}"))
        rows.append(("debug information", f"{debug.state}{': ' if where else ''}{where}"))
    return [(name, clean(text)) for name, text in rows]


def _file_facts(page: Page, core: CheckedFile) -> list[tuple[str, str]]:
    whole = "complete" if core.complete else f"CUT: {core.cut or 'its original was'}"
    taken = page.notes.text(core.captured_at)
    by = f", says {core.captured_at_source}" if core.captured_at_source else ""
    return [
        ("written by", f"{core.written_by}, {core.machine}"),
        ("size", f"{about(core.size)}, {about(core.stored)} on disk; {whole}"),
        ("taken at", f"{taken}{by}"),
    ]


def _process_facts(page: Page, process: CheckedProcess) -> list[tuple[str, str]]:
    text = page.notes.text
    filter_ = process.coredump_filter
    bits = text(filter_) if isinstance(filter_, Absent) else f"{filter_:#x}"
    limit = "unlimited" if process.core_limit is None else _size(page, process.core_limit)
    asleep = f", {len(process.threads_in_d)} of them in uninterruptible sleep (D)"
    return [
        ("process", f"{process.pid}, user {process.user}, state {process.state}"),
        ("threads", f"{process.threads}{asleep if process.threads_in_d else ''}"),
        ("coredump_filter", bits),
        ("limit on core size", limit),
        ("core_pattern", text(process.core_pattern)),
        (
            "a core would have",
            f"{_size(page, process.core_apparent)}, {_size(page, process.core_stored)} on disk",
        ),
        (
            "it would go to",
            f"{text(process.destination)}, {_size(page, process.free_space)} free",
        ),
    ]


def _size(page: Page, size: int | Absent) -> str:
    return page.notes.text(size) if isinstance(size, Absent) else about(size)


def _print_modules(page: Page, modules: tuple[CheckedModule, ...], *, detailed: bool) -> None:
    shown = [each for each in modules if detailed or each.state != "found"]
    if not modules:
        return
    page.line()
    page.line(
        f"{len(modules)} files were mapped, {len(modules) - _lacking(modules)} are here", "bold"
    )
    if not shown:
        return
    page.table(
        [
            Column("file", [clean(_name(each)) for each in shown[:MAX_SHOWN]]),
            Column("state", [each.state for each in shown[:MAX_SHOWN]]),
            Column("build-id", [clean(each.build_id) for each in shown[:MAX_SHOWN]], 2),
            Column(
                "not it",
                [clean("; ".join(each.refused)) for each in shown[:MAX_SHOWN]],
                1,
                foldable=True,
            ),
        ]
    )
    if len(shown) > MAX_SHOWN:
        page.line(f"  and {len(shown) - MAX_SHOWN} more: --json has them all")


def _lacking(modules: tuple[CheckedModule, ...]) -> int:
    return sum(each.state != "found" for each in modules)


def _name(module: CheckedModule) -> str:
    return f"{module.path} (deleted)" if module.deleted else module.path
