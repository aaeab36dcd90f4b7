"""`breezesync confirm`, the clock that `explain` shows, and what `doctor` says of each mode."""

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from models.oauth.authorization import Confirmation
from models.oauth.confirmation import confirmation_of
from tests.cli.conftest import Desk


def kept_code(desk: Desk) -> tuple[str, str]:
    """The id of an authorization whose code waits for the application, and the value that confirms it."""
    callback = replace(desk.house.callback, confirmation=Confirmation.application)
    begun = callback.begin("breezedoc", desk.house.link("ada", return_to="https://app.example/"), {})
    back = desk.house.control.authorize(begun.location, 1)
    found = callback.finish("breezedoc", dict(parse_qsl(urlsplit(back).query)), {begun.flow: begun.binding})
    return found.id, confirmation_of(begun.binding)


def test_a_right_confirmation_lets_the_code_go(desk: Desk) -> None:
    authorization, value = kept_code(desk)
    confirmed = desk.read("confirm", authorization, "--user", "ada", "--confirmation", value)
    assert confirmed == {"authorization_id": authorization, "verdict": "accepted"}
    assert desk.read("confirm", authorization, "--user", "ada", "--confirmation", value)["verdict"] == "repeated"
    assert desk.house.sweep() > 0
    assert desk.read("explain", authorization)["authorization"]["step"] == "connected"
    assert "the application confirmed" in desk.type("explain", authorization).stdout


@pytest.mark.parametrize(("user", "spoilt"), [("eve", ""), ("ada", "x")])
def test_a_wrong_one_ends_it(desk: Desk, user: str, spoilt: str) -> None:
    authorization, value = kept_code(desk)
    refused = desk.type("confirm", authorization, "--user", user, "--confirmation", value + spoilt)
    assert (refused.exit_code, refused.stdout, value in refused.stderr) == (1, "", False)
    assert desk.read("explain", authorization)["authorization"]["reason"] == "not_confirmed"
    assert desk.type("confirm", authorization, "--user", "ada", "--confirmation", value).exit_code == 1


def test_what_is_not_there_or_not_said_has_an_exit_code_of_its_own(desk: Desk) -> None:
    assert desk.type("confirm", "nobody", "--user", "ada", "--confirmation", "x").exit_code == 3
    assert desk.type("confirm", "nobody", "--user", "ada").exit_code == 2


def test_the_clock_is_the_profile_s(desk: Desk) -> None:
    callback = desk.house.callback
    profiles = {"breezedoc": replace(desk.house.profile, code_seconds=90)}
    desk.house.callback = replace(callback, providers=profiles)
    authorization, _ = kept_code(desk)
    assert desk.read("explain", authorization)["next"][0].endswith(" seconds")


def test_explain_shows_the_clock_of_a_code_that_waits(desk: Desk) -> None:
    authorization, _ = kept_code(desk)
    report = desk.read("explain", authorization)
    assert "until the application confirms" in report["state"]
    assert ("not_confirmed" in report["next"][0], " minutes" in report["next"][0]) == (True, True)
    assert (report["authorization"]["confirmation"], report["authorization"]["confirmed_at"]) == ("application", None)


@pytest.mark.parametrize(("mode", "state"), [("application", "ok"), ("page", "ok"), ("off", "warn")])
def test_doctor_says_what_no_confirmation_risks(desk: Desk, mode: str, state: str) -> None:
    desk.set(CONNECT_CONFIRMATION=mode)
    [finding] = [each for each in desk.read("doctor")["checks"] if each["check"] == "confirmation"]
    assert (finding["state"], bool(finding["remedy"])) == (state, state == "warn")


def test_a_link_names_its_provider_and_its_person(desk: Desk) -> None:
    assert desk.type("connect-link", "ada", "--name", "Ada Lovelace").exit_code == 0
    refused = desk.type("connect-link", "ada", "--name", " ")
    assert (refused.exit_code, "--name" in refused.stderr) == (2, True)
