"""Judge a provider: its token endpoint, the URL of its API, an open breaker, a hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized, html_page
from models.health.finding import Finding, State
from models.http import HttpAnswer, NoAnswer
from models.oauth.client import OAuthClient, StoredClient
from models.oauth.hold import Hold
from models.oauth.token_response import (
    ClientRefused,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokensGranted,
    read_token_answer,
)
from models.provider import usual_error_aliases


@dataclass(frozen=True, slots=True)
class Base:
    """One URL that the provider's API may answer at, and what it answered to the account's request."""

    url: str
    outcome: ApiOutcome


def judge_token_endpoint(
    client: OAuthClient,
    url: str,
    answer: HttpAnswer | NoAnswer,
    now: datetime,
    aliases: Mapping[str, str] = usual_error_aliases,
    proxy: str | None = None,
) -> Finding:
    """From the answer to a refresh that carries no refresh token. It can't succeed, and a server that says so has
    authenticated the client before."""
    prefix = client.provider.upper()
    who = f"{url} accepts client {client.client_id}"
    outcome = read_token_answer("refresh_token", answer, now, [client.client_secret.reveal()], aliases)
    if isinstance(answer, NoAnswer) and proxy is not None:
        said = f"{url} does not answer through the proxy {proxy} ({answer.why})"
        return _token_endpoint("failed", said, "Correct the proxy variable, or name the host in NO_PROXY.")
    if isinstance(answer, NoAnswer):
        remedy = f"Check the network and {prefix}_TOKEN_URL."
        return _token_endpoint("failed", f"{url} does not answer ({answer.why})", remedy)
    match outcome:
        case RequestRefused() | GrantRefused() | ScopeRefused():
            return _token_endpoint("ok", who)
        case ClientRefused(evidence) if evidence.error:
            said = f"{url} rejects client {client.client_id} ({evidence.error})"
            return _token_endpoint("failed", said, f"Check {prefix}_CLIENT_ID and {prefix}_CLIENT_SECRET.")
        case NotNow() if answer.status == 407:
            said = f"the proxy on the way to {url} asks for credentials (HTTP 407)"
            return _token_endpoint("failed", said, "Put its user and password into the proxy variable's URL.")
        case NotNow(_, retry_after, throttled):
            why = "is throttled" if throttled else "is in maintenance"
            later = "later" if retry_after is None else f"in {retry_after.total_seconds():.0f} s"
            return _token_endpoint("warn", f"{url} {why}", f"Try again {later}.")
        case ClientRefused() | OutcomeUnknown() | TokensGranted():
            said = f"{url} answers HTTP {answer.status}, not as a token endpoint"
            return _token_endpoint("failed", said, f"Check {prefix}_TOKEN_URL.")
        case _:
            assert_never(outcome)


def judge_breaker(client: StoredClient, said: str) -> Finding:
    """Judge an open breaker: one that an operator paused is only a reminder."""
    if client.paused_at is not None:
        return Finding("breaker", "warn", said, f"breezesync provider resume {client.provider}")
    if client.is_rejected:
        prefix = client.provider.upper()
        return Finding("breaker", "failed", said, f"Check {prefix}_CLIENT_ID and {prefix}_CLIENT_SECRET.")
    return Finding("breaker", "failed", said, "Nothing; it closes by itself when the token endpoint is back.")


def judge_hold(hold: Hold, said: str) -> Finding:
    remedy = (
        f"Ask the provider what happened. If it is mended, breezesync provider release {hold.provider}; if the grants "
        f"are gone for good, breezesync provider accept {hold.provider}."
    )
    return Finding("hold", "failed", said, remedy)


def judge_bases(provider: str, asked_with_token: bool, bases: Sequence[Base]) -> Finding:
    """Which URL the API answers at, the configured one first. Without a live token, a 401 is how an API answers."""
    answers = ", ".join(f"{base.url} {_describe(base.outcome)}" for base in bases)
    good = [base.url for base in bases if _is_api(base.outcome, asked_with_token)]
    variable = f"{provider.upper()}_API_URL"
    if bases[0].url in good and asked_with_token:
        return Finding("api", "ok", answers)
    if bases[0].url in good:
        remedy = "Connect a user with breezesync connect-link USER, or mend what keeps a token from being used."
        return Finding("api", "warn", f"no connection has a valid token that opens; without one, {answers}", remedy)
    if good:
        return Finding("api", "failed", answers, f"Set {variable}={good[0]}")
    if bases[0].outcome == Failed(html_page):
        remedy = f"That is a website, or a login page before the API: set {variable} to the API's base URL."
        return Finding("api", "failed", answers, remedy)
    if all(isinstance(base.outcome, Throttled) for base in bases):
        return Finding("api", "warn", answers, "Try again in a minute.")
    return Finding("api", "failed", answers, f"Check the network and {variable}.")


def _token_endpoint(state: State, said: str, remedy: str = "") -> Finding:
    return Finding("token endpoint", state, said, remedy)


def _is_api(outcome: ApiOutcome, asked_with_token: bool) -> bool:
    return isinstance(outcome, Page | Forbidden) if asked_with_token else isinstance(outcome, Unauthorized)


def _describe(outcome: ApiOutcome) -> str:
    match outcome:
        case Page():
            return "answers"
        case Forbidden():
            return "answers (403: the account's plan has no API access)"
        case Unauthorized():
            return "answers 401"
        case Missing():
            return "answers 404"
        case Throttled():
            return "is throttled (429)"
        case Failed(why) if why == html_page:
            return f"answers {why}"
        case Failed(why):
            return f"does not answer ({why})"
        case _:
            assert_never(outcome)
