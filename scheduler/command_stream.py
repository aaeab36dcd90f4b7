"""Commands in: entries of the commands stream become due times, which the sweep sends like any other."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never
from uuid import uuid4

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from models.audit.entry import Channel, received
from models.errors import Permanent, RedisUnavailable
from models.journal import Verb
from models.messaging.commands import (
    CarryOutCall,
    Command,
    CommandRefused,
    Confirm,
    asked_at,
    hide_secrets,
    read_command,
)
from models.oauth.confirmation import Verdict
from models.oauth.connection import Connection, Status
from models.queue import find_type
from models.store import Store, Transaction
from models.store.confirming import confirm
from models.store.requested_sync import request_sync

group = "breezesync"
batch_size = 100
most_rejected = 10_000
longest_kept_value = 1_000
idle_before_taken_over = timedelta(seconds=30)
quiet_rounds = 5
"""While nothing is heard, one round in so many looks for what other readers left behind."""

Entry = tuple[bytes, Mapping[bytes, bytes]]


class Commands:
    """One reader of the group, on whose stream any number of schedulers read; `redis` does not decode its answers.

    An entry is acknowledged once its due time is committed or its refusal is written down: a reader that dies before
    leaves it to the others, and reading it twice makes a refresh or a disconnect due only once, a sync twice.
    """

    def __init__(
        self,
        store: Store,
        redis: Redis,
        stream: str,
        sweep: Callable[[], object],
        now: Callable[[], datetime],
        idle: timedelta = idle_before_taken_over,
    ) -> None:
        self.store = store
        self.redis: Any = redis
        self.stream = stream
        self.rejected = f"{stream}:rejected"
        self.sweep = sweep
        self.now = now
        self.idle_ms = round(idle.total_seconds() * 1000)
        self.name = f"scheduler-{uuid4().hex[:12]}"
        self._quiet = 0

    def __call__(self, wait: timedelta = timedelta(seconds=1)) -> int:
        """Carries out what is there or comes within `wait`, and returns how many entries that were.

        Raises if Redis or the database is away; then nothing is acknowledged that was not done.
        """
        quiet, self._quiet = self._quiet, 0  # so the round after one that failed looks for what it began
        try:
            entries = self._read(wait, looks_back=quiet % quiet_rounds == 0)
            for entry in entries:
                self._carry_out(entry)
        except RedisError as error:
            raise self._explain(error) from error
        if entries:
            self.sweep()
        else:
            self._quiet = quiet + 1
        return len(entries)

    def _explain(self, error: RedisError) -> RedisUnavailable:
        for key in (self.stream, self.rejected) if isinstance(error, ResponseError) else ():
            kind = find_type(self.redis, key)
            if kind not in (None, "none", "stream"):
                return RedisUnavailable(f"commands wait: {key} in Redis is a {kind}, not a stream")
        return RedisUnavailable(f"commands wait: Redis does not answer ({type(error).__name__})")

    def leave(self) -> None:
        """Takes this reader's name off the group, unless something is still pending under it: that is taken over."""
        try:
            if not self.redis.xpending_range(self.stream, group, "-", "+", 1, consumername=self.name):
                self.redis.xgroup_delconsumer(self.stream, group, self.name)
        except RedisError:
            return

    def _read(self, wait: timedelta, looks_back: bool) -> list[Entry]:
        """What others left behind, what this reader began and could not end, and then what is new."""
        try:
            begun = self._look_back() if looks_back else []
            return begun or self._read_from(">", wait)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        self._create_group()
        return []

    def _look_back(self) -> list[Entry]:
        taken = self.redis.xautoclaim(self.stream, group, self.name, self.idle_ms, count=batch_size)
        if taken[1]:
            structlog.get_logger("commands").info("commands.taken_over", count=len(taken[1]))
        return self._read_from("0", None)

    def _read_from(self, start: str, wait: timedelta | None) -> list[Entry]:
        block = None if wait is None else max(round(wait.total_seconds() * 1000), 1)
        answer = self.redis.xreadgroup(group, self.name, {self.stream: start}, count=batch_size, block=block)
        found = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer or ())
        entries: list[Entry] = []
        for part in found:
            entries.extend(part[0] if part and isinstance(part[0], list) else part)
        return entries

    def _create_group(self) -> None:
        """From the stream's beginning: what was written before there was a reader counts."""
        try:
            self.redis.xgroup_create(self.stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _carry_out(self, entry: Entry) -> None:
        entry_id, fields = entry
        log = structlog.get_logger("commands")
        if not fields:
            log.warning("command.gone", entry_id=entry_id.decode())
            self.redis.xack(self.stream, group, entry_id)
            return
        try:
            command = read_command(fields)
            with self.store.writing() as tx:
                taken = self._carry_out_command(tx, command, entry_id)
        except (CommandRefused, Permanent) as refused:
            log.warning("command.rejected", entry_id=entry_id.decode(), reason=str(refused))
            self._reject(entry, str(refused))
            return
        if isinstance(command, Command):
            log.info("command.taken", entry_id=entry_id.decode(), verb=command.verb, connections=taken)
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(self.stream, group, entry_id)
            pipeline.xdel(self.stream, entry_id)
            pipeline.execute()

    def _reject(self, entry: Entry, reason: str) -> None:
        """Move the entry, long values cut, to the rejected ones with the reason and its id."""
        entry_id, fields = entry
        kept = {name[:longest_kept_value]: value[:longest_kept_value] for name, value in hide_secrets(fields).items()}
        moved = kept | {b"reason": reason.encode(), b"entry_id": entry_id}
        # In one MULTI, the entry would be deleted even if it can't be added there: the rest goes on past an error.
        self.redis.xadd(self.rejected, moved, maxlen=most_rejected, approximate=True)
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(self.stream, group, entry_id)
            pipeline.xdel(self.stream, entry_id)
            pipeline.execute()

    def _carry_out_command(
        self, tx: Transaction, command: Command | Confirm | CarryOutCall, entry_id: bytes
    ) -> int | Verdict:
        """Return how many connections a command reached, or the verdict on a confirmation. Raises `CommandRefused`."""
        if isinstance(command, CarryOutCall):
            return self._hasten_call(tx, command, entry_id)
        if not isinstance(command, Confirm):
            return self._make_due(tx, command, entry_id)
        verdict = confirm(tx, command, self.now(), Channel.stream)
        if verdict in _why_not_confirmed:
            raise CommandRefused(_why_not_confirmed[verdict])
        return verdict

    def _hasten_call(self, tx: Transaction, command: CarryOutCall, entry_id: bytes) -> int:
        """Have the next sweep send a call that is due. It became due when the gateway accepted it."""
        connection_id = tx.calls.connection_of(command.call_id)
        if connection_id is None:
            raise CommandRefused("there is no such call")
        detail = {"call_id": command.call_id, "entry_id": entry_id.decode()}
        tx.audit.add(received(Channel.stream, "call", detail, connection_id=connection_id), self.now())
        tx.calls.hasten(command.call_id)
        return 1

    def _make_due(self, tx: Transaction, command: Command, entry_id: bytes) -> int:
        """Return how many connections it reached, 0 if it did so before. Raises `CommandRefused` if there is none."""
        now = self.now()
        targets = _find(tx, command)
        if command.verb != "sync" and _was_taken(tx, targets, entry_id):
            return 0
        detail = {"erase": command.erase or None, "entry_id": entry_id.decode()}
        for target in targets:
            tx.audit.add(received(Channel.stream, command.verb, detail, connection_id=target.id), now)
            match command.verb:
                case "sync":
                    request_sync(tx, target.id, now)
                case "refresh":
                    if tx.connections.request_refresh(target.id, now):
                        tx.journal.decide(target.id, now, Verb.refresh_requested, message_id=entry_id.decode())
                case "disconnect":
                    tx.connections.request_disconnect(target.id, asked_at(entry_id, now), command.erase)
                    tx.journal.decide(target.id, now, Verb.disconnect_requested, message_id=entry_id.decode())
                case _:
                    assert_never(command.verb)
        return len(targets)


_why_not_confirmed = {
    Verdict.unknown: "there is no such authorization",
    Verdict.not_awaited: "the authorization waits for no confirmation: breezesync explain says how it is",
}


def _was_taken(tx: Transaction, targets: Sequence[Connection], entry_id: bytes) -> bool:
    """Return whether this entry was made due before, for any of its targets: that was one transaction for all.

    Race: a reader dies between commit and acknowledgement, or is only slow, and another one takes the entry over. In
    between the user may have authorized again, or connected another account.
    """
    for target in targets:
        tx.connections.lock(target.id)
    return any(tx.journal.names_message(target.id, entry_id.decode()) for target in targets)


def _find(tx: Transaction, command: Command) -> list[Connection]:
    """The connections it is for; a disconnected one may be disconnected again, anything else needs an active one."""
    if command.connection_id is not None:
        one = tx.connections.get(command.connection_id)
        found = [] if one is None else [one]
    else:
        found = list(tx.connections.find(user_id=command.user_id, provider=command.provider))
    if not found:
        raise CommandRefused("there is no such connection")
    if command.verb == "disconnect":
        return found
    active = [each for each in found if each.status is Status.active]
    if not active:
        states = ", ".join(sorted({each.status.value for each in found}))
        raise CommandRefused(f"the connection is {states}: the user has to authorize again")
    return active
