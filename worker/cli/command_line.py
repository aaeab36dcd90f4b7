"""The command line as a whole: `--version`, and usage errors in the form that the line asks for."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from config.environment import is_text
from config.version import read_version
from worker.cli.output import (
    print_error,
    print_json,
    print_line,
    report_unwritable_output,
    reporting_in,
    reports_json,
    wrong_usage,
)


class CommandLine(TyperGroup):
    """The group of all commands; with `--json` anywhere on the line, what is wrong with the line is JSON, too."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run one command and exit; `args` are those of the process if they are None."""
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
        with reporting_in(as_json):
            if not all(map(is_text, given)):
                print_error("The command line is not UTF-8.", wrong_usage)
                sys.exit(wrong_usage)
            with report_unwritable_output():
                if not as_json:
                    return super().main(args, *more, **options)
                try:
                    code = super().main(args, *more, **{**options, "standalone_mode": False})
                except TyperException as error:
                    print_error(error.format_message(), error.exit_code)
                    code = error.exit_code
                sys.exit(code)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        if reports_json():
            print_json({"version": read_version()})
        else:
            print_line(read_version())
        raise typer.Exit


def _refuse_json(is_given: bool) -> None:
    if is_given:
        raise typer.BadParameter("give it after the command")


def accept_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", hidden=True, callback=_refuse_json)] = False,
) -> None:
    """Manage your users' OAuth connections: fresh tokens, data in your database, changes on a Redis stream."""
