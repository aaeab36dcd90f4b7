"""What a user sees in a real browser, from the link to the page that says what came of it."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.processes import Fleet, Listener

A_PHONE = {"width": 390, "height": 844}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A phone's browser in which no one is logged in."""
    context = browser.new_context(viewport={"width": A_PHONE["width"], "height": A_PHONE["height"]})
    opened = context.new_page()
    yield opened
    context.close()


def test_a_user_clicks_from_the_link_to_a_connected_account(fleet: Fleet, listener: Listener, page: Page) -> None:
    account = fleet.control.add_user("Margaret", documents=3)
    page.goto(fleet.link("margaret", name="Margaret Hamilton"))
    assert page.locator("#person").inner_text() == "Margaret Hamilton (margaret)"
    page.click("#continue")
    page.click(f"#login-{account}")
    page.click("#allow")
    expect(page.locator("#connected")).to_be_visible(timeout=15_000)
    assert page.locator("h1").inner_text() == "Your BreezeDoc account is connected"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert "code" not in parse_qs(urlsplit(page.url).query)
    fleet.wait_until(lambda: any(event.user_id == "margaret" for event in listener.listen()), "the connection is told")
    authorized = next(event for event in listener.heard if event.user_id == "margaret")
    assert (authorized.type, authorized.data["account_id"]) == ("connection.authorized", str(account))


def test_a_user_who_says_no_is_told_that_nothing_was_connected(fleet: Fleet, listener: Listener, page: Page) -> None:
    account = fleet.control.add_user("Alan", documents=1)
    page.goto(fleet.link("alan"))
    page.click("#continue")
    page.click(f"#login-{account}")
    page.click("#deny")
    expect(page.locator("#denied")).to_be_visible(timeout=15_000)
    fleet.wait_until(lambda: any(event.user_id == "alan" for event in listener.listen()), "the denial is told")
    [failed] = [event for event in listener.heard if event.user_id == "alan"]
    assert (failed.type, failed.data["reason"]) == ("connection.authorization_failed", "denied")


def test_a_link_with_return_to_leads_back_to_the_application(fleet: Fleet, application: str, page: Page) -> None:
    account = fleet.control.add_user("Katherine", documents=1)
    page.goto(fleet.link("katherine", return_to=f"{application}/settings?tab=accounts"))
    page.click("#continue")
    page.click(f"#login-{account}")
    page.click("#allow")
    page.wait_for_url(f"{application}/**", timeout=15_000)
    assert page.locator("h1").inner_text() == "The application"
    arrived = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    [row] = fleet.rows("SELECT id FROM connection WHERE user_id = 'katherine'")
    assert arrived == {"tab": "accounts", "status": "connected", "connection_id": row.id}


def test_a_link_opens_for_one_browser_which_may_come_again(fleet: Fleet, browser: Browser, page: Page) -> None:
    account = fleet.control.add_user("Dorothy", documents=1)
    link = fleet.link("dorothy")
    page.goto(link)
    page.goto(link)
    page.click("#continue")
    expect(page.locator(f"#login-{account}")).to_be_visible()
    with browser.new_context() as another:
        stranger = another.new_page()
        stranger.goto(link)
        expect(stranger.locator("#refused")).to_be_visible()
        assert stranger.locator("h1").inner_text() == "This link was already used"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the first first", "the second first"])
def test_two_tabs_of_one_browser_connect_two_accounts(fleet: Fleet, page: Page, order: tuple[int, int]) -> None:
    accounts = [fleet.control.add_user(name, documents=1) for name in ("Hedy", "Lise")]
    tabs = [page, page.context.new_page()]
    for tab in tabs:
        tab.goto(fleet.link("hedy"))
        tab.click("#continue")
    for each in order:
        back = fleet.control.authorize(tabs[each].url, accounts[each])
        tabs[each].goto(back)
        expect(tabs[each].locator("#connected")).to_be_visible(timeout=15_000)
    names = {cookie["name"] for cookie in page.context.cookies()}
    assert [name for name in names if name.startswith("breezesync")] == ["breezesync-last"]


def test_a_user_who_goes_back_and_allows_again_sees_the_same_result(fleet: Fleet, page: Page) -> None:
    account = fleet.control.add_user("Rosalind", documents=1)
    page.goto(fleet.link("rosalind"))
    page.click("#continue")
    asked = page.url
    page.goto(fleet.control.authorize(asked, account))
    expect(page.locator("#connected")).to_be_visible(timeout=15_000)
    result = page.url
    page.goto(fleet.control.authorize(asked, account))
    expect(page.locator("#connected")).to_be_visible(timeout=15_000)
    assert page.url == result
    [row] = fleet.rows("SELECT generation FROM connection WHERE user_id = 'rosalind'")
    assert row.generation == 1


def test_a_callback_in_another_browser_connects_nothing(fleet: Fleet, browser: Browser, page: Page) -> None:
    account = fleet.control.add_user("Mallory", documents=1)
    page.goto(fleet.link("mallory"))
    page.click("#continue")
    stolen = fleet.control.authorize(page.url, account)
    with browser.new_context() as another:
        victim = another.new_page()
        answer = victim.goto(stolen)
        assert answer is not None
        assert answer.status == 403
    assert fleet.rows("SELECT id FROM connection WHERE user_id = 'mallory'") == []
