"""Users who connect through the proxy all along, as browsers do, and reload a page that failed."""

import re
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin
from uuid import uuid4

import httpx

from models.crypto.secrets import Secret
from models.oauth.connect_link import ConnectLink, sign_link
from sandbox.client import Control

PATIENCE = 300.0


@dataclass(slots=True)
class Visits:
    """What users met: how many came, who was not connected, answers of 5xx or none, the longest wait in seconds."""

    came: int = 0
    lost: int = 0
    refused: int = 0
    longest: float = 0.0


@dataclass
class Users:
    """Everyone who connects; `web` is the proxy's URL, `certificate` its own."""

    web: str
    certificate: str
    connect_secret: Secret
    control: Control
    visits: Visits = field(default_factory=Visits)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.tls = ssl.create_default_context(cafile=self.certificate)

    def connect_all(self, accounts: list[int], at_once: int = 6) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self.connect, accounts))

    def connect(self, account: int) -> None:
        """Connect one account, from the link to the page that says so; reload whatever failed."""
        began = time.monotonic()
        with httpx.Client(verify=self.tls, trust_env=False, timeout=25, base_url=self.web) as browser:
            connected = self._go(browser, account, began + PATIENCE)
        with self.lock:
            self.visits.came += 1
            self.visits.lost += not connected
            self.visits.longest = max(self.visits.longest, time.monotonic() - began)

    def _go(self, browser: httpx.Client, account: int, deadline: float) -> bool:
        def ask(send: Callable[[], httpx.Response]) -> httpx.Response | None:
            return self._until_answered(send, deadline)

        while time.monotonic() < deadline:
            link = self._link(account)
            page = ask(lambda link=link: browser.get(link))  # type: ignore[misc]
            form = read_form(page)
            if form is None:
                continue
            action, fields = form
            asked = ask(lambda a=action, f=fields: browser.post(a, data=f))  # type: ignore[misc]
            if asked is None or "location" not in asked.headers:
                continue
            back = self.control.authorize(asked.headers["location"], account)
            returned = ask(lambda back=back: browser.get(back))  # type: ignore[misc]
            if returned is None or "location" not in returned.headers:
                continue
            done = urljoin(str(returned.url), returned.headers["location"])
            while time.monotonic() < deadline:
                answer = ask(lambda done=done: browser.get(done, headers={"Accept": "application/json"}))  # type: ignore[misc]
                status = answer.json().get("status") if answer is not None and answer.status_code == 200 else None
                if status == "connected":
                    return True
                if status not in ("pending", None):
                    break
                time.sleep(0.3)
        return False

    def _until_answered(self, send: Callable[[], httpx.Response], deadline: float) -> httpx.Response | None:
        while time.monotonic() < deadline:
            try:
                answer = send()
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            with self.lock:
                self.visits.refused += 1
            time.sleep(0.5)
        return None

    def _link(self, account: int) -> str:
        now = datetime.now(UTC)
        link = ConnectLink(
            user_id=f"user-{account}", issued_at=now, expires_at=now + timedelta(minutes=10), jti=uuid4().hex
        )
        return f"{self.web}/auth/breezedoc?token={sign_link(link, self.connect_secret)}"

    def take(self) -> Visits:
        """Return what was met since the last call."""
        with self.lock:
            taken, self.visits = self.visits, Visits()
        return taken


def read_form(page: httpx.Response | None) -> tuple[str, dict[str, str]] | None:
    """Return where the page's form goes and what its button sends; None if it has no form."""
    action = re.search(r'action="([^"]*)"', page.text) if page is not None else None
    if page is None or action is None:
        return None
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)">\n', page.text))
    return urljoin(str(page.url), action[1]), {**fields, "answer": "continue"}


class Arrivals(threading.Thread):
    """New users, one after another, about one a second, until it is ended or `open` is cleared."""

    def __init__(self, users: Users, accounts: list[int]) -> None:
        super().__init__(daemon=True)
        self.users = users
        self.accounts = accounts
        self.open = threading.Event()
        self.ended = threading.Event()
        self.idle = threading.Event()

    def run(self) -> None:
        for account in self.accounts:
            while not self.open.is_set() and not self.ended.is_set():
                self.idle.set()
                time.sleep(0.1)
            if self.ended.is_set():
                return
            self.idle.clear()
            began = time.monotonic()
            self.users.connect(account)
            time.sleep(max(0.0, 1 - (time.monotonic() - began)))
        self.idle.set()
