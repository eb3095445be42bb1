"""Writes a page for each finding's code: ``python -m vringcore.cli.findings DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vringcore.diagnose.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.rule import Rule

INDEX = """\
# What the findings of `vringcore why` mean

One page for each code. A code is one conclusion, and stays so. These pages are made from the
rules' own docstrings by `python -m vringcore.cli.findings docs/findings`; `vringcore why --explain
CODE` prints the same. How a verdict comes about is in [why.md](../why.md).

| code | conclusion |
|---|---|
"""

LABELS = ("From:", "Confidence:", "Wrong if:", "Source:")
"""The parts of a rule's docstring after the conclusion, in their order."""


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    rules = sorted(RULES, key=lambda rule: rule.code)
    rows = "".join(f"| [{rule.code}]({rule.code}.md) | {conclusion(rule)} |\n" for rule in rules)
    found = {f"{rule.code}.md": _page(rule) for rule in rules}
    return {"README.md": INDEX + rows, **found}


def conclusion(rule: Rule) -> str:
    """Return what a rule concludes, in one sentence."""
    return rule.text.split("\n\n")[0].replace("\n", " ")


def parts(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield the parts of a rule's docstring after the conclusion, by their labels."""
    label, words = "", list[str]()
    for line in rule.text.split("\n\n", 1)[1].splitlines():
        found = next((each for each in LABELS if line.startswith(each)), "")
        if found and label:
            yield label, " ".join(words)
        if found:
            label, words = found, []
        words.append(line.removeprefix(found).strip())
    yield label, " ".join(words)


def _page(rule: Rule) -> str:
    lines = [f"# {rule.code}", "", conclusion(rule), ""]
    for label, text in parts(rule):
        lines += [f"**{label}** {text.replace('``', '`')}", ""]
    needs = ", ".join(f"`{part}`" for part in rule.needs) or "nothing but the process itself"
    lines += [f"**Needs, of a report:** {needs}.", ""]
    lines += [f"**Where it finds nothing, the verdict says:** {rule.clear}.", ""]
    return "\n".join(lines)


def main(directory: str) -> None:
    """Write every page into ``directory``, and remove those of codes that are gone."""
    folder = Path(directory)
    folder.mkdir(exist_ok=True)
    wanted = pages()
    for old in folder.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
