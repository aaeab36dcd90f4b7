"""The checks of `breezesync doctor`: one for each part that breezesync works with. None uses up a token."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis

from config.process_reports import read_names
from config.version import read_version
from models.api_response import ApiOutcome, Forbidden, Page, Unauthorized
from models.crypto.errors import KeyServiceUnavailable
from models.crypto.secrets import Secret
from models.crypto.vault import KeyMissing, Vault, VaultError
from models.errors import SyncError
from models.health.clocks import judge_clock, read_date
from models.health.database import judge_history, judge_schema
from models.health.finding import Finding
from models.health.keys import KeyUse, judge_key_service, judge_missing_keys, judge_seals, judge_wrong_keys
from models.health.provider import Base, judge_bases, judge_breaker, judge_hold, judge_token_endpoint
from models.health.redis import judge_keys, judge_redis
from models.health.surroundings import judge_authorize, judge_processes, judge_redirect, judge_redis_refusal
from models.health.webhooks import judge_webhooks
from models.migrations import known_revisions, newest_revision
from models.oauth.client import OAuthClient
from models.oauth.connection import Status
from models.oauth.credential import place_of_token
from models.oauth.refresh_policy import Patience
from models.process import alive_for
from models.provider import Provider
from models.proxies import Proxies
from models.queue import WritableRedis, find_type
from models.store import Store
from models.store.fitness import find_misfit
from models.store.sealed_fields import fields
from models.store.trouble import trouble_of
from worker.cli.probes import find_proxy, open_authorize_page, open_callback, try_redis
from worker.operations.next_steps import describe_breaker, describe_hold
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets

patience = timedelta(seconds=10)
most_tried = 5
batch = 500
most_opened = 10_000
"""How many stored secrets of each field are opened: of a million connections that takes two seconds, not minutes."""
second = timedelta(seconds=1)
no_token = Secret("none")


@dataclass(frozen=True, slots=True)
class Checkup:
    """The parts to check.

    database, queue: their URLs without passwords.
    vault: None without keys.
    count_uses: counts what needs each key that is not configured.
    find_wrong_keys: counts what needs each key whose id another key has now.
    without_keys: the ids of keys that may be missing.
    redis_keys: the type of each of our keys in Redis.
    """

    store: Store
    database: str
    client: redis.Redis
    queue: str
    vault: Vault | None
    count_uses: Callable[[], Mapping[str, KeyUse]]
    find_wrong_keys: Callable[[], Mapping[str, KeyUse]]
    without_keys: Collection[str]
    providers: tuple[Provider, ...]
    clients: tuple[OAuthClient, ...]
    now: Callable[[], datetime]
    proxies: Proxies
    redis_keys: Mapping[str, str]

    def __call__(self) -> Iterator[Finding]:
        """Yield each finding as soon as it is made."""
        database = self._check_database()
        yield database
        usable = database.state == "ok"
        if self.vault is not None:
            yield from self._check_keys(self.vault, usable)
        if usable:
            yield self._check_clock("the database", self._ask_database_time)
        queue = list(self._check_redis())
        yield from queue
        if usable:
            yield from self._check_processes(has_redis=queue[0].state == "ok")
        for client in self.clients:
            yield from self._check_browser_way(client)
            yield from self._check_token_endpoint(client, usable)
        if usable:
            yield from self._check_history()
            yield from self._check_breakers()
            yield from self._check_webhooks()
        for provider in self.providers:
            yield self._check_api(provider, usable and queue[0].state == "ok")

    def _check_database(self) -> Finding:
        try:
            with self.store.reading() as tx:
                revision = tx.overview.revision()
                trouble = find_misfit(tx.sql, revision, known_revisions())
            if trouble is None:
                found = judge_schema(self.database, revision, newest_revision())
                if found.state == "ok":
                    with self.store.writing() as tx:
                        tx.overview.try_to_write()
                return found
        except SyncError as error:
            trouble = trouble_of(error)
        return Finding("database", "failed", f"{self.database} {trouble.said}", trouble.remedy)

    def _check_history(self) -> Iterator[Finding]:
        try:
            with self.store.reading() as tx:
                strays = tx.days.count_strays()
        except SyncError as error:
            trouble = trouble_of(error)
            yield Finding("history", "warn", f"{self.database} {trouble.said}", trouble.remedy)
        else:
            yield from judge_history(strays)

    def _check_keys(self, vault: Vault, has_database: bool) -> Iterator[Finding]:
        """Check the external master key if there is one, look for missing keys, and open stored secrets."""
        try:
            if vault.external is not None:
                vault.fetch()
                yield Finding("vault", "ok", f"{vault.current_id} wraps and unwraps data keys")
            if has_database:
                yield from judge_missing_keys(self.count_uses(), self.without_keys)
                yield from judge_wrong_keys(self.find_wrong_keys())
                yield self._open_all(vault)
        except KeyServiceUnavailable as error:
            yield judge_key_service(str(error), error.status)

    def _open_all(self, vault: Vault) -> Finding:
        """Open stored secrets, all unless there are very many, and discard what it opened."""
        opened, unopened, is_sample = 0, dict[str, str](), False
        for field in fields:
            after: tuple[str, ...] | None = None
            left = most_opened
            while True:
                with self.store.reading() as tx:
                    found = tx.seals.others(field, [], after, batch)
                if not found:
                    break
                if left <= 0:
                    is_sample = True
                    break
                left -= len(found)
                vault.fetch_for([one.sealed for one in found])
                for one in found:
                    place = field.place(one)
                    try:
                        vault.open(one.sealed, place)
                        opened += 1
                    except VaultError as error:
                        if isinstance(error, KeyMissing) and error.key_id in self.without_keys:
                            continue
                        unopened[f"{field.name} of {place.row}"] = str(error)
                after = found[-1].key
        return judge_seals(vault.current_id, opened, unopened, is_sample=is_sample)

    def _check_redis(self) -> Iterator[Finding]:
        refused = try_redis(self.client.info)
        if refused is not None:
            yield judge_redis_refusal(self.queue, refused)
            return
        info: Mapping[str, object] = cast(Any, self.client.info())
        snapshots = None
        with suppress(redis.RedisError):
            snapshots = cast(Any, self.client.config_get("save")).get("save")
        yield from judge_redis(self.queue, info, snapshots)
        found = {key: find_type(self.client, key) for key in self.redis_keys}
        yield from judge_keys(self.queue, self.redis_keys, found)
        refused = try_redis(WritableRedis(self.client)) if info.get("role", "master") == "master" else None
        if refused is not None:
            yield judge_redis_refusal(self.queue, refused)
        with suppress(redis.RedisError):
            yield self._check_clock("Redis", self._ask_redis_time)

    def _check_processes(self, has_redis: bool) -> Iterator[Finding]:
        """Judge which processes report to the database, and which only to Redis."""
        with self.store.reading() as tx:
            now = tx.overview.time()
            # Redis may know a name a little longer than the database shows it as alive.
            lately = tx.processes.since(now - 2 * alive_for)
        alive = [each for each in lately if each.is_alive(now)]
        strangers: Collection[str] = ()
        with suppress(redis.RedisError):
            strangers = set(read_names(self.client, now)) - {each.name for each in lately} if has_redis else ()
        yield from judge_processes(alive, strangers, read_version())

    def _check_clock(self, whose: str, ask: Callable[[], datetime]) -> Finding:
        before = self.now()
        theirs = ask()
        after = self.now()
        return judge_clock(whose, theirs, before + (after - before) / 2, after - before)

    def _ask_database_time(self) -> datetime:
        with self.store.reading() as tx:
            return tx.overview.time()

    def _ask_redis_time(self) -> datetime:
        seconds, micros = cast(Any, self.client.time())
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)

    def _check_browser_way(self, client: OAuthClient) -> Iterator[Finding]:
        """Ask for the two pages that a user's browser is sent to: the provider's, and our own."""
        profile = next(provider for provider in self.providers if provider.name == client.provider)
        prefix = client.provider.upper()
        page = open_authorize_page(profile, client, self.proxies)
        yield judge_authorize(f"{prefix}_AUTHORIZE_URL", profile.authorize_url, page)
        answer = open_callback(client, self.proxies)
        yield from judge_redirect(f"{prefix}_REDIRECT_URI", client.redirect_uri, answer)

    def _check_token_endpoint(self, client: OAuthClient, has_budget: bool) -> Iterator[Finding]:
        """Send one request; it counts against the fleet's rate limit like any other."""
        profile = next(provider for provider in self.providers if provider.name == client.provider)
        if has_budget:
            with self.store.writing() as tx:
                wait = tx.paces.take(profile.name, profile.token_requests_per_minute, "exchange", self.now())
            if wait is not None:
                seconds = max((wait - self.now()).total_seconds(), 1)
                remedy = f"Try again in {seconds:.0f} s."
                yield Finding("token endpoint", "warn", "the fleet's rate limit is used up", remedy)
                return
        before = self.now()
        answer = ProviderClient(
            profile,
            self.now,
            Budgets(self.client),
            usual_patience=Patience(deadline=patience),
            proxies=self.proxies,
        ).ask_for_nothing(client)
        after = self.now()
        proxy = find_proxy(profile.token_url, self.proxies)
        yield judge_token_endpoint(client, profile.token_url, answer, after, profile.error_aliases, proxy)
        theirs = read_date(answer)
        if theirs is not None:
            middle = theirs + second / 2
            yield judge_clock(profile.name, middle, before + (after - before) / 2, second / 2 + (after - before) / 2)

    def _check_breakers(self) -> Iterator[Finding]:
        now = self.now()
        with self.store.reading() as tx:
            clients = tx.clients.all()
            held = {hold: tx.refusals.count_held(hold.provider, hold.client_id) for hold in tx.refusals.holds()}
        for hold, count in held.items():
            yield judge_hold(hold, describe_hold(hold, count, now))
        for client in clients:
            if client.is_open:
                yield judge_breaker(client, describe_breaker(client, now)[0])

    def _check_webhooks(self) -> Iterator[Finding]:
        with self.store.reading() as tx:
            dead = {webhook_id: load.dead for webhook_id, load in tx.webhooks.loads().items()}
            found = tx.webhooks.all()
        yield from judge_webhooks(found, dead)

    def _check_api(self, provider: Provider, is_up: bool) -> Finding:
        """Ask every base URL for the account, with a connection's live token if the request can be logged and counted.

        Without a live token, the request carries a token that no provider accepts.
        """
        urls = (provider.api_url, *provider.api_url_alternatives)
        budgets = Budgets(self.client)
        readers = {
            url: ProviderClient(replace(provider, api_url=url), self.now, budgets, proxies=self.proxies) for url in urls
        }
        try:
            for connection_id, token in self._find_live_tokens(provider) if is_up else ():
                bases = [Base(url, self._ask(reader, token, connection_id)) for url, reader in readers.items()]
                if any(isinstance(base.outcome, Page | Forbidden) for base in bases) or not any(
                    isinstance(base.outcome, Unauthorized) for base in bases
                ):
                    return judge_bases(provider.name, True, bases)
            bases = [Base(url, reader.read_account(no_token).outcome) for url, reader in readers.items()]
            return judge_bases(provider.name, False, bases)
        finally:
            for reader in readers.values():
                reader.close()

    def _ask(self, reader: ProviderClient, token: Secret, connection_id: str) -> ApiOutcome:
        called = reader.read_account(token)
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(connection_id))
        return called.outcome

    def _find_live_tokens(self, provider: Provider) -> Iterator[tuple[str, Secret]]:
        """Yield access tokens of a few active connections that should be valid; skip those that do not open."""
        now, vault = self.now(), self.vault
        if vault is None:
            return
        with self.store.reading() as tx:
            found = tx.connections.find(provider=provider.name, status=Status.active.value, limit=most_tried)
            credentials = [tx.credentials.get(connection.id) for connection in found]
        for connection, credential in zip(found, credentials, strict=True):
            if credential is None or credential.access_token is None:
                continue
            if credential.expires_at is not None and credential.expires_at <= now:
                continue
            with suppress(VaultError, KeyServiceUnavailable):
                vault.fetch_for([credential.access_token])
                token = vault.open(credential.access_token, place_of_token(connection, "access_token"))
                yield connection.id, token
