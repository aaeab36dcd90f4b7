"""The operator's pages in a real browser: held to WCAG 2.2 AA, on any screen, and live without losing one's place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize
from sqlalchemy import text

from tests.operator_scene import built_scene
from tests.operator_site import operator_token, running_operator
from tests.processes import CHECKOUT
from tests.servers import skip_unless_ci

axe = CHECKOUT / "node_modules/axe-core/axe.min.js"
every_rule = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
rules_of_screens = ("color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable")
desktop: ViewportSize = {"width": 1280, "height": 900}
phone: ViewportSize = {"width": 360, "height": 740}


@dataclass(frozen=True, slots=True)
class Scene:
    url: str
    paths: tuple[str, ...]
    story: str
    store: Any


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, valkey: Any) -> Iterator[Scene]:
    """The scene behind the operator's listener, and every page of it."""
    valkey.flush()
    configured = {"breezedoc": frozenset({"sandbox-client"})}
    with (
        built_scene(tmp_path_factory.mktemp("scene"), valkey.url, many=12) as (store, story),
        running_operator(store, valkey.url, client_ids=configured) as operator,
    ):
        [letter, *_] = operator.get("dead-letters")["letters"]
        [authorization, *_] = operator.get("authorizations")["rows"]
        paths = (
            "./",
            "connections",
            "connections?text=no-one-has-this",
            f"connections/{story}",
            "authorizations",
            f"authorizations/{authorization['id']}",
            "providers",
            "events",
            "groups",
            "queues",
            "webhooks",
            "dead-letters",
            f"disconnect/{story}",
            "accept/breezedoc",
            f"drop?queue={letter['queue']}&key={letter['key']}",
            "no-such-page",
        )
        yield Scene(f"{operator.url}/operator/", paths, story, store)


@pytest.fixture(scope="module")
def script() -> str:
    if not Path(axe).exists():
        skip_unless_ci("axe-core is not installed: make lint-docs installs it")
    return axe.read_text()


def sign_in(page: Page, scene: Scene) -> None:
    page.goto(scene.url)
    page.fill("#token", operator_token.reveal())
    page.click("button.main")


def find_faults(page: Page, kind: str, rules: Sequence[str]) -> list[str]:
    """Return what axe-core finds, and whether anything is wider than the screen."""
    found = page.evaluate("only => axe.run({runOnly: only})", {"type": kind, "values": list(rules)})
    assert found["passes"], page.url
    faults = [f"{rule['id']}: {rule['nodes'][0]['html'][:120]}" for rule in found["violations"]]
    is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return [*faults, *(["wider than the screen"] if is_wide else [])]


def find_faults_anywhere(page: Page, script: str) -> dict[str, list[str]]:
    """Examine a page on a desktop in light colours, and on a phone in dark ones."""
    page.evaluate(script)
    faults = {"light, desktop": find_faults(page, "tag", every_rule)}
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(phone)
    faults["dark, phone"] = find_faults(page, "rule", rules_of_screens)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(desktop)
    return {where: found for where, found in faults.items() if found}


@pytest.mark.timeout(300)
def test_everyone_can_use_every_page(browser: Browser, scene: Scene, script: str) -> None:
    said: list[str] = []
    with browser.new_context(color_scheme="light", viewport=desktop) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(scene.url)
        faults = {"sign-in": find_faults_anywhere(page, script)}
        sign_in(page, scene)
        for path in scene.paths:
            page.goto(scene.url + path)
            faults[path] = find_faults_anywhere(page, script)
    assert {path: found for path, found in faults.items() if found} == {}
    assert [each for each in said if "404" not in each] == []


def test_a_page_shows_what_has_changed_and_keeps_what_is_open_and_focused(browser: Browser, scene: Scene) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        sign_in(page, scene)
        page.click("#syncs-numbers summary")
        page.focus("#connections-title ~ a")
        before = page.inner_text("#connections .big")
        with scene.store.writing() as tx:
            tx.sql.execute(
                text(
                    "DELETE FROM connection WHERE id = (SELECT id FROM connection WHERE email LIKE '%.example' LIMIT 1)"
                )
            )
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_function("before => document.querySelector('#connections .big').innerText !== before", arg=before)
        assert page.evaluate("document.querySelector('#syncs-numbers').open")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "connections"
        page.click("#pause")
        assert page.get_attribute("#pause", "aria-pressed") == "true"


def test_a_connection_is_disconnected_without_a_script_and_only_if_its_user_is_typed(
    browser: Browser, scene: Scene
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, scene)
        page.goto(f"{scene.url}connections/{scene.story}")
        page.click("text=Disconnect…")
        page.fill("#confirmation", "someone else")
        page.click("button.risk")
        assert "not confirmed" in page.inner_text("h1")
        page.go_back()
        page.fill("#confirmation", "grace@harbor-dental")
        page.click("button.risk")
        assert "disconnect was asked for" in page.inner_text("[role=status]")
