"""Judge the answers of each part that `doctor` checks: one finding each, with its remedy."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal, assert_never
from urllib.parse import urlsplit

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized, html_page
from models.http import HttpAnswer, NoAnswer
from models.oauth.authorization import Confirmation
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
from models.webhooks.endpoint import Endpoint

State = Literal["ok", "warn", "failed"]
loopback_names = frozenset({"localhost", "127.0.0.1", "::1"})
oldest_redis = (6, 2)
noticeable = timedelta(seconds=2)
harmful = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; every failure has a remedy."""

    check: str
    state: State
    said: str
    remedy: str = ""


def judge_loopback_names(variable: str, redirect_uri: str, return_origins: Collection[str]) -> Finding | None:
    """Warn if the redirect URI, in `variable`, and each origin name this machine differently; else return None.

    A browser keeps the cookies of `localhost` and of `127.0.0.1` apart, and a provider compares redirect URIs as text.
    """
    own = urlsplit(redirect_uri).hostname
    others = sorted(origin for origin in return_origins if urlsplit(origin).hostname != own)
    differing = [origin for origin in others if urlsplit(origin).hostname in loopback_names]
    if own not in loopback_names or not differing or len(others) < len(return_origins):
        return None
    other = urlsplit(differing[0]).hostname
    said = f"{variable} says {own}, and RETURN_ORIGINS says {other}: to a browser these are two sites"
    remedy = f"Use one name in both: change {own} to {other} in {variable}, and where it is registered at the provider."
    return Finding("settings", "warn", said, remedy)


@dataclass(frozen=True, slots=True)
class Base:
    """One URL that the provider's API may answer at, and what it answered to the account's request."""

    url: str
    outcome: ApiOutcome


def judge_confirmation(mode: Confirmation) -> Finding:
    """Judge who says that a browser is the link's user's."""
    match mode:
        case Confirmation.application:
            said = (
                "the application confirms each authorization before its code leaves; without a return_to, our page asks"
            )
            return Finding("confirmation", "ok", said)
        case Confirmation.page:
            return Finding("confirmation", "ok", "our page asks before the provider does")
        case Confirmation.off:
            said = (
                "CONNECT_CONFIRMATION=off: whoever opens a link made for another user, and has allowed access before, "
                "hands that user their account without a click"
            )
            return Finding("confirmation", "warn", said, "Set CONNECT_CONFIRMATION to application or page.")


def judge_clock(whose: str, theirs: datetime, ours: datetime, precision: timedelta = timedelta()) -> Finding:
    """Judge how far a clock is from ours: links are signed and logs written by it, though no lease depends on it."""
    distance = abs(theirs - ours)
    said = f"{whose} and this machine are {distance.total_seconds():.1f} s apart"
    if distance <= noticeable + precision:
        return Finding("clock", "ok", said)
    state: State = "warn" if distance <= harmful else "failed"
    return Finding("clock", state, said, "Synchronize every machine's clock by NTP; see timedatectl.")


def judge_process_clock(process: str, ahead: float) -> Finding:
    """Judge what a process measured of its own machine's clock, in seconds; not 0."""
    said = f"the machine of {process} is {describe_offset(ahead)} the database"
    state: State = "warn" if abs(ahead) <= harmful.total_seconds() else "failed"
    return Finding("clock", state, said, "Synchronize that machine's clock by NTP; see timedatectl.")


def describe_offset(ahead: float) -> str:
    """Return how many seconds a clock is ahead of another, or behind it, as words that the other's name follows."""
    return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"


def read_date(answer: HttpAnswer | NoAnswer) -> datetime | None:
    """Return the answer's `Date`, which has whole seconds (RFC 9110 §6.6.1); None if there is none."""
    try:
        at = parsedate_to_datetime(answer.headers["date"]) if isinstance(answer, HttpAnswer) else None
    except (KeyError, ValueError):
        return None
    return at if at is not None and at.tzinfo is not None else None


def judge_redis(url: str, info: Mapping[str, object], snapshots: str | None) -> Iterator[Finding]:
    """Judge version, role, persistence and eviction by INFO, and by the setting `save` if it is readable."""
    version = str(info.get("redis_version", ""))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < oldest_redis:
        yield Finding("redis", "failed", f"{url} is {name}", "Use Redis 6.2 or newer, or any Valkey.")
    elif info.get("role", "master") != "master":
        remedy = "Set REDIS_URL to the primary."
        yield Finding("redis", "failed", f"{url} is a read-only replica", remedy)
    else:
        yield Finding("redis", "ok", f"{url} is {name}")
    if info.get("aof_enabled") in (1, "1"):
        yield Finding("redis persistence", "ok", "appendonly yes")
    else:
        kept = "snapshots only" if snapshots else "nothing survives a restart"
        remedy = "Set appendonly yes. Without it, lost messages are sent again from the database, with a delay."
        yield Finding("redis persistence", "warn", kept, remedy)
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield Finding("redis memory", "ok", "maxmemory-policy noeviction")
    else:
        remedy = "Set maxmemory-policy noeviction, so that Redis never drops messages or events."
        yield Finding("redis memory", "warn", f"maxmemory-policy {policy}", remedy)


def judge_keys(url: str, expected: Mapping[str, str], found: Mapping[str, str | None]) -> Iterator[Finding]:
    """Judge whether each of our keys has its type; `found` is "none" if there is no such key, None if unknown."""
    wrong = {key: kind for key, kind in found.items() if kind not in (None, "none", expected[key])}
    for key, kind in wrong.items():
        remedy = f"Something else uses this key. Rename it (RENAME {key} …), or set another stream name or database."
        yield Finding("redis", "failed", f"{key} in {url} is a {kind}, not a {expected[key]}", remedy)


def judge_schema(url: str, revision: str | None, newest: str) -> Finding:
    if revision is None:
        return Finding("database", "failed", f"{url} has no schema yet", "Run breezesync migrate.")
    if revision != newest:
        said = f"{url} has schema {revision}, this version needs {newest}"
        return Finding("database", "failed", said, "Run breezesync migrate.")
    return Finding("database", "ok", f"{url}, schema {revision}")


def judge_webhooks(endpoints: Sequence[Endpoint], dead: Mapping[str, int]) -> Iterator[Finding]:
    """Judge the endpoints that get no events, or did not take some; `dead` counts dead letters by an endpoint's id."""
    for each in endpoints:
        if each.is_gone:
            said = f"the endpoint {each.name} answered 410: nothing is sent to it"
            remedy = f"breezesync webhooks resume {each.name}, or breezesync webhooks remove {each.name}"
            yield Finding("webhooks", "warn", said, remedy)
        elif each.paused_at is not None:
            said = f"the endpoint {each.name} is paused: its events wait"
            yield Finding("webhooks", "warn", said, f"breezesync webhooks resume {each.name}")
        elif each.failing_since is not None:
            said = f"the endpoint {each.name} has failed since {each.failing_since:%Y-%m-%d %H:%M} UTC ({each.error})"
            yield Finding("webhooks", "warn", said, f"Mend {each.url}, then breezesync webhooks test {each.name}.")
        if dead.get(each.id):
            said = f"{dead[each.id]} events for the endpoint {each.name} were given up after three days"
            yield Finding("webhooks", "warn", said, "breezesync dead-letters, then breezesync dead-letters retry --all")
    if endpoints and all(each.state == "active" and not dead.get(each.id) for each in endpoints):
        yield Finding("webhooks", "ok", f"events are sent to {', '.join(each.name for each in endpoints)}")


def judge_history(strays: Mapping[str, int]) -> Iterator[Finding]:
    """Warn of rows that came when there was no partition for their day; `strays` counts some of each table's."""
    if strays:
        counts = " and ".join(f"{count} of {table}" for table, count in strays.items())
        said = f"rows of history have no partition for their day: {counts}"
        remedy = "Start a scheduler, which makes days ahead. If one runs, look for daysahead.failed in its log."
        yield Finding("history", "warn", said, remedy)


def judge_seals(sealing: str, opened: int, unopened: Mapping[str, str], *, is_sample: bool = False) -> Finding:
    """Judge whether every secret can be opened; `unopened` maps the place of each that cannot to the reason.

    `is_sample`: there are more, which were not tried.
    """
    if not unopened:
        which = "stored secrets that were tried" if is_sample else "stored secrets"
        return Finding("keys", "ok", f"{sealing} seals new secrets; all {opened} {which} can be opened")
    place, why = next(iter(unopened.items()))
    said = f"{len(unopened)} of {opened + len(unopened)} secrets cannot be opened, the first one in {place}: {why}"
    remedy = (
        "If a key is missing or wrong, restore ENCRYPTION_KEYS; if not, these are damaged, and their users have to "
        "authorize again."
    )
    return Finding("keys", "failed", said, remedy)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What a key sealed: rows of the database, and pairs of tokens that are parked in the spool or in Redis."""

    rows: int = 0
    pairs: int = 0

    def __str__(self) -> str:
        counts = ((self.rows, "row"), (self.pairs, "parked pair"))
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count]
        return f"{' and '.join(parts)} {'needs' if self.rows + self.pairs == 1 else 'need'} it"


def judge_missing_keys(missing: Mapping[str, KeyUse], given_up: Collection[str]) -> Iterator[Finding]:
    """Report each key that stored secrets need and the settings lack."""
    for key, use in missing.items():
        said = f"key {key} is not configured, and {use}"
        if key in given_up:
            yield Finding("keys", "warn", f"{said}; WITHOUT_KEYS gives them up", "Their users have to authorize again.")
        else:
            where = "Set VAULT_ADDR and VAULT_TOKEN" if key.startswith("vault:") else "Add it to ENCRYPTION_KEYS"
            yield Finding("keys", "failed", said, f"{where}; without it no worker starts, unless WITHOUT_KEYS={key}.")


restore_keys = (
    "Restore ENCRYPTION_KEYS (in the fleet: secrets/encryption_keys) from your copy. If that key is lost for good, "
    "give the new one an id of its own (breezesync keys new), and set WITHOUT_KEYS to the old one's id."
)


def describe_wrong_key(key: str) -> str:
    return f"key {key} is configured, but {key} is not the key that sealed what is stored"


def judge_wrong_keys(wrong: Mapping[str, KeyUse]) -> Iterator[Finding]:
    """Report each key that has the id of the one that stored secrets need, and opens none of them."""
    for key, use in wrong.items():
        yield Finding("keys", "failed", f"{describe_wrong_key(key)}, and {use}", restore_keys)


def judge_key_service(said: str, status: int | None) -> Finding:
    """Judge why the server of the master key gave no data key; nothing ends by that, all tokens wait."""
    remedies = {
        400: "Check that VAULT_TRANSIT_KEY exists: vault write -f transit/keys/NAME derived=true",
        403: "Check VAULT_TOKEN, and that its policy has update on encrypt, decrypt and rewrap of VAULT_TRANSIT_KEY.",
        404: "Check VAULT_TRANSIT_KEY, VAULT_TRANSIT_MOUNT and VAULT_NAMESPACE.",
        503: "Unseal it: vault operator unseal",
    }
    remedy = remedies.get(status or 0, "Start it, or check VAULT_ADDR, VAULT_CACERT and the network.")
    return Finding("vault", "failed", said, f"{remedy} No token is refreshed until then.")


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
