"""Mallory signs a link for his own user and sends it to someone else, in a real browser, in each mode."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import sandbox
from models.oauth.authorization import Confirmation
from tests.browsing import serving
from tests.databases import create_sqlite
from tests.harness import House, build_house
from tests.servers import reserved_port
from worker.web.app import build_app

ADA = 1
"""The victim's account at the provider."""


@dataclass
class Stage:
    """Ada's browser, in which she is logged in at the provider and has allowed access before; Mallory's house."""

    house: House
    page: Page
    url: str
    application: str
    arrived: list[Mapping[str, str]]

    def open_link(self, user: str, **claims: str) -> None:
        self.page.goto(f"{self.url}/auth/breezedoc?token={self.house.link(user, **claims)}")

    def connect_ada(self) -> None:
        """Ada connects her own account, in the usual way; from now on the provider asks her nothing."""
        self.open_link("ada", return_to=self.application)
        if self.page.locator("#continue").count():
            self.page.click("#continue")
        self.page.click(f"#login-{ADA}")
        self.page.click("#allow")
        self.confirm_as("ada")
        assert self.connected() == [("ada", "1")]
        # The page leads her back by itself, which would interrupt what the browser is told to open next.
        self.page.wait_for_url(f"{self.application}**", timeout=15_000)
        self.house.control.reset_counters()
        self.arrived.clear()

    def confirm_as(self, session_user: str) -> None:
        """The application confirms with the user of its session what the browser brought to it, if it did."""
        for brought in self.arrived:
            if "confirmation" in brought:
                ids = {name: brought[name] for name in ("authorization_id", "confirmation")}
                self.house.flows.confirm(user_id=session_user, **ids)

    def connected(self) -> list[tuple[str, str]]:
        """Whose account which of the application's users has now."""
        self.house.sweep()
        with self.house.store.reading() as tx:
            return [(found.user_id, found.account_id) for found in tx.connections.find()]

    def count_token_requests(self) -> int:
        return sum(self.house.control.counters()["totals"].get("/oauth/token", {}).values())


@contextmanager
def staged(browser: Browser, directory: Path, mode: Confirmation) -> Iterator[Stage]:
    """Serve everything; the application logs what a browser brings it, and Ada has connected her account before."""
    arrived: list[Mapping[str, str]] = []

    def note_arrival(request: Request) -> Response:
        arrived.append(dict(request.query_params))
        return HTMLResponse("<h1>The application</h1>")

    with reserved_port() as port, serving(Starlette(routes=[Route("/", note_arrival)])) as application:
        url = f"http://127.0.0.1:{port}"
        redirect_uri = f"{url}/auth/breezedoc/callback"
        with sandbox.running(redirect_uris=(redirect_uri,)) as provider, browser.new_context() as context:
            house = build_house(create_sqlite(directory / "b.db"), provider, directory / "spool")
            clients = {
                name: replace(client, redirect_uri=redirect_uri) for name, client in house.callback.clients.items()
            }
            house.callback = replace(
                house.callback,
                clients=clients,
                return_origins=frozenset({application}),
                confirmation=mode,
                app_name="Papertrail",
            )
            with closing(house), serving(build_app(house.callback), port) as served:
                stage = Stage(house, context.new_page(), served, f"{application}/", arrived)
                stage.connect_ada()
                yield stage


def test_without_a_confirmation_one_visit_gives_mallory_the_victims_account(browser: Browser, tmp_path: Path) -> None:
    with staged(browser, tmp_path, Confirmation.off) as stage:
        stage.open_link("mallory", name="Mallory M.")
        assert stage.connected() == [("ada", "1"), ("mallory", "1")]
        assert stage.house.told("connection.authorized")[-1]["also_connected_by"] == ["ada"]
        expect(stage.page.locator("#connected")).to_be_visible(timeout=15_000)


@pytest.mark.parametrize("answer", ["closes the page", "says that it is not her"])
def test_a_page_shows_mallorys_name_and_nothing_happens_without_a_click(
    browser: Browser, tmp_path: Path, answer: str
) -> None:
    with staged(browser, tmp_path, Confirmation.page) as stage:
        stage.open_link("mallory", name="Mallory M.")
        shown = stage.page.locator("#confirm").inner_text()
        assert [word for word in ("Mallory M.", "Papertrail", "BreezeDoc") if word not in shown] == []
        if answer == "says that it is not her":
            stage.page.click("#not-me")
            expect(stage.page.locator("#not-me-said")).to_be_visible()
            [failed] = stage.house.told("connection.authorization_failed")
            assert (failed["user_id"], failed["reason"]) == ("mallory", "not_confirmed")
        stage.house.turn(minutes=11)
        assert stage.connected() == [("ada", "1")]
        assert stage.count_token_requests() == 0


def test_an_application_that_knows_its_session_keeps_the_code_from_ever_leaving(
    browser: Browser, tmp_path: Path
) -> None:
    with staged(browser, tmp_path, Confirmation.application) as stage:
        stage.open_link("mallory", name="Mallory M.", return_to=stage.application)
        assert urlsplit(stage.page.url).path == "/", "the code is there, and the application has been asked"
        assert stage.connected() == [("ada", "1")]
        stage.confirm_as("ada")
        [failed] = stage.house.told("connection.authorization_failed")
        assert (failed["user_id"], failed["reason"]) == ("mallory", "not_confirmed")
        assert stage.connected() == [("ada", "1")]
        assert stage.count_token_requests() == 0


def test_a_click_leads_through_the_provider_to_another_origin(browser: Browser, tmp_path: Path) -> None:
    """Browsers hold what follows a form against `form-action`: provider, our callback and application, all in one."""
    with staged(browser, tmp_path, Confirmation.page) as stage:
        stage.open_link("ada", return_to=stage.application)
        stage.page.click("#continue")
        stage.house.work()
        stage.page.wait_for_url(f"{stage.application}**", timeout=15_000)
        assert dict(parse_qsl(urlsplit(stage.page.url).query))["status"] == "connected"
