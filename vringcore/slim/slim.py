"""A small core from a core."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from vringcore.elfcore.core import open_elf_core
from vringcore.layout.store import LayoutStore
from vringcore.model.report import Tool
from vringcore.model.slim import SlimDocument
from vringcore.options import Options
from vringcore.slim.collect import asked
from vringcore.slim.output import check_output, whole_file
from vringcore.slim.write import gather, write_slim
from vringcore.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable


def slim_core(
    path: str,
    out: str,
    *,
    options: Options | None = None,
    store: LayoutStore | None = None,
    wanted: Iterable[str] = (),
    redact_stacks: bool = False,
) -> SlimDocument:
    """Write a small core of a core: all that an analysis reads, and none of the guest's data.

    It is an ordinary ELF core, and holds what the debug information answered: it opens where
    neither the executable nor its debug information is. The same core gives the same bytes.

    :param out: the file to write; packed if it ends in ``.zst``
    :param options: how the core is opened, as for :func:`vringcore.open_core`
    :param wanted: what to keep beside: ``START-END``, ``START+SIZE``, or C expressions
    :param redact_stacks: of what only the stacks hold, keep no word but pointers and small numbers
    :raises VringcoreError: as :func:`vringcore.open_core` does, if something of ``wanted`` cannot
        be had, or if the output cannot be written or is a file that is read
    """
    options = options or Options()
    sources = (path, *options.files())
    check_output(out, "the small core", sources)
    began = perf_counter()
    core = open_elf_core(
        path,
        member=options.member,
        tmpdir=options.tmpdir,
        max_unpacked=options.max_unpacked,
        progress=options.progress,
    )
    store = store or LayoutStore.default()
    with core, asked(core, options, store, wanted) as process:
        gathered = gather(process, redact_stacks=redact_stacks)
        with whole_file(out, sources=sources) as file:
            written = write_slim(process, gathered, file)
        return SlimDocument(
            tool=Tool("vringcore", VERSION),
            path=out,
            original=path,
            original_size=core.size,
            size=written.size,
            parts=written.parts,
            masked=written.masked,
            left_out=written.left_out,
            seconds=round(perf_counter() - began, 3),
            limits=tuple(process.limits),
        )
