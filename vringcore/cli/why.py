"""``vringcore why``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, EXIT_STUCK, UsageError

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore why CORE [options]"
DESCRIPTION = """\
Why is this VM stuck? One sentence, then the way from the symptom to the cause,
the evidence that anyone can check by hand (`vringcore print` shows each C
expression), what speaks against it, what would prove it wrong, and what to do.

A healthy VM gives "Nothing is stuck", with what was looked at. What could not
be looked at is listed with the reason.
"""
EPILOG = """\
exit codes: 0 nothing is stuck, 5 stuck or faulty, 4 no verdict is possible

examples:
  vringcore why core.20873
  vringcore why core.20873 -v               every finding with its evidence
  vringcore why core.20873 --json | jq .verdict
  vringcore why --explain kick-not-seen     what a code means
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser, optional=True)
    parser.add_argument_group("the codes").add_argument(
        "--explain", metavar="CODE", help="say what a finding's code means, and how it can be wrong"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the verdict; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    if arguments.explain is not None:
        return explain(arguments.explain)
    if arguments.core is None:
        raise UsageError("no core was given", hint="see `vringcore why --help`")
    with options.open_core(arguments) as core:
        report = core.why()
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.why import print_verdict

        write_page(arguments, lambda page: print_verdict(page, report, detailed=arguments.verbose))
    codes = {"healthy": EXIT_OK, "stuck": EXIT_STUCK, "faulty": EXIT_STUCK}
    return codes.get(report.verdict.state if report.verdict else "", EXIT_PARTIAL)


def explain(code: str) -> int:
    """Print what a code means; return the exit code."""
    from vringcore.cli.output import write_text
    from vringcore.diagnose.rules import RULES

    rule = next((rule for rule in RULES if rule.code == code), None)
    if rule is None:
        raise UsageError(
            "no finding has such a code",
            seen=code,
            hint="there are " + ", ".join(sorted(rule.code for rule in RULES)),
        )
    write_text(f"{rule.code}\n\n{rule.text}")
    return EXIT_OK
