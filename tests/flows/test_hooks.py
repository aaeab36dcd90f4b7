"""A provider's webhook makes an account due, over HTTP; nothing else that arrives does."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx
import pytest

from models.crypto.secrets import Secret
from models.hook import Hook, HookSecrets, repeats_within
from tests.browsing import serving
from tests.harness import House
from worker.web.app import build_app
from worker.web.hooks import Hooks

path, key = Secret("a-path-that-no-one-guesses"), Secret("the key of the signatures")
hook = Hook(account="account.id", signature_header="X-Signature")


@dataclass
class Provider:
    """The provider's side: it sends what a test wants, signed or not."""

    house: House
    client: httpx.Client

    def send(self, body: bytes, to: str = f"/hooks/breezedoc/{path.reveal()}", by: Secret = key) -> int:
        signature = hmac.new(by.reveal().encode(), body, "sha256").hexdigest()
        return self.client.post(to, content=body, headers={"X-Signature": signature}).status_code

    def count_syncs(self) -> int:
        """Do what is due, and return how many syncs that was."""
        before = self.house.types().count("sync.completed")
        self.house.sweep()
        return self.house.types().count("sync.completed") - before


@pytest.fixture
def connected(house: House) -> Iterator[Provider]:
    house.connect("ada", 1)
    house.work()
    profile = replace(house.profile, webhook=hook)
    hooks = Hooks(
        house.store, {"breezedoc": profile}, {"breezedoc": HookSecrets(path, key)}, house.queue.send, house.clock
    )
    with serving(build_app(house.callback, hooks=hooks)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield Provider(house, client)


def test_a_signed_webhook_has_its_account_read_once_however_often_it_comes(connected: Provider) -> None:
    body = b'{"account": {"id": 1}}'
    assert [connected.send(body) for _ in range(3)] == [204] * 3
    assert connected.count_syncs() == 1
    assert connected.send(body) == 204
    assert connected.count_syncs() == 0


def test_after_a_while_the_same_body_is_about_something_new(connected: Provider) -> None:
    body = b'{"account": {"id": 1}}'
    assert (connected.send(body), connected.count_syncs()) == (204, 1)
    connected.house.clock.turn(repeats_within(hook) - timedelta(minutes=1))
    assert (connected.send(body), connected.count_syncs()) == (204, 0)
    connected.house.clock.turn(timedelta(minutes=1))
    assert (connected.send(body), connected.count_syncs()) == (204, 1)


def test_many_webhooks_of_an_account_are_one_sync(connected: Provider) -> None:
    bodies = [b'{"account": {"id": 1}, "event": %d}' % number for number in range(5)]
    assert [connected.send(body) for body in bodies] == [204] * 5
    assert connected.count_syncs() == 1


REFUSED: dict[str, tuple[dict[str, object], int]] = {
    "another account": ({"body": b'{"account": {"id": 99}}'}, 204),
    "no account": ({"body": b"{}"}, 204),
    "no JSON": ({"body": b"\xff"}, 204),
    "a wrong signature": ({"by": Secret("another key")}, 403),
    "a wrong path": ({"to": "/hooks/breezedoc/another-path"}, 404),
    "the key as the path": ({"to": "/hooks/breezedoc/the%20key%20of%20the%20signatures"}, 404),
    "an unknown provider": ({"to": f"/hooks/other/{path.reveal()}"}, 404),
    "a long body": ({"body": b"x" * 300_000}, 413),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_answered_and_reads_nothing(connected: Provider, case: str) -> None:
    given, status = REFUSED[case]
    assert connected.send(**{"body": b'{"account": {"id": 1}}', **given}) == status  # type: ignore[arg-type]
    assert connected.count_syncs() == 0


def test_a_webhook_is_not_read_from_anything_but_a_post(connected: Provider) -> None:
    assert connected.client.get(f"/hooks/breezedoc/{path.reveal()}").status_code == 405


def test_without_secrets_there_is_no_webhook(house: House) -> None:
    with serving(build_app(house.callback)) as url:
        assert httpx.post(f"{url}/hooks/breezedoc/{path.reveal()}", trust_env=False).status_code == 404
