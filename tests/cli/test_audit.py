"""`breezesync audit`: what operators did is in it, by name; it is exported line by line, and its chain is checked."""

import hashlib
import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import text
from typer.core import TyperGroup

from config.wiring import now
from scheduler.audit_chain import AuditChain
from tests.cli.conftest import Desk
from tests.cli.test_commands import bury
from tests.cli.test_confirm import kept_code
from tests.cli.test_connect_token import type_token
from worker.__main__ import build_app


def export(desk: Desk, *words: str) -> list[Any]:
    result = desk.type("audit", *words, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def chain(desk: Desk, days_ago: int = 0) -> None:
    AuditChain(desk.house.store, lambda: now() - timedelta(days=days_ago))()


changing = {
    "confirm": "command.received",
    "connect-token": "connection.authorized",
    "sync": "command.received",
    "refresh": "command.received",
    "disconnect": "command.received",
    "events replay": "events.replayed",
    "dead-letters retry": "dead_letter.retried",
    "dead-letters drop": "dead_letter.dropped",
    "provider pause": "provider.paused",
    "provider resume": "provider.resumed",
    "provider hold": "provider.held",
    "provider release": "provider.released",
    "provider accept": "provider.accepted",
    "keys rotate": "key.rotated",
    "gateway-key": "gateway_key.made",
    "webhooks add": "webhook.added",
    "webhooks rotate": "webhook.rotated",
    "webhooks pause": "webhook.paused",
    "webhooks resume": "webhook.resumed",
    "webhooks retry": "webhook.retried",
    "webhooks remove": "webhook.removed",
}
"""The line that each command writes."""

silent = {
    "init": "makes a file",
    "migrate": "changes the schema, and no one's tokens",
    "run": "starts processes, which write their own lines",
    "connect-link": "signs a link and stores nothing; its use is link.opened",
    "doctor": "reads; each request that it makes with a token is in request_log",
    "profile check": "reads; each request that it makes with a connection's token is in request_log",
    "webhooks test": "sends what is about no one, with no one's token",
    **dict.fromkeys(
        (
            "connections",
            "authorizations",
            "explain",
            "status",
            "events",
            "events groups",
            "audit",
            "audit verify",
            "dead-letters",
            "provider status",
            "keys status",
            "keys new",
            "keys sealing-key",
            "backup check",
            "webhooks",
        ),
        "reads",
    ),
}
"""Why each other command writes none."""


def name_commands(command: object, name: str = "") -> Iterator[str]:
    """Yield every command that can be typed."""
    if not isinstance(command, TyperGroup):
        yield name
        return
    if name and command.invoke_without_command:
        yield name
    for word, each in command.commands.items():
        yield from name_commands(each, f"{name} {word}".strip())


def test_every_command_writes_a_line_or_has_a_reason_for_none() -> None:
    assert sorted(name_commands(typer.main.get_command(build_app()))) == sorted({*changing, *silent})


def test_what_an_operator_does_is_recorded_by_name(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    desk.house.queue.held.clear()
    letter, other = bury(desk, connection_id=connection.id), bury(desk, connection_id=connection.id)
    authorization, value = kept_code(desk)
    for words in (
        ("confirm", authorization, "--user", "ada", "--confirmation", value),
        ("sync", connection.id),
        ("refresh", connection.id),
        ("disconnect", connection.id),
        ("events", "replay", "--since", "1h", "--user", "ada"),
        ("dead-letters", "retry", letter),
        ("dead-letters", "drop", other),
        ("provider", "pause", "breezedoc"),
        ("provider", "resume", "breezedoc"),
        ("provider", "hold", "breezedoc"),
        ("provider", "release", "breezedoc"),
        ("provider", "hold", "breezedoc"),
        ("provider", "accept", "breezedoc"),
        ("webhooks", "add", "https://app.example/w", "--name", "app"),
        *(("webhooks", word, "app") for word in ("rotate", "pause", "resume", "retry", "remove")),
        ("keys", "rotate"),
        ("gateway-key", "billing", "--token"),
    ):
        assert desk.type(*words).exit_code == 0, words
    assert type_token(desk.house.control.personal_token(1), "bob")[0] == 0
    own = f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    lines = [line for line in export(desk) if line["actor"] == own]
    assert [line["action"] for line in lines] == [
        *["command.received"] * 4,
        "events.replayed",
        "dead_letter.retried",
        "dead_letter.dropped",
        "provider.paused",
        "provider.resumed",
        "provider.held",
        "provider.released",
        "provider.held",
        "provider.accepted",
        *(f"webhook.{word}" for word in ("added", "rotated", "paused", "resumed", "retried", "removed")),
        "key.rotated",
        "gateway_key.made",
        "connection.authorized",
    ]
    assert {line["action"] for line in lines} == set(changing.values())
    assert [line["detail"]["command"] for line in lines[:4]] == ["confirm", "sync", "refresh", "disconnect"]
    assert {line["detail"]["channel"] for line in lines[:4]} == {"cli"}
    assert {line["user_id"] for line in lines[:7]} == {"ada"}
    assert {line["connection_id"] for line in (*lines[1:4], *lines[5:7])} == {connection.id}
    assert lines[-3]["detail"] == {"key": "k1", "resealed": 0, "unopened": 0}


def test_an_operator_without_a_name_is_the_command_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(pwd, "getpwuid", fail)
        assert desk.type("keys", "rotate").exit_code == 0
    assert export(desk)[-1]["actor"] == "cli"


def test_a_dead_letter_that_is_gone_leaves_no_line(desk: Desk) -> None:
    assert desk.type("dead-letters", "drop", "nothing").exit_code == 3
    assert export(desk) == []


def test_lines_are_chosen_and_each_proves_itself(desk: Desk) -> None:
    for user in ("ada", "linus"):
        desk.house.connect(user, 1)
    chain(desk)
    lines = export(desk, "--since", "1h")
    assert len(lines) == 8
    for line in lines:
        own = line.pop("hash")
        hashed = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
        assert own == hashlib.sha256(hashed).hexdigest()
    assert [line["number"] for line in export(desk, "--user", "linus")] == [5, 6, 7, 8]
    assert [line["number"] for line in export(desk, "--action", "code.exchanged", "--limit", "1")] == [7]
    connection = lines[3]["connection_id"]
    assert [line["action"] for line in export(desk, "--connection", connection)] == ["connection.authorized"]
    shown = desk.type("audit", "--user", "ada").stdout
    assert ("code.exchanged" in shown, "linus" in shown) == (True, False)


def test_an_export_can_be_checked_without_this_program(desk: Desk) -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for days_ago, user in enumerate(("ada", "linus", "grace")):
        desk.house.connect(user, 1)
        chain(desk, 2 - days_ago)
    desk.house.connect("ida", 1)

    def check() -> str:
        exported = desk.type("audit", "--since", "3d", "--json").stdout
        checked = subprocess.run(
            [sys.executable, "-c", program], input=exported, capture_output=True, text=True, check=True
        )
        return checked.stdout

    assert check() == ""
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE audit SET user_id = 'mallory' WHERE id = 6"))
    assert check() == f"{now().date() - timedelta(days=1)} 2\n"


def test_a_whole_chain_is_reported_with_its_head(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    chain(desk, days_ago=1)
    desk.house.connect("linus", 1)
    chain(desk)
    desk.house.connect("grace", 1)
    report = desk.read("audit", "verify")
    assert (report["ok"], report["lines"], report["days"], report["unchained"], report["faults"]) == (True, 8, 2, 4, [])
    newest = [line for line in export(desk) if line["number"]][-1]
    assert (report["head"], report["number"]) == (newest["hash"], 4)
    assert desk.type("audit", "verify", "--head", report["head"], "--since", "1h").exit_code == 0
    assert report["head"] in desk.type("audit", "verify").stdout


def test_a_changed_line_is_named(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    chain(desk)
    head = desk.read("audit", "verify")["head"]
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE audit SET user_id = 'mallory' WHERE number = 2"))
    report = desk.read("audit", "verify", code=1)
    day = str(now().date())
    assert [(fault["day"], fault["number"], fault["problem"]) for fault in report["faults"]] == [(day, 2, "changed")]
    result = desk.type("audit", "verify")
    assert (result.exit_code, f"{day}, line 2" in result.stderr) == (1, True)
    assert desk.type("audit", "verify", "--head", head).exit_code == 1


def test_a_cut_end_shows_by_a_head_that_was_noted(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    chain(desk)
    head = desk.read("audit", "verify")["head"]
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("DELETE FROM audit WHERE number > 2"))
    assert desk.type("audit", "verify").exit_code == 0
    assert desk.type("audit", "verify", "--head", head).exit_code == 1


def test_mistakes_are_wrong_usage(desk: Desk) -> None:
    assert desk.type("audit", "--since", "soon").exit_code == 2
    assert desk.type("audit", "--action", "token.stolen").exit_code == 2
    assert desk.type("audit", "--limit", "0").exit_code == 2
    assert desk.type("audit", "verify", "--since", "soon").exit_code == 2
