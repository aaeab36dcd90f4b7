"""The shipped profiles at servers that behave as their providers say: connected, read, changed, deleted, refreshed."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from config.profiles import profile_directories, read_profile
from models.crypto.vault import Vault, new_key
from models.migrations import migrate
from models.oauth.connection import Connection, Status
from models.store import Store
from tests.browsing import serving
from tests.databases import open_fast_engine
from tests.harness import Clock, House, join_house

Record = dict[str, Any]


@dataclass
class Server:
    """An authorization server with an API behind it.

    lists: the records of each path, by id.
    is_basic: whether the client authenticates by HTTP Basic, else in the body.
    lasts: whether access tokens never expire; then there are no refresh tokens.
    rotates: whether a refresh token works once; presented again, it ends all tokens of its family.
    page: writes one page of a list: the records, and where the next page begins, if there is one.
    """

    account_path: str
    account: Record
    lists: dict[str, dict[str, Record]]
    page: "Callable[[Server, Request, list[Record], int | None], Response]"
    size: int = 2
    is_basic: bool = False
    lasts: bool = False
    rotates: bool = False
    header: tuple[str, str] = ("accept", "application/json")
    cursor_parameter: str = "page"
    client_id: str = "client"
    client_secret: str = "s3cret:"
    redirect_uri: str = "http://127.0.0.1:8700/auth/NAME/callback"
    url: str = ""
    challenge: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    refresh_tokens: set[str] = field(default_factory=set)
    presented: Counter[str] = field(default_factory=Counter)
    code: str = ""

    def consent(self, location: str) -> dict[str, str]:
        """Return what the browser brings back after the user's yes."""
        self.asked = dict(parse_qsl(urlsplit(location).query))
        self.challenge, self.code = self.asked["code_challenge"], uuid4().hex
        return {"code": self.code, "state": self.asked["state"]}

    async def token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if self._client_of(request, form) != (self.client_id, self.client_secret):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form["grant_type"] == "authorization_code":
            verified = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
            if form["code"] != self.code or verified.decode() != self.challenge:
                return JSONResponse({"error": "invalid_grant"}, 400)
            return self.grant(first=True)
        token = form["refresh_token"]
        self.presented[token] += 1
        if token not in self.refresh_tokens:
            self.alive.clear()
            return JSONResponse({"error": "invalid_grant"}, 400)
        if self.rotates:
            self.alive.clear()
            self.refresh_tokens.clear()
        return self.grant(first=self.rotates)

    def _client_of(self, request: Request, form: Mapping[str, str]) -> tuple[str, str]:
        if not self.is_basic:
            return form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        given = base64.b64decode(pair).decode() if scheme == "Basic" else ":"
        [(name, secret)] = parse_qsl(given.replace(":", "=", 1), keep_blank_values=True)
        return name, secret

    def grant(self, *, first: bool) -> Response:
        access_token = uuid4().hex
        self.alive.add(access_token)
        answer: Record = {"access_token": access_token, "token_type": "bearer", "scope": self.asked["scope"]}
        if not self.lasts:
            answer["expires_in"] = 3600
            if first:
                answer["refresh_token"] = uuid4().hex
                self.refresh_tokens.add(answer["refresh_token"])
        return JSONResponse(answer)

    async def api(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        name, expected = self.header
        if scheme != "Bearer" or token not in self.alive:
            return JSONResponse({"error": "unauthorized"}, 401)
        if request.headers.get(name) != expected:
            return JSONResponse({"message": f"send {name}: {expected}"}, 415)
        if request.url.path == self.account_path:
            return JSONResponse(self.account)
        records = self.lists[request.scope["path"]]
        start = int(request.query_params.get(self.cursor_parameter, "0") or 0)
        page = list(records.values())[start : start + self.size]
        following = start + self.size if start + self.size < len(records) else None
        return self.page(self, request, page, following)


def page_of_github(server: Server, request: Request, page: list[Record], following: int | None) -> Response:
    query = urlencode(dict(request.query_params) | {"page": following})
    link = f'<{server.url}{request.url.path}?{query}>; rel="next", <{server.url}/x>; rel="last"'
    return Response(json.dumps(page), headers={"Link": link} if following else {}, media_type="application/json")


def page_of_google(server: Server, request: Request, page: list[Record], following: int | None) -> Response:
    more = {"nextPageToken": str(following)} if following else {"nextSyncToken": "s"}
    return JSONResponse({"kind": "calendar#list", "items": page} | more)


def page_of_airtable(server: Server, request: Request, page: list[Record], following: int | None) -> Response:
    return JSONResponse({"bases": page} | ({"offset": str(following)} if following else {}))


def things(form: str, count: int, **fields: Any) -> dict[str, Record]:
    names = [form.format(number) for number in range(1, count + 1)]
    return {name: {"id": int(name) if name.isdigit() else name, **fields, "name": f"Thing {name}"} for name in names}


def github() -> Server:
    lists = {"/user/repos": things("10{}", 5), "/issues": things("20{}", 1), "/user/orgs": {}}
    return Server(
        account_path="/user",
        account={"id": 7, "login": "ada", "email": None},
        lists=lists,
        page=page_of_github,
        lasts=True,
        header=("x-github-api-version", "2022-11-28"),
    )


def google() -> Server:
    """Two calendars have an event of the same id, and one of them a name that has to be encoded in a path."""
    calendars, events = "/calendar/v3/users/me/calendarList", "/calendar/v3/calendars/{}/events"
    return Server(
        account_path="/v1/userinfo",
        account={"sub": "110", "email": "ada@example.com"},
        lists={
            calendars: things("c{}#holiday@group", 3),
            events.format("c1#holiday@group"): things("e{}", 5),
            events.format("c2#holiday@group"): things("e{}", 1),
            events.format("c3#holiday@group"): {},
        },
        page=page_of_google,
        cursor_parameter="pageToken",
    )


def airtable() -> Server:
    return Server(
        account_path="/v0/meta/whoami",
        account={"id": "usr1", "email": "ada@example.com"},
        lists={"/v0/meta/bases": things("app{}", 5)},
        page=page_of_airtable,
        is_basic=True,
        rotates=True,
        cursor_parameter="offset",
    )


@dataclass(frozen=True)
class Case:
    """A server, and one of its lists.

    records: how many records all lists have.
    parent: what comes before the list's ids, and `elsewhere` how many records its resource has in other lists.
    """

    make: Callable[[], Server]
    path: str
    resource: str
    records: int
    parent: str = ""
    elsewhere: int = 0


cases = {
    "github": Case(github, "/user/repos", "repository", 6),
    "google_calendar": Case(
        google, "/calendar/v3/calendars/c1#holiday@group/events", "event", 9, "c1#holiday@group/", 1
    ),
    "airtable": Case(airtable, "/v0/meta/bases", "base", 5),
}


@pytest.fixture(params=cases)
def scene(request: pytest.FixtureRequest, migrated_url: str, tmp_path: Path) -> Iterator[tuple[House, Server, Case]]:
    """The profile of that name as it is shipped, but for the addresses of its server."""
    name, case = request.param, cases[request.param]
    server = case.make()
    server.redirect_uri = server.redirect_uri.replace("NAME", name)
    app = Starlette(routes=[Route("/token", server.token, methods=["POST"]), Route("/{path:path}", server.api)])
    with ExitStack() as stack:
        server.url = stack.enter_context(serving(app))
        urls = {"AUTHORIZE_URL": "/authorize", "TOKEN_URL": "/token", "API_URL": "", "REVOKE_URL": None}
        overrides = {f"{name.upper()}_{key}": "" if at is None else server.url + at for key, at in urls.items()}
        shipped = read_profile(name, overrides, profile_directories())
        profile = at_one_server(shipped, server.url)
        engine = open_fast_engine(migrated_url)
        migrate(engine, [profile])
        running: Any = server
        house = join_house(Store(engine), running, profile, Vault((new_key("k1"),)), Clock(), tmp_path / "spool")
        stack.callback(house.close)
        yield house, server, case


def at_one_server(profile: Any, url: str) -> Any:
    """Return the profile with every other host of its resources replaced by this one."""
    resources = tuple(replace(each, api_url=url if each.api_url else "") for each in profile.resources)
    return replace(profile, resources=resources)


def connect(house: House, server: Server) -> Connection:
    begun = house.callback.begin(house.profile.name, house.link("ada"), {})
    query = server.consent(begun.location)
    authorization = house.callback.finish(house.profile.name, query, {begun.flow: begun.binding})
    house.work()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization.id)
    assert found is not None
    assert found.connection_id is not None, found
    return house.connection(found.connection_id)


def sync(house: House, connection: Connection) -> list[tuple[str, str]]:
    """Read it, and return the record events that are new."""
    before = len(records_told(house))
    house.clock.turn(timedelta(hours=2))
    house.sweep()
    house.work()
    house.flows.sync(connection.id)
    house.work()
    return records_told(house)[before:]


def records_told(house: House) -> list[tuple[str, str]]:
    return [(e["type"], e["external_id"]) for e in house.told() if e["type"].startswith("record.")]


def test_an_account_is_connected_read_and_kept_by_its_profile_alone(scene: tuple[House, Server, Case]) -> None:
    house, server, case = scene
    connection = connect(house, server)
    things = server.lists[case.path]
    assert (connection.status, connection.account_id) == (
        Status.active,
        str(server.account.get("id", server.account.get("sub"))),
    )
    assert len(records_told(house)) == case.records + 1, "and the account"
    first, *_, last = things
    assert sync(house, connection) == [], "nothing changed"
    things[first]["name"] = "Another name"
    assert sync(house, connection) == [("record.updated", case.parent + first)]
    del things[last]
    assert sync(house, connection) == [("record.deleted", case.parent + last)]
    assert house.connection(connection.id).status is Status.active
    if server.lasts:
        assert house.connection(connection.id).expires_at is None
    else:
        assert house.connection(connection.id).generation > 1, "two hours are longer than a token lives"
    if server.rotates:
        assert set(server.presented.values()) == {1}
    with house.store.reading() as tx:
        rows = tx.sql.exec_driver_sql(f"SELECT * FROM {house.profile.name}_{case.resource}").all()
    assert len(rows) == len(things) + case.elsewhere
    server.alive.clear()
    server.refresh_tokens.clear()
    assert sync(house, connection) == []
    told = [event["reason"] for event in house.told("connection.reauthorization_required")]
    assert told == ["access_revoked" if server.lasts else "refresh_rejected"], "whichever is met first"
