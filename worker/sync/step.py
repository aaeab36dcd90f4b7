"""How a run goes on after each answer, waits, gives up and ends; each turn in the transaction that commits it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from models.api_response import Failed, Page
from models.crypto.vault import VaultError
from models.messaging.events import SyncCompleted, SyncFailed
from models.oauth.connection import Connection, limit_access, restore_access, revoke
from models.oauth.credential import accept_access, asks_for_refresh, refuse_access
from models.oauth.refresh_policy import spread
from models.store import Transaction
from models.sync.cadence import plan_next
from models.sync.sync_run import SyncList, SyncRun, fail, finish, gives_up, plan_lists, retry_delay, run_lease
from worker.provider.client import ProviderClient
from worker.sync.page import Step


@dataclass(frozen=True, slots=True)
class Turns:
    """Every turn is given the connection and the run as they are stored; it returns the run where this job may go on,
    and None where the run waits or has ended."""

    providers: Mapping[str, ProviderClient]
    now: datetime
    interval: timedelta

    def keep(self, tx: Transaction, connection: Connection, run: SyncRun, sync_list: SyncList, page: Page) -> SyncRun:
        """A page: whatever it changed. Where the account was limited, the first list that answers ends that."""
        if not self._is_account(connection, sync_list) or len(self._plan(connection, run)) == 1:
            connection, facts = restore_access(connection)
            tx.outbox.append(connection.about, facts, self.now)
        credential = tx.credentials.get(connection.id)
        if credential is not None and credential.refused_generation is not None:
            tx.credentials.put(accept_access(credential))
        return self._go_on(tx, connection, self._step(tx, connection).keep(replace(run, failures=0), sync_list, page))

    def leave(
        self, tx: Transaction, connection: Connection, run: SyncRun, sync_list: SyncList, problem: str
    ) -> SyncRun:
        run = self._step(tx, connection).leave(replace(run, failures=0), sync_list, problem)
        return self._go_on(tx, connection, run)

    def forbid(self, tx: Transaction, connection: Connection, run: SyncRun, sync_list: SyncList) -> SyncRun | None:
        """A 403: for a list, that list alone; for the account, the plan, and then nothing else is asked for."""
        if not self._is_account(connection, sync_list):
            return self.leave(tx, connection, run, sync_list, "plan_required")
        tx.records.note_problem(connection.id, sync_list.key, "plan_required")
        self._limit(tx, connection, run)
        return None

    def doubt(
        self, tx: Transaction, connection: Connection, run: SyncRun, sync_list: SyncList, generation: int
    ) -> SyncRun | None:
        """A 401: with an old token, read on with the current one; with the current one, ask for one forced refresh.

        Where there is no refresh token the answer stands: the user took the token back. Where the refresh was forced
        only just now, and won a token that is refused again, it is the list that fails.
        """
        credential = tx.credentials.get(connection.id)
        if credential is None:
            return None
        if generation != connection.generation:
            self.park(tx, connection, run, self.now)
        elif credential.refresh_token is None:
            ended, facts = revoke(connection, "access_revoked", "api", self.now, f"/auth/{connection.provider}")
            tx.connections.save(ended, connection.generation)
            tx.credentials.put(replace(credential, access_token=None))
            tx.runs.end(connection.id, "access_revoked")
            tx.outbox.append(connection.about, facts, self.now)
            tx.journal.decide(connection.id, self.now, "revoked.access_revoked", generation=generation, status=401)
        elif asks_for_refresh(connection, credential, generation, self.now):
            tx.credentials.put(refuse_access(credential, generation, self.now))
            tx.journal.decide(connection.id, self.now, "access.refused", generation=generation, status=401)
            wait = replace(connection, refresh_due_at=self.now)
            self.park(tx, wait, run, self.now + retry_delay(3))
        elif credential.refused_generation == generation:
            waiting = replace(connection, problem="access_refused")
            self.park(tx, waiting, run, self.now + retry_delay(4))
        else:
            refused = replace(connection, problem="access_refused")
            return self.stumble(tx, refused, run, sync_list, Failed("HTTP 401 for a token that was only just issued"))
        return None

    def stumble(
        self, tx: Transaction, connection: Connection, run: SyncRun, sync_list: SyncList, failed: Failed
    ) -> SyncRun | None:
        """A failure is waited out a few times; then the list is left, and the run goes on and ends as failed.

        Without an answer for the account itself there is no use in going on.
        """
        run = replace(run, failures=run.failures + 1)
        if not gives_up(run):
            self.park(tx, connection, run, self.now + retry_delay(run.failures, failed.retry_after))
            return None
        if self._is_account(connection, sync_list):
            self._fail(tx, connection, run, "provider_unavailable", failed.why, "sync_failing")
            return None
        description = run.description or f"{sync_list.key}: {failed.why}"
        given_up = replace(run, reason="provider_unavailable", description=description)
        return self.leave(tx, connection, given_up, sync_list, "unreadable")

    def complete(self, tx: Transaction, connection: Connection, run: SyncRun) -> None:
        """The end of the plan. An account that answers while every list of it is forbidden is as limited as one that
        does not; a run that had to leave a list has failed, whatever else it brought."""
        lists = [sync_list for sync_list in self._plan(connection, run) if not self._is_account(connection, sync_list)]
        problems = tx.records.resource_problems(connection.id)
        if lists and all(problems.get(sync_list.key) == "plan_required" for sync_list in lists):
            self._limit(tx, connection, run)
        elif run.reason is not None:
            self._fail(tx, connection, run, run.reason, run.description or "", "sync_failing")
        else:
            duration_ms = round((self.now - run.started_at).total_seconds() * 1000)
            finished = finish(run, self.now)
            tx.runs.save(finished)
            tx.outbox.append(connection.about, [SyncCompleted(run.id, run.counts, duration_ms)], self.now)
            problem = "plan_required" if connection.access_limited else None
            planned = replace(self._plan_next(connection, finished), last_synced_at=self.now, problem=problem)
            tx.connections.save(planned, connection.generation)

    def park(self, tx: Transaction, connection: Connection, run: SyncRun, until: datetime) -> None:
        """Lets go of the run until then: it waits as a row, not in a thread."""
        tx.runs.save(replace(run, lease_owner=None, lease_until=None, resume_at=until))
        tx.connections.save(replace(connection, sync_due_at=until), connection.generation)

    def put_aside(self, tx: Transaction, connection: Connection, run: SyncRun, error: VaultError) -> None:
        """Nothing can leave before an operator has put back what is missing; until then the run waits, and it is tried
        at every interval."""
        self.park(tx, replace(connection, problem="token_unreadable"), run, self.now + self.interval)
        if connection.problem != "token_unreadable":
            tx.journal.decide(connection.id, self.now, "sync.token_unreadable", generation=connection.generation)
        structlog.get_logger("sync").error("sync.impossible", connection_id=connection.id, error=str(error))

    def _limit(self, tx: Transaction, connection: Connection, run: SyncRun) -> None:
        limited, facts = limit_access(connection)
        tx.outbox.append(connection.about, facts, self.now)
        self._fail(tx, limited, run, "plan_required", "the account's plan has no API access (403)", "plan_required")

    def _fail(
        self, tx: Transaction, connection: Connection, run: SyncRun, reason: str, description: str, problem: str
    ) -> None:
        failed = fail(run, reason, description, self.now)
        tx.runs.save(failed)
        tx.outbox.append(connection.about, [SyncFailed(run.id, reason, description)], self.now)
        tx.journal.decide(connection.id, self.now, "sync.failed", reason=reason, description=description)
        tx.connections.save(replace(self._plan_next(connection, failed), problem=problem), connection.generation)

    def _go_on(self, tx: Transaction, connection: Connection, run: SyncRun) -> SyncRun:
        run = replace(run, lease_until=self.now + run_lease)
        tx.runs.save(run)
        tx.connections.save(replace(connection, sync_due_at=run.lease_until), connection.generation)
        return run

    def _plan_next(self, connection: Connection, run: SyncRun) -> Connection:
        position = spread(connection.id, int(self.now.timestamp()))
        return plan_next(
            connection, run, self.providers[connection.provider].provider, self.interval, position, self.now
        )

    def _step(self, tx: Transaction, connection: Connection) -> Step:
        return Step(tx, self.providers[connection.provider].provider, connection, self.now)

    def _plan(self, connection: Connection, run: SyncRun) -> tuple[SyncList, ...]:
        return plan_lists(self.providers[connection.provider].provider, connection.team_ids, run.depth)

    def _is_account(self, connection: Connection, sync_list: SyncList) -> bool:
        return sync_list.path == self.providers[connection.provider].provider.account_path
