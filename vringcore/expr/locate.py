"""Where the evidence of a finding lies: the address of its C expression, and the core's byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.expr.evaluate import evaluate
from vringcore.model.values import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.model.findings import Evidence, Finding
    from vringcore.view.views import Views


class Locator:
    """Fills in what rules cannot know; an expression is looked up once.

    :param offset_of: gives the offset in the core of an address, None where it does not hold it
    """

    def __init__(self, views: Views, offset_of: Callable[[int], int | None]) -> None:
        self._views = views
        self._offset_of = offset_of
        self._known: dict[str, int | None] = {}

    def finding(self, finding: Finding) -> Finding:
        """Return a finding with its evidence located, as far as that can be done."""
        return msgspec.structs.replace(
            finding,
            evidence=tuple(map(self.evidence, finding.evidence)),
            against=tuple(map(self.evidence, finding.against)),
        )

    def evidence(self, evidence: Evidence) -> Evidence:
        """Return evidence with the address and file offset of what its expression names."""
        address = evidence.address
        if address is None and evidence.c_path:
            address = self._address(evidence.c_path)
        if address is None:
            return evidence
        return msgspec.structs.replace(
            evidence, address=Address(address), file_offset=self._offset_of(int(address))
        )

    def _address(self, expression: str) -> int | None:
        if expression not in self._known:
            try:
                found = evaluate(self._views, expression).address
            except VringcoreError:  # the evidence stands without its place
                found = None
            self._known[expression] = None if found is None else int(found)
        return self._known[expression]
