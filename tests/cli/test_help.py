"""``--help`` teaches, and what it teaches is kept: the texts stand in golden/.

To renew them after a change that is meant: ``VRINGCORE_RENEW_GOLDEN=1 pytest tests/cli``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command import vringcore
from vringcore.cli.main import VERBS
from vringcore.report.ring import MEANINGS

GOLDEN = Path(__file__).parent / "golden"
PAGES = {"vringcore": (), **{verb: (verb,) for verb in VERBS}}


@pytest.mark.parametrize("page", PAGES)
def test_help_is_as_kept(page: str) -> None:
    run = vringcore(*PAGES[page], "--help", COLUMNS="80")
    assert (run.returncode, run.stderr) == (0, "")
    path = GOLDEN / f"{page}.txt"
    if os.environ.get("VRINGCORE_RENEW_GOLDEN"):
        path.write_text(run.stdout, encoding="utf-8")
    assert run.stdout == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_help_fits_eighty_columns(page: str) -> None:
    run = vringcore(*PAGES[page], "--help", COLUMNS="80")
    assert max(map(len, run.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_help_asks_a_question_and_gives_examples(verb: str) -> None:
    run = vringcore(verb, "--help", COLUMNS="80")
    assert "?" in run.stdout
    assert f"  vringcore {verb} " in run.stdout.partition("examples:")[2]


@pytest.mark.parametrize(
    "words",
    [
        *(("memory", action) for action in ("regions", "read", "search", "export")),
        *(("layout", action) for action in ("build", "show", "check", "pack")),
    ],
)
def test_the_help_of_a_verbs_own_verb_begins_with_what_it_does(words: tuple[str, str]) -> None:
    run = vringcore(*words, "--help", COLUMNS="80")
    usage, _, rest = run.stdout.partition("\n\n")
    assert usage.startswith(f"usage: vringcore {' '.join(words)} ")
    assert len(usage.splitlines()) == 1
    assert rest[:1].isupper()
    assert "show this text and exit" in rest
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_the_columns_of_the_queue_table_are_explained() -> None:
    text = vringcore("queues", "--help").stdout
    for name in ("avail.idx", "last_avail_idx", "used_idx", "used_event", "unseen", "inuse"):
        assert name in text
        assert name in MEANINGS


def test_no_words_at_all_print_the_help() -> None:
    run = vringcore()
    assert run.returncode == 2
    assert "first steps:" in run.stdout


def test_version() -> None:
    run = vringcore("--version")
    assert run.returncode == 0
    assert run.stdout.startswith("vringcore 0.")
