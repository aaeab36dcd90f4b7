"""A web application that is served in a thread, and what a browser does there, without a browser."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urljoin

import httpx
import uvicorn
from starlette.types import ASGIApp

from tests.servers import wait_until


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The application behind uvicorn in a thread of this process, at a free port if none is given: its URL."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, "uvicorn listens")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def fields_of(page: str) -> dict[str, str]:
    """Return the hidden fields of the page's form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def answer_page(browser: httpx.Client, page: httpx.Response, answer: str = "continue") -> httpx.Response:
    """Click on a button of our page, as a browser does: with its cookies, and the page's form."""
    action = re.search(r'<form method="post" action="([^"]*)">', page.text)
    assert action is not None, page.text
    form = {**fields_of(page.text), "answer": answer}
    return browser.post(urljoin(str(page.url), action[1]), data=form, headers={"Sec-Fetch-Site": "same-origin"})


def follow_link(browser: httpx.Client, link: str) -> str:
    """Open a link, click through our page if it asks, and return the provider's URL."""
    opened = browser.get(link)
    if opened.status_code == 200:
        opened = answer_page(browser, opened)
    assert opened.status_code in (302, 303), opened.text
    return str(opened.headers["location"])
