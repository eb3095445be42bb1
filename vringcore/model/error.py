"""The document that a failed verb prints under ``--json``."""

from __future__ import annotations

import msgspec


class ErrorDetail(msgspec.Struct, frozen=True):
    """An error in parts, so that nobody need parse the message.

    ``code`` is stable (``vringcore.errors``, ``code`` of each class). ``where`` is the place (file,
    ``struct.member``, address), ``seen`` what was found there, ``expected`` what should have been
    there, ``hint`` what to do next; each is empty where it does not apply.
    """

    code: str
    message: str
    where: str
    seen: str
    expected: str
    hint: str


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/error/1``: why there is no other document."""

    schema: str = "vringcore/error/1"
    error: ErrorDetail
