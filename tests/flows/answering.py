"""An API that answers whatever a test wants it to, over a real socket."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness import House

Answer = tuple[int, Iterable[bytes]]


@dataclass
class Answering:
    """`answers` maps a path to what its page of that number gets; every other path is an empty list."""

    account: int
    answers: dict[str, Callable[[int], Answer]]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, target: str) -> Answer:
        self.asked.append(target)
        url = urlsplit(target)
        page = int(parse_qs(url.query).get("page", ["1"])[0])
        if url.path in self.answers:
            return self.answers[url.path](page)
        if url.path == "/me":
            return as_json({"id": self.account, "email": "ida@example.com"})
        nested = url.path in ("/recipients", "/invoices")
        return as_json(nest(list_page([], page=page)) if nested else list_page([], page=page))


def as_json(body: object) -> Answer:
    return 200, [json.dumps(body).encode()]


def list_page(elements: list[Any], *, page: int = 1, last: int = 1, total: int | None = None, **more: Any) -> Any:
    """A flat page; `total` is as many as stand on it, unless told otherwise."""
    count = len(elements) if total is None else total
    return {"current_page": page, "data": elements, "last_page": last, "total": count, **more}


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    return {"data": flat["data"], "meta": {name: value for name, value in flat.items() if name != "data"}}


@contextmanager
def answering(house: House, account: int, answers: dict[str, Callable[[int], Answer]]) -> Iterator[Answering]:
    """The house's sync reads from this API until the block ends."""
    told = Answering(account, answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, chunks = told.answer(self.path)
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                for chunk in chunks:
                    self.wfile.write(chunk)

        def log_message(self, *_: Any) -> None:
            """Nothing: what was asked stands in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    client = house.flows.sync.providers["breezedoc"]
    before = client.provider
    told.url = f"http://127.0.0.1:{server.server_port}"
    client.provider = replace(before, api_url=told.url)
    try:
        yield told
    finally:
        client.provider = before
        server.shutdown()
        server.server_close()
        thread.join()
