"""Small APIs that cut one list into pages, each in a way of its own, over a real socket."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

per_page = 2


@dataclass
class Asked:
    """A request as it came."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass
class Answer:
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class MadeUpApi:
    """An account and the list `/things` of one user. `cut` is how the list comes in pages."""

    cut: "Cut"
    account: Any = field(default_factory=lambda: {"id": 1, "email": "ida@example.com"})
    things: dict[int, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if asked.path == "/me":
            return Answer(self.account)
        return self.cut(self, asked) if asked.path.startswith("/things") else Answer({}, status=404)

    def rows(self, start: int = 0, most: int = per_page) -> list[Any]:
        """Return the records from one on, as this API writes them."""
        listed = sorted(self.things.items())[start : start + most]
        return [{"id": f"t{number}", "node": {"id": number}, "title": title} for number, title in listed]


Cut = Callable[[MadeUpApi, Asked], Answer]


def by_number(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer(api.rows((int(asked.query["page"]) - 1) * per_page))


def by_number_from_zero(api: MadeUpApi, asked: Asked) -> Answer:
    found = api.rows(int(asked.query["startPage"]) * per_page)
    return Answer({"result": {"values": found, "count": str(len(api.things))}})


def by_number_and_sign(api: MadeUpApi, asked: Asked) -> Answer:
    start = (int(asked.query["page"]) - 1) * per_page
    return Answer({"values": api.rows(start), "isMore": start + per_page < len(api.things)})


def by_offset(api: MadeUpApi, asked: Asked) -> Answer:
    """More are asked for than it gives."""
    assert asked.query["limit"] == "50"
    return Answer({"value": api.rows(int(asked.query["skip"])), "total": len(api.things)})


def by_cursor(api: MadeUpApi, asked: Asked) -> Answer:
    """Between two pages there is an empty one, as some filter after they cut."""
    start, _, filtered = asked.query.get("pageToken", "0=").partition("=")
    if filtered:
        return Answer({"items": [], "nextPageToken": f"{start}="})
    following = int(start) + per_page
    more = {"nextPageToken": f"{following}=filtered"} if following < len(api.things) else {}
    return Answer({"items": api.rows(int(start)), **more})


def by_last_record(api: MadeUpApi, asked: Asked) -> Answer:
    after = int(asked.query.get("starting_after", "0"))
    left = [row for row in api.rows(most=1000) if row["node"]["id"] > after]
    return Answer({"data": left[:per_page], "has_more": len(left) > per_page})


def by_link(api: MadeUpApi, asked: Asked) -> Answer:
    """The links lead to another path than the first page's."""
    start = int(asked.query.get("from", "0"))
    links = [f'<{api.url}/things?from=0>; rel="first"']
    if start + per_page < len(api.things):
        links.append(f'<{api.url}/things-of/17?from={start + per_page}>; rel="next"')
    return Answer(api.rows(start), {"Link": ", ".join(links)})


def by_link_in_the_body(api: MadeUpApi, asked: Asked) -> Answer:
    start = int(asked.query.get("$skip", "0"))
    more = start + per_page < len(api.things)
    return Answer({"value": api.rows(start), "@odata.nextLink": f"?$skip={start + per_page}" if more else None})


def all_at_once(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer(api.rows(most=1000))


@contextmanager
def serving_api(api: MadeUpApi) -> Iterator[MadeUpApi]:
    """Serve it until the block ends; its `url` is set meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            headers = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
            answer = api.answer(Asked(url.path, dict(parse_qsl(url.query)), headers))
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            with suppress(ConnectionError):
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: what was asked is in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
