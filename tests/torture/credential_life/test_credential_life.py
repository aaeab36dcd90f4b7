"""A credential's life as a state machine: the real flows on a real store, at a model of the provider.

Hypothesis picks what happens next: a refresh falls due, a worker starts, sends, dies, hears late or never, the user
revokes or authorizes again, the application disconnects, the database goes away, time passes. After every step the
invariants must hold, and in the end all that is unknown must have been resolved. `PROPERTY_EXAMPLES=2000` looks deeper.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import uuid4

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event

from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault, new_key
from models.http import HttpAnswer, NoAnswer
from models.messaging.events import StoredEvent
from models.migrations import migrate
from models.oauth.authorization import Authorization, Step
from models.oauth.client import OAuthClient
from models.oauth.connection import Connection, NewPair, Status, authorize
from models.oauth.credential import Credential, place_of_token
from models.provider import Provider, RefreshReuse, Resource
from models.store import Store, open_engine
from tests.torture.credential_life.jobs import Away, Job, StandingClient
from tests.torture.credential_life.provider import Family, ModelProvider, RefreshToken, refusal
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.recover_tokens import RecoverTokens
from worker.oauth.refresh import Refresh
from worker.sync.run import Sync
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking

works_on = timedelta(seconds=50)
"""How long after a request was sent the provider may still act on it: within `settle_time`, as the flows assume."""
most_jobs = 3
most_rounds = 60


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


class Ground:
    """What all examples share: a migrated database, a key, places to park."""

    def __init__(self, directory: Path) -> None:
        engine = open_engine(Secret(f"sqlite:///{directory}/life.db"))
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        migrate(engine, [])
        self.store = Store(engine)
        self.vault = Vault((new_key("k1"),))
        self.parking = Parking(self.vault, fakeredis.FakeRedis(server=fakeredis.FakeServer()), directory / "spool")


class CredentialLife(RuleBasedStateMachine):
    """`reuse` is what the provider does with a spent refresh token that is presented again."""

    reuse: ClassVar[RefreshReuse]
    ground: ClassVar[Ground]

    @initialize(ends=st.sampled_from([0, 0, 1]), is_put_off=st.booleans())
    def connect(self, ends: int, is_put_off: bool) -> None:
        self.clock = Clock()
        self.profile = Provider(
            name=f"p{uuid4().hex[:12]}",
            authorize_url="https://p/authorize",
            token_url="https://p/token",
            api_url="https://p/api",
            pkce=False,
            refresh_reuse=self.reuse,
            grace_seconds=90,
            token_requests_per_minute=0,
            resources=(Resource(name="account", path="/me"),),
        )
        self.model = ModelProvider(self.profile, self.clock)
        self.jobs: list[Job] = []
        self.store = Away(self.ground.store)
        self._wire()
        access, refresh = self.model.authorize()
        first = Connection(uuid4().hex, "ada", self.profile.name, "client", "1", Status.active, self.clock())
        self.id = first.id
        held, _ = authorize(first, NewPair(self.clock(), timedelta(hours=1), None), "client", None, (), False)
        with self.ground.store.writing() as tx:
            tx.connections.add(held)
            tx.credentials.put(
                Credential(
                    self.id,
                    self._seal(access, "access_token"),
                    self._seal(refresh, "refresh_token"),
                    self.clock(),
                    held.expires_at,
                )
            )
        self.unknown: set[int] = set()
        self.held: list[Family] = [self.model.families[0]]
        self.generation = 1
        self.uncertain = 0
        """How often an answer was lost, or no use: as often a token may be presented again where that is harmless."""
        self.ends = ends
        self.is_put_off = is_put_off

    def _wire(self) -> None:
        ground, store, clock = self.ground, self.store, self.clock
        client = OAuthClient(
            provider=self.profile.name, client_id="client", client_secret=Secret("s"), redirect_uri="https://a/b"
        )
        book = OAuthClients(store, ground.vault, (client,))  # type: ignore[arg-type]
        providers: Any = {self.profile.name: StandingClient(self.model, clock)}
        common: tuple[Any, Any, Any, Any, Any] = (store, ground.vault, book, providers, ground.parking)
        self.refresh = Refresh(*common, lambda message: None, clock)
        self.probe = ProbeClient(store, book, providers, lambda message: None, clock)  # type: ignore[arg-type]
        self.exchange = Exchange(*common, lambda message: None, clock)
        self.take_in = RecoverTokens(store, ground.vault, book, providers, ground.parking, lambda message: None, clock)  # type: ignore[arg-type]
        self.sync = Sync(store, ground.vault, providers, lambda message: None, clock, timedelta(minutes=15))  # type: ignore[arg-type]
        self.disconnect = Disconnect(
            store,  # type: ignore[arg-type]
            ground.vault,
            providers,
            ground.parking,
            lambda message: None,
            clock,
            lambda calls: None,
        )

    # What happens

    @precondition(lambda self: len(self.jobs) < most_jobs)
    @rule(falls_due=st.sampled_from([True, True, False]))
    def a_worker_starts_a_refresh(self, falls_due: bool) -> None:
        if falls_due:
            with self.ground.store.writing() as tx:
                tx.connections.make_refresh_due(self.id, self.clock())
        self._start(lambda: self.refresh(self.id))

    @precondition(lambda self: len(self.jobs) < most_jobs)
    @rule()
    def a_worker_starts_a_sync(self) -> None:
        self._start(lambda: self.sync(self.id))

    @precondition(lambda self: len(self.jobs) < most_jobs)
    @rule()
    def the_user_authorizes_again(self) -> None:
        authorization_id = uuid4().hex
        found = Authorization(
            id=authorization_id,
            provider=self.profile.name,
            client_id="client",
            user_id="ada",
            redirect_uri="https://a/b",
            step=Step.received,
            state_hash=authorization_id,
            browser_hash="b",
            created_at=self.clock(),
            expires_at=self.clock() + timedelta(minutes=10),
            code_received_at=self.clock(),
            due_at=self.clock(),
        )
        code = self.ground.vault.seal(Secret(self.model.give_code()), Place("authorization", found.id, "code"))
        with self.ground.store.writing() as tx:
            tx.authorizations.add(replace(found, code=code), authorization_id)
        self._start(lambda: self.exchange(authorization_id))

    @precondition(lambda self: self._standing("sending"))
    @rule(pick=st.integers(0, 9), how=st.sampled_from(["sent"] * 6 + ["refused", "503", "our client"]))
    def a_request_leaves(self, pick: int, how: str) -> None:
        answers: dict[str, NoAnswer | HttpAnswer | None] = {
            "sent": None,
            "refused": NoAnswer(False, "ConnectError"),
            "503": HttpAnswer(503, {}, b""),
            "our client": refusal("invalid_client"),
        }
        if how == "503":
            self._note_unknown()
        self._go_on(self._pick("sending", pick), answers[how])

    @precondition(lambda self: self._standing("waiting"))
    @rule(pick=st.integers(0, 9))
    def the_provider_acts(self, pick: int) -> None:
        self._act(self._pick("waiting", pick))

    @precondition(lambda self: self._standing("waiting"))
    @rule(pick=st.integers(0, 9), database_is_away=st.sampled_from([False, False, True]))
    def the_answer_arrives(self, pick: int, database_is_away: bool) -> None:
        job = self._pick("waiting", pick)
        self._act(job)
        answer = job.answer
        self.store.is_away = database_is_away
        self.uncertain += database_is_away
        self._go_on(job, answer if answer is not None else NoAnswer(True, "ReadTimeout"))
        self.store.is_away = False

    @precondition(lambda self: self._standing("waiting"))
    @rule(pick=st.integers(0, 9), how=st.sampled_from(["timeout", "500", "503", "cut"]), acted=st.booleans())
    def the_answer_is_lost(self, pick: int, how: str, acted: bool) -> None:
        job = self._pick("waiting", pick)
        if acted:
            self._act(job)
            if how == "503" and job.presented is not None:
                job.presented.is_lied_about = True
        lost = {
            "timeout": NoAnswer(True, "ReadTimeout"),
            "500": HttpAnswer(500, {}, b""),
            "503": HttpAnswer(503, {}, b""),
        }
        self._note_unknown()
        self._go_on(job, lost.get(how, HttpAnswer(200, {}, b'{"access_', complete=False)))

    @precondition(lambda self: self._standing("asking"))
    @rule(pick=st.integers(0, 9), knows=st.sampled_from([True, True, False]))
    def the_api_answers(self, pick: int, knows: bool) -> None:
        self._go_on(self._pick("asking", pick), knows)

    @precondition(lambda self: any(not job.is_over for job in self.jobs))
    @rule(pick=st.integers(0, 9), acted=st.booleans())
    def a_worker_is_killed(self, pick: int, acted: bool) -> None:
        alive = [job for job in self.jobs if not job.is_over]
        job = alive[pick % len(alive)]
        if acted:
            self._act(job)
        self._note_unknown()
        job.kill()
        self._bury()

    @precondition(lambda self: self.ends > 0)
    @rule()
    def the_user_revokes(self) -> None:
        self.ends -= 1
        self.model.end_by_user()

    @precondition(lambda self: self.ends > 0)
    @rule()
    def the_application_disconnects(self) -> None:
        self.ends -= 1
        self._start(lambda: self.disconnect(self.id))

    @rule(seconds=st.sampled_from([1, 5, 8, 12, 31, 61, 130, 3700]))
    def time_passes(self, seconds: int) -> None:
        self._pass(timedelta(seconds=seconds))

    @precondition(lambda self: not self.jobs)
    @rule(acted=st.sampled_from([True, True, False]))
    def a_refresh_is_sent_and_never_heard_of(self, acted: bool) -> None:
        self.a_worker_starts_a_refresh(falls_due=True)
        for job in [each for each in self.jobs if each.at == "sending"]:
            self._go_on(job, None)
            self.the_answer_is_lost(pick=0, how="timeout", acted=acted)

    @precondition(lambda self: not self.jobs and self.reuse == "harmless")
    @rule(acted=st.booleans())
    def the_endpoint_can_not_until_the_access_token_has_run_out(self, acted: bool) -> None:
        """503 twice, and the first time perhaps for a grant that was run."""
        self._pass(timedelta(seconds=3700))
        for runs in (acted, False):
            self.a_worker_starts_a_refresh(falls_due=True)
            for job in [each for each in self.jobs if each.at == "sending"]:
                self._go_on(job, None)
                self.the_answer_is_lost(pick=0, how="503", acted=runs)
            self._pass(timedelta(seconds=61))

    @precondition(lambda self: not self.jobs)
    @rule()
    def the_user_comes_back_while_an_answer_is_on_its_way(self) -> None:
        self.a_worker_starts_a_refresh(falls_due=True)
        for job in [each for each in self.jobs if each.at == "sending"]:
            self._go_on(job, None)
            self._act(job)
        slow = list(self.jobs)
        self.the_user_authorizes_again()
        self._play_out([job for job in self.jobs if job not in slow])

    @precondition(lambda self: not self.jobs and self.reuse == "grace")
    @rule(seconds=st.sampled_from([3, 8]))
    def a_second_try_leaves_as_the_grace_ends(self, seconds: int) -> None:
        self.a_refresh_is_sent_and_never_heard_of(acted=True)
        self._pass(timedelta(seconds=self.profile.grace_seconds - 6))
        self.a_worker_starts_a_refresh(falls_due=False)
        for job in [each for each in self.jobs if each.at == "asking"]:
            self._go_on(job, True)
        self._pass(timedelta(seconds=seconds))
        for job in [each for each in self.jobs if each.at == "sending"]:
            self._go_on(job, None)
            self._act(job)

    @precondition(lambda self: not self.jobs)
    @rule()
    def a_calm_minute_passes(self) -> None:
        self._pass(timedelta(seconds=61))
        self._probe(works=True)
        self._start(lambda: self.refresh(self.id))
        self._play_out()

    @precondition(lambda self: len(self.jobs) < most_jobs)
    @rule(works=st.sampled_from([True, True, False]))
    def the_endpoint_is_probed(self, works: bool) -> None:
        self._probe(works)

    def _probe(self, works: bool) -> None:
        """The probe of an open breaker, if one is due; no other job waits for it."""
        job = Job(lambda: self.probe(self.profile.name, "client"))
        while not job.is_over:
            answer = refusal("invalid_request") if works else HttpAnswer(502, {}, b"")
            job.go_on(lambda answer=answer: answer)  # type: ignore[misc]
        assert job.error is None

    @rule()
    def parked_pairs_are_taken_in(self) -> None:
        self.take_in()

    # What must hold

    @invariant()
    def all_is_well(self) -> None:
        assert [job.error for job in self.jobs if job.error is not None] == [], "a flow met a defect"
        with self.ground.store.reading() as tx:
            connection, credential = tx.connections.get(self.id), tx.credentials.get(self.id)
            events = tx.outbox.read(connection_id=self.id, limit=1000)
        assert connection is not None
        assert credential is not None
        self._check_provider()
        self._check_generations(connection, [each for _, each in events if each.stream == "events"])
        self._check_reason(connection)
        self._check_tokens(connection, credential)

    def _check_provider(self) -> None:
        assert not any(family.ended_by_us for family in self.model.families), "we ended a user's grant"
        most = {"family_revoked": 0, "grace": 1, "harmless": self.uncertain}[self.reuse]
        shown = [token.shown_after_spent for token in self.model.refresh_tokens.values()]
        assert max(shown) <= most, "a spent token was presented more often than it may be"

    def _check_generations(self, connection: Connection, events: list[StoredEvent]) -> None:
        assert self.generation <= connection.generation <= self.generation + 1, "a generation was skipped or reused"
        self.generation = connection.generation
        pairs = sum(each.type in ("connection.refreshed", "connection.authorized") for each in events)
        assert connection.generation == 1 + pairs, "a new pair without its event, or an event without its pair"
        assert [each.sequence for each in events] == list(range(1, len(events) + 1))

    def _check_reason(self, connection: Connection) -> None:
        if connection.status is not Status.revoked:
            return
        if connection.revoked_reason == "rotation_lost":
            assert connection.generation in self.unknown, "said to be lost, and no answer was missing"
        else:
            user_revoked = any(family.ended_by_user for family in self.model.families)
            assert user_revoked, f"{connection.revoked_reason}, and the user did nothing"

    def _check_tokens(self, connection: Connection, credential: Credential) -> None:
        if connection.status is Status.disconnected:
            assert (credential.access_token, credential.refresh_token) == (None, None)
        if credential.refresh_token is not None:
            self._check_grant(self._token(connection, credential).family)
        if connection.status is not Status.active or credential.presented_at is not None:
            return
        token = self._token(connection, credential)
        live = token.spent_at is None and token.family.is_alive
        assert live or token.family.ended_by_user, "active, nothing unknown, and not the live pair"

    def _check_grant(self, family: Family) -> None:
        """Once a new authorization stands, nothing brings the grant before it back."""
        if family is self.held[-1]:
            return
        assert not any(family is each for each in self.held), "an older grant overwrote a newer one"
        self.held.append(family)

    def teardown(self) -> None:
        """Calm comes back, perhaps after one more 503: whatever was unknown is resolved, and what is active works."""
        if not hasattr(self, "id"):
            return
        for job in self.jobs:
            if not job.is_over:
                self._note_unknown()
                job.kill()
        self.jobs.clear()
        self.take_in()
        self.all_is_well()
        for _ in range(most_rounds):
            connection, credential = self._stored()
            due = connection.refresh_due_at
            if connection.status is not Status.active or (credential.presented_at is None and due is None):
                break
            if credential.presented_at is None and due is not None and due > self.clock():
                break
            wait = timedelta(0) if due is None else due - self.clock()
            self._pass(max(wait, timedelta(seconds=61)))
            self._probe(works=True)
            self._start(lambda: self.refresh(self.id))
            self._play_out()
            self.all_is_well()
        connection, credential = self._stored()
        assert connection.status is not Status.active or credential.presented_at is None, "never resolved"
        self.all_is_well()

    def _play_out(self, jobs: list[Job] | None = None) -> None:
        for job in list(self.jobs if jobs is None else jobs):
            while not job.is_over:
                match job.at:
                    case "sending":
                        put_off = HttpAnswer(503, {}, b"") if self.is_put_off else None
                        if self.is_put_off:
                            self._note_unknown()
                        self.is_put_off = False
                        job.go_on(lambda put_off=put_off: put_off)  # type: ignore[misc]
                    case "waiting":
                        self._act(job)
                        answer = job.answer
                        job.go_on(lambda answer=answer: answer)  # type: ignore[misc]
                    case _:
                        job.go_on(lambda: True)
        self._bury()

    # How it is played

    def _start(self, flow: Any) -> None:
        self.jobs.append(Job(flow))
        self._bury()

    def _bury(self) -> None:
        self.jobs = [job for job in self.jobs if not job.is_over or job.error is not None]

    def _standing(self, at: str) -> bool:
        return any(job.at == at for job in self.jobs)

    def _pick(self, at: str, pick: int) -> Job:
        standing = [job for job in self.jobs if job.at == at]
        return standing[pick % len(standing)]

    def _go_on(self, job: Job, decided: Any) -> None:
        if self.store.is_away:
            self._note_unknown()
        job.go_on(lambda: decided)
        self._bury()

    def _act(self, job: Job) -> None:
        """The provider works on the request, once; what it answered is on its way."""
        if job.act is not None and job.answer is None and job.sent_at is not None:
            job.answer = job.act()
            job.presented = self.model.newest
        job.act = None

    def _pass(self, length: timedelta) -> None:
        """Time goes on; what the provider has not acted on by then it never will."""
        end = self.clock.time + length
        for job in self.jobs:
            if job.at in ("sending", "waiting"):
                self._note_unknown()
            if job.sent_at is not None and job.sent_at + works_on < end:
                job.act = None
        self.clock.time = end

    def _note_unknown(self) -> None:
        self.uncertain += 1
        self.unknown.add(self._stored()[0].generation)

    def _stored(self) -> tuple[Connection, Credential]:
        with self.ground.store.reading() as tx:
            connection, credential = tx.connections.get(self.id), tx.credentials.get(self.id)
        assert connection is not None
        assert credential is not None
        return connection, credential

    def _token(self, connection: Connection, credential: Credential) -> RefreshToken:
        assert credential.refresh_token is not None
        value = self.ground.vault.open(credential.refresh_token, place_of_token(connection, "refresh_token"))
        return self.model.refresh_tokens[value.reveal()]

    def _seal(self, value: str, field: str) -> Any:
        return self.ground.vault.seal(Secret(value), Place("credential", self.id, field, 1))


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with TemporaryDirectory() as directory:
        made = Ground(Path(directory))
        yield made
        made.store.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("reuse", ["harmless", "family_revoked", "grace"])
def test_whatever_happens_no_token_is_lost_to_a_race_and_no_reason_is_untrue(
    ground: Ground, reuse: RefreshReuse
) -> None:
    life = type("Life", (CredentialLife,), {"reuse": reuse, "ground": ground})
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "25")),
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize="PROPERTY_EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )
