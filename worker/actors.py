"""The queue contract: every actor with its queue, its retries and the flow it calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from inspect import signature
from typing import Any

import dramatiq

from models.messaging.messages import QUEUES, MessageRefused, Sent, check_ids, read_sent
from worker.calls.carry_out import CarryOutCall
from worker.oauth.confirm import Confirm
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.recover_tokens import RecoverTokens
from worker.oauth.refresh import Refresh
from worker.oauth.revoke import Revoke
from worker.queue.retry import current_message, retries_of, retrying
from worker.sync.run import Sync
from worker.sync.user import SyncUser
from worker.webhooks.deliver import DeliverWebhooks

behind: Mapping[str, int] = {"call": 5, "read_connection": 10, "deliver_webhooks": 10}
"""Actors whose messages wait while others are there, the ones with the larger number longer: so a provider that is slow
to answer calls keeps no token from being refreshed."""


@dataclass(frozen=True, slots=True)
class Flows:
    """Everything that a message can ask for, and what is done without one: taking parked pairs in."""

    exchange: Exchange
    confirm: Confirm
    refresh: Refresh
    sync: Sync
    sync_user: SyncUser
    disconnect: Disconnect
    revoke: Revoke
    probe_client: ProbeClient
    call: CarryOutCall
    publish: Callable[[], bool]
    recover_tokens: RecoverTokens
    deliver_webhooks: DeliverWebhooks


def declare_actors(broker: dramatiq.Broker, flows: Flows) -> None:
    """Bind each actor to its flow. Retries are few and short: what fails longer comes back through the sweep.

    Only what someone asks for by the message itself is tried for longer (see `worker/queue/retry.py`).
    """
    declare = partial(_declare, broker)
    _declare_tokens(declare, flows)
    _declare_syncs(declare, flows)

    @declare
    def call(call_id: str) -> None:
        flows.call(call_id)

    @declare
    def publish_events() -> None:
        flows.publish()

    @declare
    def deliver_webhooks(webhook_id: str) -> None:
        flows.deliver_webhooks(webhook_id)


def _declare_tokens(declare: Callable[[Callable[..., None]], None], flows: Flows) -> None:
    """Declare what wins, renews and ends grants."""

    @declare
    def exchange_code(authorization_id: str) -> None:
        flows.exchange(authorization_id)

    @declare
    def confirm(authorization_id: str, user_id: str, confirmation: str) -> None:
        flows.confirm(authorization_id, user_id, confirmation)

    @declare
    def refresh_token(connection_id: str) -> None:
        flows.refresh(connection_id, asked=True, message_id=_read_message_id())

    @declare
    def carry_out_refresh(connection_id: str) -> None:
        flows.refresh(connection_id)

    @declare
    def disconnect(connection_id: str, erase: bool = False) -> None:
        flows.disconnect(connection_id, erase, _read_sent())

    @declare
    def carry_out_disconnect(connection_id: str) -> None:
        flows.disconnect(connection_id, asked=False)

    @declare
    def revoke_grant(revocation_id: str) -> None:
        flows.revoke(revocation_id)

    @declare
    def probe_client(provider: str, client_id: str) -> None:
        flows.probe_client(provider, client_id)


def _declare_syncs(declare: Callable[[Callable[..., None]], None], flows: Flows) -> None:
    """Declare what reads connections' data."""

    @declare
    def sync_connection(connection_id: str) -> None:
        flows.sync(connection_id, message_id=current_message().message_id)

    @declare
    def carry_out_sync(connection_id: str) -> None:
        flows.sync(connection_id, asked=False)

    @declare
    def read_connection(connection_id: str) -> None:
        flows.sync(connection_id, asked=False)

    @declare
    def sync_user(user_id: str, provider: str | None = None) -> None:
        flows.sync_user(user_id, provider, message_id=current_message().message_id)


def _declare(broker: dramatiq.Broker, actor: Callable[..., None]) -> None:
    """Declare the actor under the name of its function, on the queue of that name's messages."""
    name = actor.__name__
    options: dict[str, Any] = retries_of(name) | ({"priority": behind[name]} if name in behind else {})
    checked = retrying(name, _checking(actor))
    dramatiq.actor(broker=broker, actor_name=name, queue_name=QUEUES[name], **options)(checked)


def _read_message_id() -> str:
    """Return the message's own id. Raises `MessageRefused` if it can be none."""
    message_id = str(current_message().message_id)
    check_ids({"message_id": message_id})
    return message_id


def _read_sent() -> Sent:
    message = current_message()
    return read_sent(message.message_id, message.message_timestamp)


def _checking(actor: Callable[..., None]) -> Callable[..., None]:
    """The actor, what it is called with checked first: trying again would not mend a message."""
    shape = signature(actor)

    @wraps(actor)
    def call(*args: object, **kwargs: object) -> None:
        try:
            given = shape.bind(*args, **kwargs).arguments
        except TypeError as misfit:
            raise MessageRefused(f"{actor.__name__}: {misfit}") from None
        for name, value in given.items():
            if not isinstance(value, shape.parameters[name].annotation):
                raise MessageRefused(f"{actor.__name__}: {name} is of the wrong type")
        check_ids(given)
        actor(**given)

    return call
