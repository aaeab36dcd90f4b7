"""Every control, through its client and through the page's forms, and what the counters then say."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import sandbox
from tests.sandbox.conftest import Application


def titles(app: Application, user_id: int = 1) -> dict[int, str]:
    return {document["id"]: document["title"] for document in app.control.documents(user_id)}


def read_document(app: Application, document_id: int, user_id: int = 1) -> Any:
    return app.get(f"/api/documents/{document_id}", app.control.personal_token(user_id)).json()


def test_a_new_user_has_as_many_records_as_asked(app: Application) -> None:
    user_id = app.control.add_user("Alan", documents=23, templates=2, invoices=4, email="alan@example.org")
    tokens = app.connect(user_id)
    counts = [app.get(f"/api/{kind}", tokens["access_token"]).json() for kind in ("documents", "templates", "invoices")]
    assert [page.get("total") or page["meta"]["total"] for page in counts] == [23, 2, 4]
    assert app.get("/api/me", tokens["access_token"]).json()["email"] == "alan@example.org"


def test_many_users_are_added_at_once(app: Application) -> None:
    ids = app.control.add_users(200, documents=1)
    assert len(set(ids)) == 200
    assert app.is_alive(app.control.grant(ids[-1]))


def test_a_document_is_edited_added_and_deleted(app: Application) -> None:
    before = titles(app)
    app.control.edit_document(1, 1001, "A better title")
    (added,) = app.control.add_documents(1, title="Brand new")
    app.control.delete_document(1, 1002)
    after = titles(app)
    expected = {number: title for number, title in before.items() if number not in (1001, 1002)}
    assert after == expected | {1001: "A better title", added: "Brand new"}
    assert read_document(app, 1001)["title"] == "A better title"


def test_an_edit_moves_updated_at(app: Application) -> None:
    before = read_document(app, 1001)["updated_at"]
    app.control.edit_document(1, 1001, "A better title")
    assert read_document(app, 1001)["updated_at"] > before


def test_recipients_open_and_complete(app: Application) -> None:
    (document_id,) = app.control.add_documents(1)
    recipient_id = read_document(app, document_id)["recipients"][0]["id"]
    app.control.send_document(1, document_id, recipient_id)
    app.control.open_document(1, document_id, recipient_id)
    assert read_document(app, document_id)["recipients"][0]["opened_at"] is not None
    app.control.complete_document(1, document_id)
    assert all(one["completed_at"] for one in read_document(app, document_id)["recipients"])


def test_an_invoice_is_paid(app: Application) -> None:
    app.control.set_invoice_status(1, 501, "paid")
    token = app.control.personal_token(1)
    assert app.get("/api/invoices/501", token).json()["data"]["status"] == "paid"


def test_a_team_is_added(app: Application) -> None:
    team = app.control.add_team(1, "Readers", documents=11)
    page = app.get(f"/api/teams/{team}/documents", app.control.personal_token(1)).json()
    assert page["total"] == 11


def test_a_users_grants_are_revoked_for_one_client_or_for_all(app: Application) -> None:
    app.control.add_client("second", "secret")
    first, second = app.control.grant(1), app.control.grant(1, "second")
    assert app.control.revoke_user(1, "second") == 1
    assert (app.is_alive(first), app.is_alive(second)) == (True, False)
    assert app.control.revoke_user(1) == 1
    assert not app.is_alive(first)


def test_a_changed_secret_counts_at_once(app: Application) -> None:
    token = app.connect()["refresh_token"]
    app.control.change_client("sandbox-client", client_secret="new")
    assert app.refresh(token).status_code == 401
    assert app.refresh(token, client_secret="new").status_code == 200


def test_redirect_uris_can_be_set(app: Application) -> None:
    app.control.change_client("sandbox-client", redirect_uris=["http://127.0.0.1:5/callback"])
    url = app.authorize_url(redirect_uri="http://127.0.0.1:5/callback")
    assert app.control.authorize(url).startswith("http://127.0.0.1:5/callback?code=")


def test_latency_is_added(app: Application) -> None:
    app.control.set(latency_ms=150)
    answer = app.get("/api/me", "garbage")
    assert answer.elapsed.total_seconds() >= 0.15


def test_reset_starts_over(app: Application) -> None:
    tokens = app.connect()
    app.control.set(passport=13)
    app.control.advance(1000)
    app.control.add_user()
    app.control.inject("api")
    app.control.reset()
    state = app.control.state()
    assert (state["settings"]["passport"], len(state["users"]), state["faults"]) == (12, 5, [])
    assert not app.is_alive(tokens)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda control: control.set(passport=11),
        lambda control: control.set(colour="red"),
        lambda control: control.set(refresh_reuse="maybe"),
        lambda control: control.advance(-1),
        lambda control: control.revoke_user(99),
        lambda control: control.edit_document(1, 99, "x"),
        lambda control: control.set_plan(1, "gold"),
        lambda control: control.delete_client("nobody"),
        lambda control: control.remove_fault(7),
        lambda control: control.grant(1, "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(app: Application, wrong: Callable[..., Any]) -> None:
    with pytest.raises(sandbox.ControlError):
        wrong(app.control)


def test_forms_work_without_script_and_come_back_to_the_page(app: Application) -> None:
    answers = [
        app.http.post("/_sandbox/settings", data={"passport": "13", "latency_ms": ""}),
        app.http.post("/_sandbox/users/1", data={"_method": "PATCH", "plan": "free"}),
        app.http.post("/_sandbox/users/1/documents", data={"_method": "PATCH", "document_id": "1001", "title": "T"}),
        app.http.post("/_sandbox/faults", data={"on": "api", "status": "500", "count": "", "match.user_id": "2"}),
    ]
    state = app.control.state()
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {(303, "/_sandbox")}
    assert (state["settings"]["passport"], state["users"][0]["plan"]) == (13, "free")
    assert titles(app)[1001] == "T"
    assert [(one["match"], one["count"]) for one in state["faults"]] == [({"user_id": "2"}, None)]


def test_another_sites_page_cannot_set_a_switch(app: Application) -> None:
    answer = app.http.post("/_sandbox/reset", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_counters_tell_each_presentation_and_its_outcome(app: Application) -> None:
    first = app.connect()
    app.control.inject("token", "before", "status", status=503)
    app.refresh(first["refresh_token"])
    app.refresh(first["refresh_token"], scope="*")
    second = app.refresh(first["refresh_token"]).json()
    app.refresh(first["refresh_token"])
    app.control.inject("token", "after", "drop")
    with pytest.raises(httpx.ReadError):
        app.refresh(second["refresh_token"])

    counters = app.control.counters()
    outcomes = [
        (token["generation"], token["state"], [(one["outcome"], one["fault"]) for one in token["presentations"]])
        for token in counters["refresh_tokens"]
    ]
    assert outcomes == [
        (
            1,
            "spent",
            [("not_reached", "before:503"), ("scope_rejected", None), ("rotated", None), ("reused", None)],
        ),
        (2, "spent", [("rotated", "after:drop")]),
        (3, "live", []),
    ]
    assert (counters["max_presentations"], counters["presentations"], counters["reuses"]) == (4, 5, 1)
    assert len({token["family"] for token in counters["refresh_tokens"]}) == 1
    assert [one["outcome"] for one in counters["codes"][0]["presentations"]] == ["exchanged"]
    assert counters["totals"]["/oauth/token"] == {"200": 2, "503": 1, "400": 1, "401": 1, "drop": 1}
    assert sum(counters["token_requests"].values()) == 6


def test_counters_tell_requests_per_user_and_route(app: Application) -> None:
    tokens = app.connect(2)
    for number in (1013, 1014, 1015):
        app.get(f"/api/documents/{number}", tokens["access_token"])
    counters = app.control.counters(tokens=False)
    assert sum(counters["api_requests"]["2"].values()) == 3
    assert sum(counters["totals"]["/api/documents/{id}"].values()) == 3
    assert counters["live"] == {"2": {"families": 1, "access_tokens": 1, "refresh_tokens": 1}}
    assert "refresh_tokens" not in counters


def test_counters_never_hold_a_token_value(app: Application) -> None:
    tokens = app.connect()
    app.refresh(tokens["refresh_token"])
    text = app.http.get("/_sandbox/counters").text + app.http.get("/_sandbox/state").text
    assert not any(value[:40] in text for value in (tokens["refresh_token"][8:], tokens["access_token"][-60:]))
    assert app.provider.client_secret not in text


def test_counters_can_be_reset_without_losing_tokens(app: Application) -> None:
    tokens = app.connect()
    app.control.reset_counters()
    assert app.control.counters()["totals"] == {}
    assert app.is_alive(tokens)


def test_many_threads_share_one_control(app: Application) -> None:
    app.control.set(token_rate_limit=0)
    with ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(lambda number: app.control.grant(number % 4 + 1), range(64)))
        rotated = list(pool.map(lambda one: app.refresh(one["refresh_token"]).status_code, tokens))
    assert set(rotated) == {200}
    assert app.control.counters()["max_presentations"] == 1


def test_the_page_lists_documents_and_signs_declines_and_expires(app: Application) -> None:
    tokens = app.connect()
    page = app.http.get("/_sandbox").text
    for path in ("documents/1012/complete", "documents/1011/decline", "expire"):
        assert f'action="/_sandbox/users/1/{path}"' in page
        assert app.http.post(f"/_sandbox/users/1/{path}", data={}, headers=FORM).status_code == 303
    signed, declined = (app.control.documents(1)[number] for number in (11, 10))
    assert all(one["completed_at"] for one in signed["recipients"])
    assert not any(one["completed_at"] for one in declined["recipients"])
    assert "1011 · declined" in app.http.get("/_sandbox").text
    assert not app.is_alive(tokens)
    assert "and 985 older ones" in page


def test_the_page_starts_and_ends_outages_and_replaces_keys(app: Application) -> None:
    tokens = app.connect()
    app.http.post("/_sandbox/outage", data={"on": "token", "kind": "502"})
    app.http.post("/_sandbox/keys/replace", data={}, headers=FORM)
    page = app.http.get("/_sandbox").text
    assert "token: 502, 0 requests hit" in page
    assert "Restore the keys" in page
    app.http.post("/_sandbox/outage", data={"_method": "DELETE", "on": "token"})
    app.http.post("/_sandbox/keys/restore", data={}, headers=FORM)
    assert app.refresh(tokens["refresh_token"]).status_code == 200


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
