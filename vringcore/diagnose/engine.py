"""Runs the rules over a report: what is missing silences a rule, a failure costs that rule."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from vringcore.diagnose.facts import Facts
from vringcore.diagnose.rules import RULES
from vringcore.diagnose.scope import left_out
from vringcore.diagnose.signature import signature_of
from vringcore.diagnose.verdict import verdict_of
from vringcore.diagnose.waits import wait_graph
from vringcore.diagnose.words import counted
from vringcore.model.findings import Finding, Verdict, WaitGraph
from vringcore.model.report import Limitation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.diagnose.rule import Rule
    from vringcore.model.report import Report

MAX_FINDINGS = 64
"""Of one rule; a core may describe any number of queues."""

_SEVERITIES = ("stuck", "fault", "warning", "note")
_CONFIDENCES = ("high", "medium", "low")

NO_WAITS = WaitGraph((), (), ())


class Diagnosis(msgspec.Struct, frozen=True):
    """What was found in one report; ``limits`` says what failed on the way."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    wait_for: WaitGraph
    signature: str
    limits: tuple[Limitation, ...]


def diagnose(report: Report, rules: Iterable[Rule] = RULES) -> Diagnosis:
    """Return verdict, findings and wait-for graph of a report.

    A rule whose parts are not in the report is silent, and the verdict says so.
    """
    facts = Facts(report)
    run = _Run(facts)
    for rule in rules:
        run.apply(rule)
    findings = tuple(sorted(run.findings, key=order))
    graph = run.graph()
    verdict = verdict_of(facts, findings, graph, run.checked(), run.unchecked())
    return Diagnosis(verdict, findings, graph, signature_of(facts, findings), tuple(run.limits))


def order(finding: Finding) -> tuple[int, int, bool, int, int]:
    """Return the key that puts the finding that decides first.

    A fault that is sure comes before a guess that something is stuck, and that before a warning.
    """
    severity = _index(_SEVERITIES, finding.severity)
    confidence = _index(_CONFIDENCES, finding.confidence)
    doubt = 1 if severity == 0 and confidence == 2 else 0
    effect = finding.code in _EFFECTS
    return severity + 2 * doubt, severity, effect, confidence, _RANKS.get(finding.code, 0)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else len(names)


_RANKS = {rule.code: rule.rank for rule in RULES}
_EFFECTS = {rule.code for rule in RULES if rule.effect}


class _Run:
    """One pass of the rules over one report."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.findings: list[Finding] = []
        self.limits: list[Limitation] = []
        self._clear: dict[str, bool] = {}
        self._silent: dict[str, str] = {}

    def apply(self, rule: Rule) -> None:
        """Run a rule, or note why it cannot be."""
        missing = self._missing(rule)
        if missing:
            self._silent.setdefault(rule.clear, missing)
            return
        try:
            found = list(islice(rule.check(self._facts), MAX_FINDINGS + 1))
        except Exception as error:  # noqa: BLE001 - one rule's failure costs that rule alone
            self._silent.setdefault(rule.clear, f"the rule {rule.code} failed")
            self._limit(f"the rule {rule.code}", f"it failed: {type(error).__name__}: {error}")
            return
        if len(found) > MAX_FINDINGS:
            self._limit(
                f"findings of {rule.code}", f"more than {MAX_FINDINGS}; the first are given"
            )
        self.findings += found[:MAX_FINDINGS]
        clear = all(finding.severity == "note" for finding in found)
        self._clear[rule.clear] = self._clear.get(rule.clear, True) and clear

    def _missing(self, rule: Rule) -> str:
        for part in rule.needs:
            reason = self._facts.missing(part)
            if reason:
                return reason if part in ("guest", "stillness") else f"{part}: {reason}"
        return ""

    def _limit(self, what: str, why: str) -> None:
        self.limits.append(Limitation(what, why, "please report it: it is a bug in vringcore"))

    def graph(self) -> WaitGraph:
        """Return the wait-for graph; an empty one, and a limitation, if that fails."""
        try:
            return wait_graph(self._facts)
        except Exception as error:  # noqa: BLE001 - as a rule's
            self._limit("the wait-for graph", f"it failed: {type(error).__name__}: {error}")
            return NO_WAITS

    def checked(self) -> tuple[str, ...]:
        """Return what was looked at in full, and found in order."""
        return tuple(
            text for text, clear in self._clear.items() if clear and text not in self._silent
        )

    def unchecked(self) -> tuple[str, ...]:
        """Return what could not be looked at, and why."""
        silent = (f"{text}: not known ({why})" for text, why in self._silent.items())
        count = len(self._facts.report.limits)
        partly = f"what could not be read: {counted(count, 'note')} of the report" if count else ""
        return (*silent, *left_out(self._facts), *([partly] if partly else []))
