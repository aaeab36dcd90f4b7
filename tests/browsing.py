"""What a browser does on the way from a link to the provider, without a browser."""

import re
from urllib.parse import urljoin

import httpx


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
