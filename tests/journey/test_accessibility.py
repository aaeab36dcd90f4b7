"""Every page of ours in a real browser, held to WCAG 2.2 AA by axe-core, with the headers that it is served with."""

import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage
from playwright.sync_api import Route as PageRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.processes import CHECKOUT
from tests.servers import skip_unless_ci, wait_until
from worker.web.app import open_pages, read_style
from worker.web.headers import SecureHeaders, headers_of_pages
from worker.web.start import Question

axe = CHECKOUT / "node_modules/axe-core/axe.min.js"
pages = open_pages()
names = sorted(name for name in pages.list_templates() if name != "page.html")
values = {
    "provider": "BreezeDoc",
    "application": "The application",
    "reason": "account_mismatch",
    "title": "It took too long",
    "advice": "The connection was not made in time. Go back to the application and start again from there.",
    "asked": Question("The application", "BreezeDoc", "Ada Lovelace (user-4711)", "f", "t", None),
    "action": "breezedoc/start",
    "back": "https://app.example/settings?status=failed",
}
follows_without_script = "meta-refresh"
"""The rule that the waiting page breaks: it has no script, and nothing on it that takes time to read."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The pages behind a server: its URL."""

    def show(request: Request) -> Response:
        return HTMLResponse(pages.get_template(request.path_params["name"]).render(**values))

    headers = headers_of_pages(read_style(pages), https=False)
    app = SecureHeaders(Starlette(routes=[Route("/{name}", show)]), headers)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, "the pages are served")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def rules() -> str:
    if not Path(axe).exists():
        skip_unless_ci("axe-core is not installed: make lint-docs installs it")
    return axe.read_text()


def note(said: list[str], message: ConsoleMessage) -> None:
    said.append(message.text)


def stay(route: PageRoute) -> None:
    """Answer with the page, but have it load itself again so late that it can be examined first."""
    response = route.fetch()
    route.fulfill(response=response, body=re.sub(r'(http-equiv="refresh" content=")\d+', r"\g<1>600", response.text()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_used_by_everyone(browser: Browser, site: str, rules: str, scheme: Any) -> None:
    broken: dict[str, Any] = {}
    with browser.new_context(color_scheme=scheme, viewport={"width": 320, "height": 640}) as context:
        for name in names:
            page = context.new_page()
            said: list[str] = []
            page.on("console", partial(note, said))
            page.route("**/pending.html", stay)
            page.goto(f"{site}/{name}")
            page.evaluate(rules)
            found: dict[str, Any] = page.evaluate("axe.run()")
            expected = [follows_without_script] if name == "pending.html" else []
            broken[name] = [rule["id"] for rule in found["violations"] if rule["id"] not in expected] + said
            assert len(found["passes"]) > 10
            assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "14px", name
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert {name: rules for name, rules in broken.items() if rules} == {}
