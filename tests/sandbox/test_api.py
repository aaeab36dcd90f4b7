"""The API's records, page formats, orders and refusals."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.sandbox.conftest import Application

FLAT = {
    "current_page",
    "data",
    "first_page_url",
    "from",
    "last_page",
    "last_page_url",
    "links",
    "next_page_url",
    "path",
    "per_page",
    "prev_page_url",
    "to",
    "total",
}


@pytest.fixture
def read(app: Application) -> Callable[..., Any]:
    """Reads a path as a user, without limits; answers the JSON."""
    app.control.set(rate_limit=0)
    tokens: dict[int, str] = {}

    def read_one(path: str, user_id: int = 1, status: int = 200) -> Any:
        token = tokens.get(user_id) or tokens.setdefault(user_id, app.control.personal_token(user_id))
        answer = app.get(path, token)
        assert answer.status_code == status
        return answer.json()

    return read_one


@pytest.fixture
def write(app: Application) -> Callable[..., Any]:
    """Posts to a path as Ada; answers the JSON."""
    token = app.control.personal_token(1)

    def write_one(path: str, status: int = 200, **fields: Any) -> Any:
        answer = app.http.post(f"/api/{path}", headers={"Authorization": f"Bearer {token}"}, json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    return write_one


def test_me_is_the_tokens_user_under_both_bases(read: Callable[..., Any]) -> None:
    assert read("/api/me", 2) == read("/v1/me", 2) == {"id": 2, "name": "Grace", "email": "grace@example.com"}


def test_either_base_can_be_switched_off(app: Application, read: Callable[..., Any]) -> None:
    app.control.set(serve_v1=False)
    read("/v1/me", status=404)
    read("/api/me")


@pytest.mark.parametrize(
    ("path", "user_id", "total"),
    [
        ("/api/documents", 1, 12),
        ("/api/documents", 3, 1000),
        ("/api/documents", 4, 0),
        ("/api/templates", 2, 5),
        ("/v1/teams/1/documents", 2, 8),
        ("/api/teams/2/templates", 2, 2),
    ],
)
def test_documents_templates_and_team_lists_are_flat_pages(
    read: Callable[..., Any], path: str, user_id: int, total: int
) -> None:
    page = read(path, user_id)
    assert set(page) == FLAT
    assert (page["total"], page["per_page"], page["current_page"]) == (total, 10, 1)
    assert page["last_page"] == max(1, -(-total // 10))
    assert len(page["data"]) == min(10, total)


@pytest.mark.parametrize("path", ["/api/recipients", "/api/invoices", "/api/documents/1001/recipients"])
def test_recipients_and_invoices_are_resource_collections(read: Callable[..., Any], path: str) -> None:
    page = read(path)
    assert set(page) == {"data", "links", "meta"}
    assert set(page["links"]) == {"first", "last", "prev", "next"}
    assert page["meta"]["current_page"] == 1
    assert page["meta"]["total"] >= len(page["data"]) > 0


@pytest.mark.parametrize("path", ["/api/documents", "/api/invoices"])
def test_following_next_reads_everything_once(app: Application, read: Callable[..., Any], path: str) -> None:
    token = app.control.personal_token(2)
    seen, url = [], path
    while url is not None:
        page = app.get(url, token).json()
        seen += [row["id"] for row in page["data"]]
        url = page["next_page_url"] if "next_page_url" in page else page["links"]["next"]
    total = page["total"] if "total" in page else page["meta"]["total"]
    assert len(seen) == len(set(seen)) == total


def test_a_page_beyond_the_last_is_empty(read: Callable[..., Any]) -> None:
    page = read("/api/documents?page=3")
    assert (page["data"], page["from"], page["to"], page["next_page_url"]) == ([], None, None, None)


@pytest.mark.parametrize("number", ["0", "-1", "x", "", "9" * 5000])
def test_a_page_number_that_is_none_reads_the_first(read: Callable[..., Any], number: str) -> None:
    assert read(f"/api/documents?page={number}")["current_page"] == 1


@pytest.mark.parametrize("path", ["/api/documents", "/api/invoices", "/api/recipients", "/api/templates"])
def test_direction_turns_the_order_by_id(read: Callable[..., Any], path: str) -> None:
    rising = [row["id"] for row in read(f"{path}?order_by=id&direction=asc", 2)["data"]]
    falling = [row["id"] for row in read(f"{path}?order_by=id&direction=desc", 2)["data"]]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert rising != falling


def test_recipients_can_be_ordered_and_filtered_by_completion(read: Callable[..., Any]) -> None:
    times = [row["completed_at"] for row in read("/api/recipients?order_by=completed_at&completed=true", 3)["data"]]
    assert None not in times
    assert times == sorted(times, reverse=True)
    unfinished = read("/api/recipients?completed=false", 3)["data"]
    assert {row["completed_at"] for row in unfinished} == {None}


def test_completed_documents_come_first_when_the_newest_completion_is_asked_for(read: Callable[..., Any]) -> None:
    documents = read("/api/documents?order_by=completed_at&direction=desc", 3)["data"]
    assert all(one["completed_at"] for document in documents for one in document["recipients"])


def test_invoices_can_be_filtered_by_status(read: Callable[..., Any]) -> None:
    assert {row["status"] for row in read("/api/invoices?status=paid", 3)["data"]} == {"paid"}


def test_a_single_invoice_comes_wrapped_and_a_single_document_does_not(read: Callable[..., Any]) -> None:
    invoice = read("/api/invoices")["data"][0]
    document = read("/api/documents")["data"][0]
    assert read(f"/api/invoices/{invoice['id']}") == {"data": invoice}
    assert read(f"/api/documents/{document['id']}")["title"] == document["title"]
    assert read(f"/api/templates/{read('/api/templates')['data'][0]['id']}")["is_template"] is True


def drop_signatures(value: str) -> str:
    return re.sub(r"X-Amz-[^\"]*", "", value)


def test_page_urls_are_new_on_every_read_and_nothing_else_is(app: Application, read: Callable[..., Any]) -> None:
    token = app.control.personal_token(1)
    first, second = (app.get("/api/documents/1001", token).text for _ in range(2))
    assert first != second
    assert "X-Amz-Signature=" in first
    assert drop_signatures(first) == drop_signatures(second)


def test_types_wobble(read: Callable[..., Any]) -> None:
    fields = [
        field
        for page in range(1, 5)
        for row in read(f"/api/documents?page={page}", 3)["data"]
        for field in row["fields"]
    ]
    properties = [field["properties"][field["field_type"]] for field in fields]
    assert {type(one["label"]) for one in properties} == {bool, str}
    assert {type(one["fontSize"]) for one in properties} == {int, str}
    assert {"slug" in field for field in fields} == {True, False}


def test_documents_vary_from_small_to_large(app: Application, read: Callable[..., Any]) -> None:
    token = app.control.personal_token(3)
    sizes = [len(app.get(f"/api/documents/{number}", token).content) for number in range(1100, 1300)]
    assert min(sizes) < 2_500
    assert 20_000 < max(sizes) < 40_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/documents/1", 404),
        ("/api/documents/1013", 404),
        ("/api/documents/1016", 403),
        ("/api/documents/1016/recipients", 403),
        ("/api/invoices/505", 403),
        ("/api/invoices/1", 404),
        ("/api/teams/1/documents", 403),
        ("/api/teams/9/templates", 404),
        ("/api/nothing", 404),
    ],
)
def test_what_is_missing_is_404_and_what_is_anothers_403(read: Callable[..., Any], path: str, status: int) -> None:
    assert set(read(path, status=status)) == {"message"}


def test_the_free_plan_has_no_api(app: Application, read: Callable[..., Any]) -> None:
    assert "plan" in read("/api/me", 5, status=403)["message"]
    app.control.set_plan(5, "pro")
    read("/api/me", 5)


def test_a_document_is_created_sent_and_not_sent_twice(app: Application, write: Callable[..., Any]) -> None:
    people = [{"name": "Mina Park", "email": "mina@example.com"}]
    made = write("documents", 201, title="Offer", recipients=[people[0] | {"party": 1}])
    assert (made["title"], made["recipients"][0]["sent_at"]) == ("Offer", None)
    sent = write(f"documents/{made['id']}/send", recipients=people)
    assert (sent["id"], sent["recipients"][0]["sent_at"] is None) == (made["id"], False)
    assert "already" in write(f"documents/{made['id']}/send", 400, recipients=people)["message"]
    assert app.control.documents(1)[-1]["id"] == made["id"]


def test_a_document_is_created_from_a_template(app: Application, write: Callable[..., Any]) -> None:
    token = app.control.personal_token(1)
    template = app.get("/api/templates", token).json()["data"][0]
    made = write(f"templates/{template['id']}/create-document", 201)
    assert (made["title"], "is_template" in made) == (template["title"], False)
    assert len(made["recipients"]) == len(template["recipients"])


@pytest.mark.parametrize(
    ("path", "fields", "errors"),
    [
        ("documents", {}, {"title"}),
        ("documents", {"title": "x" * 192}, {"title"}),
        ("documents", {"title": 7, "recipients": {}}, {"title", "recipients"}),
        (
            "documents",
            {"title": "x", "recipients": [{"name": "", "email": "nowhere", "party": "1"}]},
            {"recipients.0.name", "recipients.0.email", "recipients.0.party"},
        ),
        ("documents/1001/send", {}, {"recipients"}),
        ("documents/1001/send", {"recipients": [{"name": "A", "email": "a@b.c"}] * 9}, {"recipients"}),
    ],
)
def test_what_is_not_valid_is_422(
    write: Callable[..., Any], path: str, fields: dict[str, Any], errors: set[str]
) -> None:
    answer = write(path, 422, **fields)
    assert set(answer["errors"]) == errors
    assert answer["message"].startswith("The ")


def test_what_is_missing_or_anothers_is_not_written_to(write: Callable[..., Any]) -> None:
    write("documents/9999/send", 404, recipients=[])
    write("documents/1020/send", 403, recipients=[])
    write("templates/9999/create-document", 404)
    write("documents/1001", 405)


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer garbage", "Basic abc", "garbage"])
def test_a_bad_token_is_unauthenticated(app: Application, header: str | None) -> None:
    answer = app.http.get("/api/me", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthenticated."})


def test_an_expired_token_is_unauthenticated(app: Application) -> None:
    token = app.connect()["access_token"]
    app.control.advance(31_536_001)
    assert app.get("/api/me", token).status_code == 401


def test_a_bad_token_without_json_asked_for_is_sent_to_log_in(app: Application) -> None:
    answer = app.get("/api/me", "garbage", Accept="*/*")
    assert (answer.status_code, answer.headers["location"]) == (302, f"{app.provider.url}/login")
