"""The example application in a real browser: connected, read, told of a revocation, connected again."""

import ast
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import create_engine, text

from tests.examples.conftest import Ground
from tests.examples.consumers import EXAMPLES
from tests.processes import Fleet, Program
from tests.servers import Postgres, reserved_port, wait_until

A_PHONE = {"width": 390, "height": 844}
SOON = 20_000
"""Milliseconds that the page may take to show what happened."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The application beside its fleet; `account` is its user's at the provider."""

    url: str
    fleet: Fleet
    account: int


@pytest.fixture(scope="module")
def shop(ground: Ground, postgres: Postgres) -> Iterator[Shop]:
    """With a database of its own."""
    own = postgres.create_database()
    with running_shop(ground, own) as found:
        yield found
    postgres.drop_database(own)


@contextmanager
def running_shop(ground: Ground, own_database: str) -> Iterator[Shop]:
    fleet, url = ground.fleet, ground.url
    own = {"APP_URL": url, "APP_DATABASE_URL": own_database, "BREEZESYNC_URL": fleet.web_url}
    program = start_application({**fleet.environment, **own}, int(url.rsplit(":", 1)[1]), fleet.directory)
    fleet.programs.append(program)
    fleet.wait_until(lambda: answers(url), "the application answers")
    yield Shop(url, fleet, fleet.control.add_user("Ada", documents=4, email="ada@example.com"))
    program.stop()


def start_application(environment: Mapping[str, str], port: int, directory: Path) -> Program:
    command = ("uvicorn", "--app-dir", str(EXAMPLES / "python"), "--factory", "app:build", "--port", str(port))
    return Program("application", command, environment, directory)


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": A_PHONE["width"], "height": A_PHONE["height"]}) as context:
        yield context


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def consent(page: Page, shop: Shop) -> None:
    """The user's yes at the provider, and the way back."""
    page.click("#allow")
    page.wait_for_url(f"{shop.url}/?*", timeout=SOON)


def titles(page: Page) -> list[str]:
    return page.locator("#documents .title").all_inner_texts()


def test_a_user_connects_reads_is_told_of_a_revocation_and_connects_again(shop: Shop, phone: BrowserContext) -> None:
    page, control = phone.new_page(), shop.fleet.control
    page.goto(shop.url)
    page.locator("#connect, #another").first.click()
    page.click(f"#login-{shop.account}")
    consent(page, shop)
    assert page.locator("#notice").inner_text() == "Your account is connected."
    expect(page.locator("#documents li")).to_have_count(4, timeout=SOON)
    stored = {document["title"] for document in control.documents(shop.account)}
    assert set(titles(page)) == stored
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    control.edit_document(shop.account, control.documents(shop.account)[0]["id"], "The new title")
    expect(page.locator("#sync")).to_be_visible(timeout=SOON)
    page.click("#sync")
    expect(page.locator("#documents")).to_contain_text("The new title", timeout=SOON)
    assert page.locator("#banner").count() == 0

    control.revoke_user(shop.account)
    page.click("#sync")
    expect(page.locator("#banner")).to_contain_text("ada@example.com", timeout=SOON)
    assert page.locator("#documents li").count() == 4
    assert page.locator("#sync").count() == 0

    page.click("#again")
    consent(page, shop)
    expect(page.locator("#banner")).to_have_count(0, timeout=SOON)
    expect(page.locator("#sync")).to_be_visible()
    [row] = shop.fleet.rows("SELECT count(*) AS connections FROM connection")
    assert row.connections == 1


def test_the_page_keeps_up_without_a_script(shop: Shop, browser: Browser) -> None:
    control = shop.fleet.control
    shop.fleet.connect("demo", shop.account)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(shop.url)
        expect(page.locator("#documents li")).to_have_count(4, timeout=SOON)
        control.edit_document(shop.account, control.documents(shop.account)[1]["id"], "Seen without a script")
        page.click("#sync")
        expect(page.locator("#documents")).to_contain_text("Seen without a script", timeout=SOON)


def test_another_sites_page_asks_for_nothing(shop: Shop) -> None:
    answer = httpx.post(f"{shop.url}/sync", headers={"Sec-Fetch-Site": "cross-site"}, trust_env=False)
    assert answer.status_code == 403


def test_asking_while_redis_is_away_is_answered_with_a_page(ground: Ground, tmp_path: Path) -> None:
    own = {"REDIS_URL": "redis://127.0.0.1:1/0", "APP_DATABASE_URL": f"sqlite:///{tmp_path}/own.db"}
    with reserved_port() as port:
        program = start_application({**ground.fleet.environment, **own}, port, tmp_path)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(url), "the application answers", 40)
            page = httpx.post(f"{url}/sync", follow_redirects=True, trust_env=False)
        finally:
            program.stop()
    assert (page.status_code, "That did not work. Please try again." in page.text) == (200, True)


def test_an_event_that_was_overtaken_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "python")
    app = importlib.import_module("app")
    about = {"connection_id": "c1", "user_id": "demo"}
    authorized = {"type": "dev.breezesync.connection.authorized", "sequence": "6", "data": {**about, "email": "a@b"}}
    lost = {"type": "dev.breezesync.connection.reauthorization_required", "sequence": "5", "data": about}
    memory = create_engine("sqlite://")
    with memory.begin() as db:
        db.execute(text(app.account_table))
        app.note(authorized, db)
        app.note(lost, db)
        assert db.execute(text(app.find_accounts), {"user": "demo"}).all() == [("c1", "demo", "a@b", "connected", 6)]
        app.note({**lost, "sequence": "7"}, db)
        assert db.execute(text(app.find_accounts), {"user": "demo"}).all() == [("c1", "demo", "a@b", "lost", 7)]
    memory.dispose()


def test_the_examples_import_nothing_of_breezesync() -> None:
    trees = [ast.parse(file.read_text()) for file in sorted((EXAMPLES / "python").glob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {"config", "models", "sandbox", "scheduler", "worker"}
    assert {name.split(".")[0] for name in names} & own == set()
    assert "consumer" in names
