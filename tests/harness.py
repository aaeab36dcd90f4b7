"""A whole breezesync in one process for tests: real store, real flows, the sandbox over a socket, a clock."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import fakeredis
from redis import Redis

import sandbox
from config.profiles import profile_directories, read_profile
from models.crypto.secrets import Secret
from models.crypto.vault import Key, Vault, new_key
from models.journal import Decision
from models.messaging.messages import QUEUES, Message
from models.oauth.authorization import Confirmation
from models.oauth.client import OAuthClient
from models.oauth.connect_link import ConnectLink, sign_link
from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.provider import Provider
from models.store import Store
from scheduler.sweep import Sweep
from tests.databases import open_fast_engine
from tests.event_assertions import assert_all_described
from worker.actors import Flows
from worker.calls.carry_out import CarryOutCall
from worker.calls.kept_answers import KeptAnswers
from worker.metrics.counters import Metrics
from worker.oauth.confirm import Confirm
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.recover_tokens import RecoverTokens
from worker.oauth.refresh import Refresh
from worker.oauth.revoke import Revoke
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets
from worker.queue.publish import PublishEvents
from worker.sync.run import Sync
from worker.sync.user import SyncUser
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking
from worker.web.callback import Callback
from worker.webhooks.deliver import DeliverWebhooks

link_secret = Secret("a connect secret of more than 32 bytes")


class Clock:
    """Real time, and as much of it ahead as a test turns it; once it is stopped only that."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self.stopped_at: datetime | None = None

    def __call__(self) -> datetime:
        return (self.stopped_at or datetime.now(UTC)) + self.ahead

    def stop(self) -> None:
        self.stopped_at = datetime.now(UTC)

    def turn(self, length: timedelta) -> None:
        self.ahead += length


class NoLimit:
    """The allowance of an account without a limit."""

    wanted = 0

    def settle(self) -> None:
        """Nothing was reserved."""


class ListQueue:
    """A queue that holds messages until they are taken."""

    def __init__(self) -> None:
        self.held: list[Message] = []
        self.emptied = False

    def send(self, message: Message) -> None:
        self.held.append(message)

    def send_all(self, batch: Any) -> None:
        self.held.extend(batch)

    def count_waiting(self) -> Mapping[str, int]:
        return {queue: sum(message.queue == queue for message in self.held) for queue in set(QUEUES.values())}

    def was_emptied(self) -> bool:
        emptied, self.emptied = self.emptied, False
        return emptied


@dataclass
class House:
    """Everything wired as in production, but for the queue, which `work` drains on the calling thread."""

    store: Store
    provider: sandbox.Running
    profile: Provider
    flows: Flows
    callback: Callback
    queue: ListQueue
    clock: Clock
    vault: Vault
    spool: Path
    keys: tuple[Key, ...] = ()

    @property
    def control(self) -> sandbox.Control:
        return self.provider.control

    def link(self, user: str = "ada", **claims: Any) -> str:
        now = self.clock().replace(microsecond=0)
        link = ConnectLink(
            user_id=user, issued_at=now, expires_at=now + timedelta(minutes=15), jti=uuid4().hex, **claims
        )
        return sign_link(link, link_secret)

    def close(self) -> None:
        """Close it; AssertionError if its schema does not describe an event."""
        for provider in self.flows.refresh.providers.values():
            provider.close()
        assert_all_described(self.store.engine)
        self.store.close()

    def consent(self, user: str = "ada", account: int = 1, allow: bool = True, **claims: Any) -> str:
        """The browser's part, from the link to the callback: the authorization's id."""
        begun = self.callback.begin("breezedoc", self.link(user, **claims), {})
        query = self.approve(begun.location, account, allow=allow)
        return self.callback.finish("breezedoc", query, {begun.flow: begun.binding}).id

    def approve(self, location: str, account: int = 1, *, allow: bool = True) -> Mapping[str, str]:
        """What the provider answers at its authorize URL: the parameters of the callback."""
        back = self.control.authorize(location, account, allow=allow)
        return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}

    def connect(self, user: str = "ada", account: int = 1, **claims: Any) -> Connection:
        """A connection, its code exchanged, nothing else done yet."""
        authorization_id = self.consent(user, account, **claims)
        self.flows.exchange(authorization_id)
        with self.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        assert found is not None
        assert found.connection_id is not None, found
        return self.connection(found.connection_id)

    def work(self, most: int = 500) -> int:
        """Does what is queued, and what that queues, until nothing is left; events excepted."""
        done = 0
        while self.queue.held:
            message = self.queue.held.pop(0)
            if message.actor != "publish_events":
                self.perform(message)
            done += 1
            assert done < most, "the queue never empties"
        return done

    def perform(self, message: Message) -> None:
        flows: Mapping[str, Callable[..., object]] = {
            "exchange_code": self.flows.exchange,
            "confirm": self.flows.confirm,
            "refresh_token": lambda connection_id: self.flows.refresh(connection_id, asked=True),
            "carry_out_refresh": self.flows.refresh,
            "sync_connection": self.flows.sync,
            "carry_out_sync": lambda connection_id: self.flows.sync(connection_id, asked=False),
            "read_connection": lambda connection_id: self.flows.sync(connection_id, asked=False),
            "sync_user": lambda user_id, provider=None: self.flows.sync_user(user_id, provider),
            "revoke_grant": self.flows.revoke,
            "probe_client": self.flows.probe_client,
            "call": self.flows.call,
            "deliver_webhooks": self.flows.deliver_webhooks,
            "carry_out_disconnect": lambda connection_id: self.flows.disconnect(connection_id, asked=False),
        }
        flows[message.actor](**message.kwargs)

    def keep_no_page_in_memory(self) -> None:
        """From now on a sync compares and commits each page by itself, as one of a large account does."""
        self.flows = replace(self.flows, sync=replace(self.flows.sync, most_in_memory=-1))

    def sweep(self) -> int:
        """One pass of the scheduler, and all the work that follows from it."""
        Sweep(self.store, self.queue, self.clock, {self.profile.name: self.profile.token_requests_per_minute})()
        return self.work()

    def turn(self, **length: float) -> None:
        """Turns our clock and the provider's."""
        self.clock.turn(timedelta(**length))
        self.control.advance(timedelta(**length).total_seconds())

    def connection(self, connection_id: str) -> Connection:
        with self.store.reading() as tx:
            found = tx.connections.get(connection_id)
        assert found is not None
        return found

    def credential(self, connection_id: str) -> Credential:
        with self.store.reading() as tx:
            found = tx.credentials.get(connection_id)
        assert found is not None
        return found

    def make_refresh_due(self, connection_id: str) -> None:
        with self.store.writing() as tx:
            found = tx.connections.lock(connection_id)
            assert found is not None
            tx.connections.save(replace(found, refresh_due_at=self.clock()), found.generation)

    def refreshable(self) -> Connection:
        """A connection at generation 2 with its refresh due, nothing presented, and a client that omits the scope."""
        connection = self.connect("ada", 1)
        self.work()
        self.make_refresh_due(connection.id)
        self.sweep()
        self.control.reset_counters()
        self.make_refresh_due(connection.id)
        return self.connection(connection.id)

    def waits_for_a_lock(self) -> bool:
        """Whether a session of this database, PostgreSQL, waits for a lock."""
        with self.store.reading() as tx:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return bool(tx.sql.exec_driver_sql(waiting).scalar())

    def told(self, type_: str | None = None, connection_id: str | None = None) -> list[dict[str, Any]]:
        """The data of every event in the outbox, oldest first, with its type and sequence."""
        with self.store.reading() as tx:
            events = tx.outbox.read(type_=type_, connection_id=connection_id, limit=100_000)
        return [json.loads(e.document)["data"] | {"type": e.type, "sequence": e.sequence} for _, e in events]

    def types(self) -> list[str]:
        return [event["type"] for event in self.told() if not event["type"].startswith("record.")]

    def decisions(self, subject: str) -> list[Decision]:
        with self.store.reading() as tx:
            return list(tx.journal.decisions_of(subject))

    def presentations(self) -> int:
        """The most times that any refresh token was presented; a refusal of the scope alone spends nothing."""
        tokens = self.control.counters()["refresh_tokens"]
        counts = [sum(p["outcome"] != "scope_rejected" for p in token["presentations"]) for token in tokens]
        return max(counts, default=0)


def build_house(
    database_url: str, provider: sandbox.Running, spool: Path, publish: PublishEvents | None = None, **overrides: str
) -> House:
    """A house on an empty migrated database; `overrides` are profile fields as the environment would name them."""
    profile = read_profile(
        "breezedoc",
        {
            "BREEZEDOC_AUTHORIZE_URL": f"{provider.url}/oauth/authorize",
            "BREEZEDOC_TOKEN_URL": f"{provider.url}/oauth/token",
            "BREEZEDOC_API_URL": f"{provider.url}/api",
            **overrides,
        },
        profile_directories(),
    )
    keys = (new_key("k1"),)
    house = join_house(Store(open_fast_engine(database_url)), provider, profile, Vault(keys), Clock(), spool, publish)
    house.keys = keys
    return house


def join_house(
    store: Store,
    provider: sandbox.Running,
    profile: Provider,
    vault: Vault,
    clock: Clock,
    spool: Path,
    publish: PublishEvents | None = None,
    configured: tuple[OAuthClient, ...] | None = None,
    redis: Redis | None = None,
) -> House:
    """One more process's worth of flows on a store that others use too."""
    client = OAuthClient(
        provider=profile.name,
        client_id=provider.client_id,
        client_secret=Secret(provider.client_secret),
        redirect_uri=provider.redirect_uri,
    )
    configured = (client,) if configured is None else configured
    queue = ListQueue()
    clients = OAuthClients(store, vault, configured)
    redis = redis or fakeredis.FakeRedis(server=fakeredis.FakeServer())
    budgets = Budgets(redis, lambda: clock().timestamp())
    metrics = Metrics()
    providers = {profile.name: ProviderClient(profile, clock, budgets, metrics=metrics)}
    parking = Parking(vault, redis, spool)
    answers = KeptAnswers(vault, redis)
    flows = Flows(
        exchange=Exchange(store, vault, clients, providers, parking, queue.send, clock),
        confirm=Confirm(store, queue.send, clock),
        refresh=Refresh(store, vault, clients, providers, parking, queue.send, clock, metrics=metrics),
        sync=Sync(store, vault, providers, queue.send, clock, timedelta(minutes=15), metrics=metrics),
        sync_user=SyncUser(store, queue.send, clock),
        disconnect=Disconnect(store, vault, providers, parking, queue.send, clock, answers.drop),
        revoke=Revoke(store, vault, clients, providers, queue.send, clock),
        probe_client=ProbeClient(store, clients, providers, queue.send, clock),
        recover_tokens=RecoverTokens(store, vault, clients, providers, parking, queue.send, clock),
        call=CarryOutCall(store, vault, providers, queue.send, clock, answers, metrics),
        deliver_webhooks=DeliverWebhooks(store, vault, clock, metrics=metrics),
        publish=publish,  # type: ignore[arg-type]  # only tests of publishing bring one
    )
    callback = Callback(
        store=store,
        sealer=vault.sealer,
        providers={profile.name: profile},
        clients={profile.name: configured[0]} if configured else {},
        connect_secrets=(link_secret,),
        return_origins=frozenset({"https://app.example"}),
        send=queue.send,
        now=clock,
        confirmation=Confirmation.off,
    )
    return House(store, provider, profile, flows, callback, queue, clock, vault, spool)
