"""What an operator does on the page or by the API: decided by pure functions, done by one writer, and audited.

The audit names the actor by the way it came: `operator:page` or `operator:api`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError

from models.audit.entry import Action, Channel
from models.errors import RedisUnavailable
from models.messaging.messages import QUEUES, Message, deliver_webhooks
from models.oauth import breaker
from models.oauth.client import StoredClient
from models.provider import Provider
from models.queue import DeadLetter, Queues
from models.store import Store
from models.webhooks.endpoint import Endpoint
from worker.oauth.hold import HoldByOperator
from worker.operations import requests
from worker.operations.clients import change_clients, decide_holds
from worker.operations.dead_letters import carry_out as carry_out_with_letter
from worker.operations.dead_letters import carry_out_with_webhook, find, is_of_webhook, of_webhooks
from worker.operations.requests import Command, NotPossible
from worker.operator.views.places import can_be_stored
from worker.operator.views.webhooks import WebhookAction, choose_actions
from worker.operator.visit import Refusal
from worker.webhooks.states import States

most_retried = 500
"""How many dead letters one request enqueues again."""
actors: Final[Mapping[Channel, str]] = {Channel.page: "operator:page", Channel.api: "operator:api"}
confirmation_of_drop = "drop"


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did.

    notice: a word of `notices`.
    numbers: how many it concerned, by name; for the API.
    """

    notice: str
    numbers: Mapping[str, int] = field(default_factory=dict)


Outcome = Done | Refusal
notices: Final[Mapping[str, str]] = {
    "refresh": "A refresh was asked for; a worker does it now.",
    "sync": "A sync was asked for; a worker does it now.",
    "disconnect": "A disconnect was asked for; a worker does it now.",
    "erase": "A disconnect was asked for; a worker disconnects it now, and erases its records.",
    "pause": "No token request is sent until the provider is resumed.",
    "resume": "Token requests are sent again.",
    "hold": "What is refused from now on is held; no token is erased, and no user is told.",
    "release": "The hold has ended; every held connection is tried again.",
    "accept": "The held connections are being ended, and their users told; the number that is left goes down.",
    "retried": "It is enqueued again.",
    "retried_all": "The dead letters are enqueued again.",
    "retried_some": "500 dead letters are enqueued again; there are more.",
    "dropped": "The dead letter is deleted.",
    "webhook_pause": "Nothing is sent to the endpoint until it is resumed; its events wait.",
    "webhook_resume": "The endpoint is resumed; what has waited is sent now.",
    "webhook_retry": "What waits for the endpoint is sent now.",
    "webhook_test": "A test was asked for; a worker sends it now, and the page shows what became of it.",
    "gone": "Someone else did that first.",
    "signed_in": "You are signed in for twelve hours.",
}
"""What a page says after an action."""


def run_aside(work: Callable[[], object]) -> None:
    """Run it on a thread that ends with the process."""
    threading.Thread(target=work, name="operator", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Actions:
    """Every action of an operator. Each raises `SyncError` if the database or Redis does not answer.

    store: writes in the name of `channel`.
    aside: runs what takes long; a request does not wait for it.
    """

    store: Store
    queues: Queues
    send: Callable[[Message], None]
    providers: Mapping[str, Provider]
    client_ids: Mapping[str, frozenset[str]]
    channel: Channel
    aside: Callable[[Callable[[], object]], None] = run_aside

    def ask(
        self, command: Command, connection_id: str, erase: bool = False, confirmation: str | None = None
    ) -> Outcome:
        """Ask for a refresh, a sync or a disconnect of a connection."""
        if not can_be_stored(connection_id):
            return _refusals["unknown"]
        with self.store.writing() as tx:
            now = tx.overview.time()
            decision = requests.decide(tx.connections.get(connection_id), command, erase, confirmation)
            if isinstance(decision, NotPossible):
                return _refusals[decision.why]
            if not requests.carry_out(tx, decision, self.channel, now):
                return _refusals["too_soon" if command == "refresh" else "not_active"]
        self.send(requests.message_of(decision))
        return Done("erase" if erase else command)

    def pause(self, provider: str) -> Outcome:
        """Send no token request to a provider until it is resumed."""
        return self._change(provider, "pause", breaker.pause, Action.provider_paused)

    def resume(self, provider: str) -> Outcome:
        """End an operator's pause."""
        return self._change(provider, "resume", breaker.resume, Action.provider_resumed)

    def hold(self, provider: str) -> Outcome:
        """Hold what is refused, until an operator decides."""
        return self._decide(provider, "hold", HoldByOperator.hold)

    def release(self, provider: str) -> Outcome:
        """Try every held connection again."""
        return self._decide(provider, "release", HoldByOperator.release)

    def accept(self, provider: str, confirmation: str | None) -> Outcome:
        """End every held connection, aside, since there may be many; `confirmation` is the provider's name."""
        profile = self.providers.get(provider)
        if profile is None:
            return unknown_provider
        if confirmation != provider:
            return _refusals["not_confirmed"]
        with self.store.reading() as tx:
            if not tx.refusals.holds(provider):
                return nothing_held
        self.aside(partial(self._accept, profile))
        return Done("accept")

    def retry(self, queue: str, key: str) -> Outcome:
        """Enqueue a dead letter again."""
        letter = self._letter(queue, key)
        if letter is None:
            return _refusals["unknown"]
        if letter.actor not in QUEUES:
            return no_actor
        done = self._carry_out(Action.dead_letter_retried, letter)
        return Done("retried" if done else "gone", {"retried": int(done)})

    def retry_all(self) -> Outcome:
        """Enqueue dead letters again, up to 500, the newest of each queue first, those of webhooks last."""
        with _our_errors():
            messages = self.queues.dead_letters(most_retried)
        with self.store.reading() as tx:
            letters = [*reversed(messages), *of_webhooks(tx, most_retried)]
        chosen = [letter for letter in letters if letter.actor in QUEUES]
        retried = sum(self._carry_out(Action.dead_letter_retried, each) for each in chosen[:most_retried])
        left = len(letters) - min(len(chosen), most_retried)
        return Done("retried_some" if len(chosen) > most_retried else "retried_all", {"retried": retried, "left": left})

    def drop(self, queue: str, key: str, confirmation: str | None) -> Outcome:
        """Delete a dead letter for good; `confirmation` is "drop"."""
        if confirmation != confirmation_of_drop:
            return _refusals["not_confirmed"]
        letter = self._letter(queue, key)
        if letter is None:
            return _refusals["unknown"]
        done = self._carry_out(Action.dead_letter_dropped, letter)
        return Done("dropped" if done else "gone", {"dropped": int(done)})

    def pause_webhook(self, name: str) -> Outcome:
        """Send an endpoint nothing until it is resumed."""
        return self._change_webhook(name, "pause", States.pause)

    def resume_webhook(self, name: str) -> Outcome:
        """Send an endpoint what has waited, also after it answered 410."""
        return self._change_webhook(name, "resume", States.resume)

    def retry_webhook(self, name: str) -> Outcome:
        """Send an endpoint at once what waits for its next attempt."""
        return self._change_webhook(name, "retry", States.retry)

    def test_webhook(self, name: str) -> Outcome:
        """Have a worker, which has the key, send an endpoint a delivery of type `webhook.test`."""
        return self._change_webhook(name, "test", States.test)

    def _change_webhook(
        self, name: str, action: WebhookAction, act: Callable[[States, str], Endpoint | None]
    ) -> Outcome:
        if not can_be_stored(name):
            return _refusals["unknown"]
        with self.store.reading() as tx:
            found = tx.webhooks.named(name)
        if found is not None and action not in choose_actions(found):
            return not_sent if action in ("retry", "test") else already
        changed = None if found is None else act(States(self.store), name)
        if changed is None:
            return _refusals["unknown"]
        if action != "pause":
            self.send(deliver_webhooks(changed.id))
        return Done(f"webhook_{action}")

    def _change(
        self,
        provider: str,
        verb: str,
        change: Callable[[StoredClient, datetime], StoredClient],
        action: Action,
    ) -> Outcome:
        if not can_be_stored(provider):
            return unknown_provider
        with self.store.writing() as tx:
            changed = change_clients(tx, provider, self.client_ids.get(provider, frozenset()), change, action)
        return Done(verb, {"clients": len(changed)}) if changed else unknown_provider

    def _decide(self, provider: str, verb: str, act: Callable[[HoldByOperator, str], int | None]) -> Outcome:
        profile = self.providers.get(provider)
        if profile is None:
            return unknown_provider
        counts = decide_holds(self.store, profile, self.client_ids.get(provider, frozenset()), act)
        return Done(verb, {"connections": sum(counts.values())}) if counts else nothing_held

    def _accept(self, profile: Provider) -> None:
        configured = self.client_ids.get(profile.name, frozenset())
        try:
            counts = decide_holds(self.store, profile, configured, HoldByOperator.accept)
        except Exception as error:
            # What is left is held as before, and can be accepted again.
            structlog.get_logger("operator").error("accept.failed", provider=profile.name, error=type(error).__name__)
            return
        structlog.get_logger("operator").info("held.accepted", provider=profile.name, number=sum(counts.values()))

    def _letter(self, queue: str, key: str) -> DeadLetter | None:
        if not can_be_stored(key):
            return None
        with _our_errors():
            return find(self.store, self.queues, queue, key)

    def _carry_out(self, action: Action, letter: DeadLetter) -> bool:
        if is_of_webhook(letter):
            return carry_out_with_webhook(self.store, action, letter)
        act = self.queues.retry if action is Action.dead_letter_retried else self.queues.drop
        with _our_errors():
            return carry_out_with_letter(self.store, action, letter, act)


@contextmanager
def _our_errors() -> Iterator[None]:
    """Raise `RedisUnavailable` for an error of Redis."""
    try:
        yield
    except RedisError as error:
        raise RedisUnavailable(f"Redis does not answer ({type(error).__name__})") from error


unknown_provider = Refusal(404, "There is no such provider", "Choose one of those that the providers' page lists.")
nothing_held = Refusal(409, "Nothing is held", "Nothing of this provider is held now: there is nothing to decide.")
not_sent = Refusal(409, "The endpoint is paused", "Nothing is sent to it. Resume it first.")
already = Refusal(409, "The endpoint is like that already", "Someone else did that first. Nothing was changed.")
no_actor = Refusal(409, "No actor handles this message", "It was not enqueued. Drop it if no newer version needs it.")
_refusals: Final[Mapping[str, Refusal]] = {
    "unknown": Refusal(404, "There is no such thing", "It may have been deleted meanwhile. Go back to the list."),
    "not_active": Refusal(
        409, "The connection is not active", "Its tokens are erased. Its user has to authorize again first."
    ),
    "not_confirmed": Refusal(
        422, "That was not confirmed", "It can't be undone. Type what the form asks for, exactly, and send it again."
    ),
    "too_soon": Refusal(
        409,
        "No refresh was asked for",
        "One was asked for less than a minute ago, or the connection has no refresh token. Nothing was changed.",
    ),
}
