"""A provider's text is printed as text: no terminal obeys it."""

import json
import logging
import os
import sys
from contextlib import suppress
from io import StringIO
from typing import NoReturn

import pytest
import structlog
from rich.markup import escape

from config.logs import configure_logging
from models.crypto.redact import show_controls
from worker.__main__ import build_app, choose
from worker.cli import output

hostile = "it\x1b]0;owned\x07 \x1b[2J\x9b31m \u202egnp.exe \r\b\x7f\x00"
signs = set("\x1b\x07\x9b\u202e\r\b\x7f\x00")


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def test_what_tells_a_terminal_something_is_shown_as_a_sign() -> None:
    shown = show_controls(hostile)
    assert not signs & set(shown)
    assert "owned" in shown
    assert show_controls("ä\tb\nc “d” 漢字 😀") == "ä\tb\nc “d” 漢字 😀"


def test_a_command_prints_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_line(hostile)
    output.print_error(hostile)
    output.print_rich(f"[bold]{escape(hostile)}[/]")
    output.print_rich(output.make_table(["a", "b"], [[hostile, {"x": hostile}]]))
    output.screen().print(escape(hostile), soft_wrap=True)
    printed = capsys.readouterr()
    assert not signs & set(printed.out + printed.err)
    assert printed.out.count("owned") == 5


def test_colours_stay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    output.print_rich(f"[bold red]{escape(hostile)}[/]")
    assert capsys.readouterr().out.startswith("\x1b[1;31mit\N{REPLACEMENT CHARACTER}]0;owned")


def test_json_says_the_same_without_a_character_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"error": hostile})
    printed = capsys.readouterr().out
    assert not signs & set(printed)
    assert json.loads(printed) == {"error": hostile}


def test_a_command_logs_nothing_into_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    @output.report_errors
    def command() -> None:
        structlog.get_logger("a").error("budget.away")
        output.print_json({"done": True})

    command()
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ({"done": True}, "")


@pytest.mark.parametrize("readable", [True, False])
def test_a_log_has_none_of_it(readable: bool) -> None:
    root = logging.getLogger()
    kept, stream = (root.handlers[:], root.level), StringIO()
    configure_logging(stream, readable=readable)
    try:
        structlog.get_logger("a").warning("provider.said", description=hostile, inner={"x": [hostile]})
        logging.getLogger("b").warning("said %s", hostile)
        try:
            fail(hostile)
        except ValueError:
            logging.getLogger("b").exception("failed")
    finally:
        root.handlers[:], root.level = kept
        structlog.reset_defaults()
    lines = stream.getvalue()
    coloured = lines.replace("\x1b[", "") if readable else lines
    assert not signs & set(coloured)
    assert "]0;owned" in lines


@pytest.mark.parametrize("line", ["--version", "keys new", "keys new --json", "events --help"])
def test_a_full_disk_behind_the_output_is_one_line_and_exit_code_1(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            build_app(choose(words))(words)
    printed = capsys.readouterr().err
    assert (ended.value.code, "No space left on device" in printed, len(printed.splitlines())) == (1, True, 1)
    assert not line.endswith("--json") or json.loads(printed)["exit_code"] == 1


@pytest.mark.parametrize("line", ["--version", "keys new --json"])
def test_a_pipe_that_was_closed_ends_a_command_without_a_word(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            build_app(choose(words))(words)
    assert (ended.value.code, capsys.readouterr().err) == (1, "")
