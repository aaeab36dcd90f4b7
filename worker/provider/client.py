"""httpx out, values in: token requests with a hard deadline, API reads bounded in time and size."""

import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Generic, TypeVar
from urllib.parse import quote_plus, unquote

import httpx

from models.account import read_account
from models.api_response import ApiOutcome, Failed, Location, Page, Throttled, read_api_answer, read_remaining
from models.crypto.secrets import Secret
from models.gateway.call_request import longest_answer
from models.gateway.headers import headers_of_call
from models.http import HttpAnswer, NoAnswer
from models.journal import Request
from models.oauth.client import OAuthClient
from models.oauth.refresh_policy import Patience, patience_with
from models.oauth.token_response import GrantType, TokenOutcome, TokensGranted, read_token_answer
from models.paging.page_format import PageAsked, is_linked, parameters_of, target_of
from models.provider import Provider, Resource
from models.proxies import Proxies
from models.rate_limit import Wait
from worker.metrics.counters import Metrics, name_outcome
from worker.provider.rate_limit import Allowance, Budgets, api_deadline
from worker.provider.transport import (
    Meanwhile,
    ThreadTransports,
    Wire,
    find_usual_proxies,
    head_begins,
    parse_base,
    parse_page_url,
    parse_url,
)
from worker.tracing.spans import Facts, SpanName, Traces

largest_token_answer = 1 << 20
largest_page = 4 << 20
api_pool = 20
"""Connections of one thread to the API, which it needs one of."""
user_agent = "breezesync/0.1"
api_headers = ((b"Accept", b"application/json"), (b"User-Agent", user_agent.encode()))
api_timeout = httpx.Timeout(15).as_dict()
call_deadline = timedelta(seconds=20)
"""Of a call as a job: a worker that is told to stop still waits for its answer."""
methods_with_body = frozenset({"POST", "PUT", "PATCH"})
"""Without a body they say so (RFC 9110 §8.6)."""
no_body = httpx.ByteStream(b"")
secret_fields = ("code", "code_verifier", "refresh_token")


Outcome = TypeVar("Outcome")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Called(Generic[Outcome]):
    """A call's outcome, with what the request log keeps of it; status 0 if no answer came.

    `sent` is False if nothing left; `remaining` is how many more requests the provider says it takes.
    """

    outcome: Outcome
    at: datetime
    method: str
    path: str
    status: int
    duration_ms: int
    sent: bool = True
    remaining: int | None = None

    def read_as(self, outcome: Other, remaining: int | None = None) -> "Called[Other]":
        """The same call, its answer understood."""
        return Called(outcome, self.at, self.method, self.path, self.status, self.duration_ms, self.sent, remaining)

    def log_for(self, subject: str) -> list[Request]:
        """The request log's line, under a connection or, before there is one, its authorization."""
        line = Request(self.at, subject, self.method, self.path, self.status, self.duration_ms)
        return [line] if self.sent else []


Answered = Called[HttpAnswer | NoAnswer]


@dataclass(frozen=True, slots=True)
class Sending:
    """A request of an application as it leaves; `target` follows the path of `api_url`, `path` is what is logged."""

    method: str
    target: bytes
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    send_before: datetime


@dataclass(slots=True)
class ProviderClient:
    """Speaks to one provider. Each thread has its own connections; all share one SSL context.

    No API call leaves that the account's budget does not know of. `proxies` are those of the settings, or else of the
    environment as it was when the client was made.
    """

    provider: Provider
    now: Callable[[], datetime]
    budgets: Budgets
    ssl_context: ssl.SSLContext = field(default_factory=httpx.create_ssl_context)
    usual_patience: Patience = field(default_factory=Patience)
    proxies: Proxies = field(default_factory=find_usual_proxies)
    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces = field(default_factory=Traces)
    _api: ThreadTransports = field(init=False)
    _unshared: ThreadTransports = field(init=False)

    def __post_init__(self) -> None:
        """Make once what each request needs, so that what can fail fails at start, and not after an intent."""
        api = httpx.Limits(max_connections=api_pool, max_keepalive_connections=api_pool)
        # A token request, or a call as a job, never leaves on a connection that an earlier one has used: if the server
        # had closed it meanwhile, no one would know whether the request left.
        unshared = httpx.Limits(max_keepalive_connections=0)
        self._api = ThreadTransports(self.proxies, self.ssl_context, api)
        self._unshared = ThreadTransports(self.proxies, self.ssl_context, unshared)
        self._unshared.open().close()
        profile = self.provider
        bases = {profile.api_url_of(resource) for resource in profile.resources} | {profile.api_url}
        for url in filter(None, (profile.token_url, profile.revoke_url, *bases)):
            parse_url(url)

    @property
    def patience(self) -> Patience:
        return patience_with(self.provider, self.usual_patience)

    def exchange_code(
        self, client: OAuthClient, code: Secret, verifier: Secret | None, redirect_uri: str, send_before: datetime
    ) -> Called[TokenOutcome]:
        """RFC 6749 §4.1.3 with the same redirect URI as at authorize, and the verifier if a challenge was sent.

        An answer without a scope grants the one that was asked for (§5.1).
        """
        fields = {"code": code.reveal(), "redirect_uri": redirect_uri}
        if verifier is not None:
            fields["code_verifier"] = verifier.reveal()
        called = self._request_tokens("authorization_code", client, fields, send_before)
        granted = called.outcome
        if isinstance(granted, TokensGranted) and granted.scope is None:
            return called.read_as(replace(granted, scope=self.provider.scope or None))
        return called

    def refresh(
        self, client: OAuthClient, refresh_token: Secret, scope: str, send_before: datetime
    ) -> Called[TokenOutcome]:
        """RFC 6749 §6; an empty `scope` is not sent and means the one granted before."""
        fields = {"refresh_token": refresh_token.reveal()} | ({"scope": scope} if scope else {})
        return self._request_tokens("refresh_token", client, fields, send_before)

    def probe(self, client: OAuthClient) -> Called[TokenOutcome]:
        """Return what the answer to a refresh without a refresh token means; it spends nothing."""
        return self._request_tokens("refresh_token", client, {}, send_before=None)

    def ask_for_nothing(self, client: OAuthClient) -> HttpAnswer | NoAnswer:
        """A refresh without a token to refresh: it spends nothing, and its refusal tells whether the client is good."""
        body = {"grant_type": "refresh_token"}
        request = self._post(self.provider.token_url, client, body, as_json=self.provider.token_body == "json")  # noqa: S105
        called = self._send_watched(request, send_before=None)
        self._note_token_request("probe", called, None)
        return called.outcome

    def revoke(self, client: OAuthClient, token: Secret) -> Called[bool] | None:
        """RFC 7009 §2.1: whether the provider confirmed; None if it has no endpoint."""
        if not self.provider.revoke_url:
            return None
        request = self._post(self.provider.revoke_url, client, {"token": token.reveal()}, as_json=False)
        called = self._send_watched(request, send_before=None)
        return called.read_as(called.status == 200)

    def allow(self, account_id: str) -> Allowance:
        """Return an allowance for a job that reads this account; the job settles it."""
        return self.budgets.allow(self.provider, account_id)

    def read_page(
        self,
        resource: Resource,
        path: str,
        asked: PageAsked,
        access_token: Secret,
        allowance: Allowance,
        meanwhile: Meanwhile[object] | None = None,
    ) -> Called[ApiOutcome] | Wait:
        """One page of a resource, if the budgets of the account and the resource have room for it; else how long they
        have none."""
        wait = allowance.take(resource)
        if wait is not None:
            return wait
        called = self._get(resource, path, asked, access_token, meanwhile)
        allowance.note(resource, called.remaining)
        if isinstance(called.outcome, Throttled):
            allowance.settle(pause=called.outcome.retry_after.total_seconds())
        return called

    def read_account(self, access_token: Secret, account_id: str | None = None) -> Called[ApiOutcome]:
        """The profile's account resource: who this token is, and a free probe of whether it lives.

        It is counted and never made to wait: a user, or a pair of tokens, waits for it. Without `account_id` it counts
        for the account that answers.
        """
        resource = self.provider.account_resource
        called = self._get(resource, resource.path, PageAsked(), access_token)
        account = read_account(self.provider, called.outcome)
        whose = account_id or (account.id if account is not None else None)
        if whose is not None:
            pause = called.outcome.retry_after.total_seconds() if isinstance(called.outcome, Throttled) else 0
            self.budgets.count(self.provider, whose, resource, called.remaining, pause)
        return called

    def call(self, sending: Sending, access_token: Secret) -> Answered:
        """Make an application's request, which the caller has counted, on a connection of its own.

        If no answer came, it says whether the request may have arrived. No redirect is followed.
        """
        url, base = parse_base(self.provider.api_url)
        usual, authorization = self.provider.headers_with(api_headers), self.provider.authorization(access_token)
        has_length = sending.body is not None or sending.method in methods_with_body
        length = [(b"Content-Length", str(len(sending.body or b"")).encode())] if has_length else []
        request = httpx.Request(
            sending.method,
            url,
            headers=headers_of_call(sending.headers, usual, url.netloc, authorization, length),
            stream=no_body if sending.body is None else httpx.ByteStream(sending.body),
            extensions={"timeout": api_timeout, "target": base + sending.target},
        )
        wire = Wire(self.now, sending.send_before, leaves_with=head_begins)

        def send() -> HttpAnswer | NoAnswer:
            return self._send_alone(wire, request, longest_answer, call_deadline)

        called = self._measure(sending.method, sending.path, send)
        self.metrics.note_api_answer(self.provider.name, "call", called.status, called.duration_ms / 1000)
        headers = called.outcome.headers if isinstance(called.outcome, HttpAnswer) else {}
        return called.read_as(called.outcome, read_remaining(headers))

    def _get(
        self,
        resource: Resource,
        path: str,
        asked: PageAsked,
        access_token: Secret,
        meanwhile: Meanwhile[object] | None = None,
    ) -> Called[ApiOutcome]:
        """A GET that follows no redirect and reads at most 4 MiB in at most 30 s, however slowly it drips."""
        api_url, url = self.provider.api_url_of(resource), find_page_url(self.provider, resource, path, asked)
        # A stream of its own keeps httpx from looking for a body, and from adding headers that are here already.
        request = httpx.Request(
            "GET",
            url,
            headers=[
                (b"Host", url.netloc),
                *self.provider.headers_with(api_headers),
                (b"Authorization", self.provider.authorization(access_token)),
            ],
            stream=no_body,
            extensions={"timeout": api_timeout},
        )
        transport = self._api.own
        wire = Wire(self.now, kept_open=transport.kept_open.get(url.netloc), meanwhile=meanwhile)
        deadline = min(api_deadline, timedelta(seconds=resource.timeout_seconds))
        called = self._measure("GET", path, lambda: wire.send(transport, request, largest_page, deadline), meanwhile)
        transport.kept_open[url.netloc] = wire.socket
        if isinstance(called.outcome, NoAnswer):
            self._api.close_own()
        headers = called.outcome.headers if isinstance(called.outcome, HttpAnswer) else {}
        outcome = read_api_answer(called.outcome, resource, asked, self.now(), Location(str(url), api_url))
        if isinstance(outcome, Page) and access_token.reveal() in unquote(outcome.cursor or ""):
            # What continues a list is stored in clear.
            outcome = Failed("the link to the next page repeats the access token", is_lasting=True)
        remaining = read_remaining(headers)
        name, seconds = self.provider.name, called.duration_ms / 1000
        self.metrics.note_api_answer(name, resource.name, called.status, seconds)
        if not resource.requests_per_minute:
            self.metrics.note_budget(name, self.provider.api_requests_per_minute, remaining)
        facts: Facts = {"provider": name, "resource": resource.name, "method": "GET", "status": called.status}
        self.traces.note(SpanName.api_request, facts, seconds)
        return called.read_as(outcome, remaining)

    def _request_tokens(
        self, grant: GrantType, client: OAuthClient, fields: Mapping[str, str], send_before: datetime | None
    ) -> Called[TokenOutcome]:
        body = {"grant_type": grant, **fields}
        request = self._post(self.provider.token_url, client, body, as_json=self.provider.token_body == "json")  # noqa: S105
        called = self._send_watched(request, send_before)
        _, _, basic = request.headers.get("Authorization", "").rpartition(" ")
        sent = [client.client_secret.reveal(), basic, *(fields[name] for name in secret_fields if name in fields)]
        aliases = self.provider.error_aliases
        outcome = read_token_answer(grant, called.outcome, self.now(), sent, aliases)
        self._note_token_request(grant if len(body) > 1 else "probe", called, outcome)
        return called.read_as(outcome)

    def _note_token_request(self, grant: str, called: Answered, outcome: TokenOutcome | None) -> None:
        """Count and trace a request to the token endpoint, if it left; `outcome` is None if no one reads its answer."""
        if not called.sent:
            return
        provider = self.provider.name
        self.metrics.count_token_request(provider, grant, outcome)
        word = name_outcome(outcome)
        self.traces.note(
            SpanName.token_request,
            {"provider": provider, "grant": grant, "outcome": word, "status": called.status},
            called.duration_ms / 1000,
        )

    def _post(self, url: str, client: OAuthClient, fields: dict[str, str], as_json: bool) -> httpx.Request:
        """Client authentication in the body or as Basic (id and secret form-encoded first), never in the URI
        (RFC 6749 §2.3.1)."""
        headers = self._headers()
        if self.provider.client_auth == "basic":
            pair = ":".join(quote_plus(text) for text in (client.client_id, client.client_secret.reveal()))
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        else:
            fields = fields | {"client_id": client.client_id, "client_secret": client.client_secret.reveal()}
        seconds = self.patience.deadline.total_seconds()
        extensions = {"timeout": httpx.Timeout(seconds, connect=min(seconds, 10)).as_dict()}
        if as_json:
            return httpx.Request("POST", parse_url(url), json=fields, headers=headers, extensions=extensions)
        return httpx.Request("POST", parse_url(url), data=fields, headers=headers, extensions=extensions)

    def _send_watched(self, request: httpx.Request, send_before: datetime | None) -> Answered:
        """Sends on a connection of its own, and knows of a request that was not answered whether it left."""
        wire = Wire(self.now, send_before)

        def send() -> HttpAnswer | NoAnswer:
            return self._send_alone(wire, request, largest_token_answer, self.patience.deadline)

        return self._measure("POST", request.url.path, send)

    def _send_alone(self, wire: Wire, request: httpx.Request, largest: int, length: timedelta) -> HttpAnswer | NoAnswer:
        answer = wire.send(self._unshared.own, request, largest, length)
        if isinstance(answer, HttpAnswer):
            return answer
        self._unshared.close_own()
        return replace(answer, sent=wire.sent)

    def _measure(
        self,
        method: str,
        path: str,
        send: Callable[[], HttpAnswer | NoAnswer],
        meanwhile: Meanwhile[object] | None = None,
    ) -> Answered:
        at, started = self.now(), monotonic()
        answer = send()
        seconds = monotonic() - started - (0 if meanwhile is None else meanwhile.took)
        status, sent = (answer.status, True) if isinstance(answer, HttpAnswer) else (0, answer.sent)
        return Called(answer, at, method, path, status, round(seconds * 1000), sent)

    def close(self) -> None:
        """Closes the connections of every thread; none may be reading any more."""
        self._api.close()
        self._unshared.close()

    @staticmethod
    def _headers() -> dict[str, str]:
        return {"Accept": "application/json", "User-Agent": user_agent}


def find_page_url(provider: Provider, resource: Resource, path: str, asked: PageAsked) -> httpx.URL:
    """Return the URL of a page. Raises `httpx.InvalidURL`."""
    url = provider.api_url_of(resource) + target_of(resource, asked, path)
    query = "" if is_linked(resource, asked) else resource.query
    return parse_page_url(url, query, tuple(parameters_of(resource, asked).items()))
