"""What a sandbox with a state file still knows after a restart, and after being killed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import sandbox
from sandbox.keeping import KeptStateError, load_state
from sandbox.settings import Settings
from sandbox.state import SandboxState
from tests.sandbox.conftest import Application


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "sandbox.json"


def test_grants_accounts_documents_and_clock_outlive_a_restart(file: Path, start: Callable[..., Application]) -> None:
    first = start(state_file=str(file))
    control = first.control
    spent = first.connect(1)
    tokens = first.refresh(spent["refresh_token"]).json()
    code, personal = first.obtain_code(2), control.personal_token(1)
    team = control.add_team(1, "Readers", documents=3)
    user = control.add_user("Mary", documents=2, plan="free")
    control.set_plan(5, "pro")
    control.edit_document(1, 1002, "Renamed")
    control.delete_document(1, 1003)
    control.complete_document(1, 1004)
    control.decline_document(1, 1005)
    control.set_invoice_status(1, 501, "void")
    control.add_client("second", "its-secret")
    control.advance(500)
    read = {path: first.get(path, personal).json() for path in ("/api/recipients", "/api/invoices", "/api/templates")}
    before = control.state()

    second = start(state_file=str(file))
    after = second.control.state()

    assert {name: after[name] for name in ("users", "teams", "clients")} == {
        name: before[name] for name in ("users", "teams", "clients")
    }
    assert (team, user) == (3, 6)
    assert 0 <= after["now"] - before["now"] < 60
    assert second.is_alive(tokens)
    assert not second.is_alive(spent)
    assert second.refresh(spent["refresh_token"]).json()["hint"] == "Token has been revoked"
    assert second.refresh(tokens["refresh_token"]).status_code == 200
    assert second.exchange(code).status_code == 200
    assert second.control.documents(1) == control.documents(1)
    for path, page in read.items():
        again = second.get(path, personal).json()
        assert json.dumps(again).count('"id"') == json.dumps(page).count('"id"')
        assert [one["updated_at"] for one in again["data"]] == [one["updated_at"] for one in page["data"]]
    assert second.control.add_documents(1) > [1000]
    assert second.control.counters()["presentations"] == 2


def test_each_change_is_in_the_file_before_its_answer(file: Path, start: Callable[..., Application]) -> None:
    app = start(state_file=str(file))
    tokens = app.connect()
    app.control.inject("token", "middle", "status")
    app.refresh(tokens["refresh_token"])

    read = SandboxState(Settings())
    load_state(read, file)
    refresh = read.grants.find_refresh(tokens["refresh_token"])

    assert refresh is not None
    assert refresh.revoked
    assert list(file.parent.iterdir()) == [file]


def test_the_file_has_no_token_in_it_and_only_its_owner_reads_it(file: Path, start: Callable[..., Application]) -> None:
    app = start(state_file=str(file))
    tokens = app.connect()
    assert tokens["refresh_token"] not in file.read_text()
    assert tokens["access_token"] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_replaced_keys_stay_replaced(file: Path, start: Callable[..., Application]) -> None:
    app = start(state_file=str(file))
    tokens = app.connect()
    app.control.replace_keys()
    second = start(state_file=str(file))
    assert not second.is_alive(tokens)
    second.control.restore_keys()
    assert second.is_alive(tokens)


def test_a_reset_is_kept_too_and_the_options_of_the_start_win(file: Path, start: Callable[..., Application]) -> None:
    app = start(state_file=str(file))
    tokens = app.connect()
    app.control.reset()
    second = start(state_file=str(file), client_secret="other", redirect_uris=("http://127.0.0.1:5/x",))
    assert not second.is_alive(tokens)
    assert second.connect(1)["access_token"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_file_that_is_no_kept_state_is_named(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(KeptStateError, match=re.escape(str(file))):
        load_state(SandboxState(Settings()), file)


def test_without_a_state_file_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Application]
) -> None:
    monkeypatch.chdir(tmp_path)
    app = start()
    app.connect()
    assert not list(tmp_path.iterdir())
    assert isinstance(app.provider, sandbox.Running)
