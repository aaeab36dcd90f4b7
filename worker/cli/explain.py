"""A connection told to a person: what a decision meant, how it stands, and what happens next."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from models.oauth.connection import Connection, Status
from models.sync.sync_run import SyncRun

meanings = {
    "authorized": "the user authorized, a new pair of tokens was saved",
    "refresh.saved": "refreshed: a new pair of tokens was saved",
    "refresh.superseded": "a refresh came too late to count: a newer pair was there",
    "refresh.handed_over": "a refresh came too late to count: another worker had taken over",
    "refresh.unknown": "no answer to a refresh was kept; whether the token was spent is found out next",
    "refresh.malformed": "the provider called the refresh malformed; nothing was spent",
    "refresh.token_unreadable": "the refresh token can't be opened with the keys that are set; nothing left",
    "refresh.not_now": "the provider put the refresh off; nothing was spent",
    "refresh.unavailable": "the provider said that it could not refresh (503); whether that is so is found out next",
    "refresh.scope_refused": "the provider refused the scope; the refresh goes on without it",
    "client.rejected": "the provider refused the OAuth client; its refreshes pause, nobody's grant is at fault",
    "resolved.unspent": "the old access token still works, so the refresh token was not spent: it is presented",
    "resolved.presumed": "after a 503, and with nothing left to ask, it counts as not spent: it is presented",
    "resolved.presentagain": "whether it was spent can't be known; presenting it once more does no harm here",
    "resolved.lost": "the answer with the new pair was lost, and the old pair is dead",
    "resolved.wait": "whether it was spent can't be told yet",
    "revoked.access_revoked": "ended: the API and the token endpoint refuse the grant, the user revoked it",
    "revoked.refresh_rejected": "ended: the token endpoint refuses the grant",
    "revoked.refresh_expired": "ended: the refresh token expired",
    "revoked.rotation_lost": "ended: a new pair was issued and its answer lost",
    "access.refused": "the API refused the current access token; a refresh will tell why",
    "sync.token_unreadable": "the access token can't be opened with the keys that are set; nothing left",
    "sync.failed": "a reading was given up",
    "reading.unproven": "a list was read to its end without proof that anything is gone",
    "deletion.held_back": "very much of a resource, or all of it, was gone: kept until the next reading says so too",
    "disconnected": "disconnected, tokens erased",
    "disconnect.repeated": "asked to disconnect once more: it was disconnected already",
    "disconnect.superseded": "a disconnect came too late to count: the user authorized after it was asked for",
    "revoked.upstream": "the provider confirmed that the grant has ended",
    "revoked.upstream_unconfirmed": "the provider never confirmed that the grant has ended; it was asked for a day",
    "records.erased": "its records were erased",
}

problems = {
    "plan_required": "the account's plan has no API access (403); the token is good",
    "access_refused": "the API refuses a token that was only just issued",
    "provider_unavailable": "the provider does not refresh just now",
    "client_unknown": "its OAuth client is not in the settings, and no kept secret of it opens: put it back",
    "token_unreadable": "a token of it can't be opened with the keys that are set: breezesync doctor tells more",
    "refresh_malformed": "the provider does not understand our refresh requests",
    "sync_failing": "the last reading was given up",
}

list_problems = {
    "plan_required": "forbidden (403): the plan, or a team that the user is not in",
    "not_found": "not there (404)",
    "unreadable": "left out of the last reading: it failed again and again",
    "list_shifting": "it changed during every reading; nothing of it counts as gone",
    "nameless_records": "it holds records without an id; nothing of it counts as gone",
    "list_too_long": "longer than is read; nothing of it counts as gone",
    "many_gone": "very many of its records, or all, were gone at once; they are kept until the next reading",
}

reasons = {
    "access_revoked": "the user revoked the access at the provider",
    "refresh_rejected": "the provider refused the refresh token",
    "refresh_expired": "the refresh token expired",
    "rotation_lost": "the answer to a refresh was lost, and with it the new tokens",
}


def mean(verb: str) -> str:
    """What a decision says, in words; the verb itself where none are known."""
    return meanings.get(verb, verb)


def tell_state(connection: Connection) -> str:
    """How it stands, in one sentence without its subject."""
    match connection.status:
        case Status.active if connection.problem is not None:
            return f"active, but {problems.get(connection.problem, connection.problem)}"
        case Status.active:
            return "active"
        case Status.revoked:
            reason = connection.revoked_reason or ""
            return f"revoked: {reasons.get(reason, reason)}"
        case Status.disconnected:
            return "disconnected by this side, tokens erased"


def tell_run(run: SyncRun, keys: Sequence[str], totals: Mapping[str, int]) -> str:
    """Where a reading stands: `keys` are the lists it reads, `totals` what each begun one is said to hold."""
    if run.place >= len(keys):
        return "all lists are read"
    key = keys[run.place]
    again = f", for the {run.reading + 1}. time" if run.reading else ""
    page = f"page {run.page}" if run.page else "a look at what is newest"
    size = f" of {totals[key]} records" if key in totals else ""
    return f"{key} (list {run.place + 1} of {len(keys)}{size}), {page}{again}"


def tell_time(at: datetime, now: datetime) -> str:
    """A time to come and how far off it is; what is past is due now."""
    if at <= now:
        return "is due now"
    return f"at {at:%Y-%m-%d %H:%M:%S} UTC, in {tell_length(at - now)}"


def tell_length(length: timedelta) -> str:
    """A length of time in its largest fitting unit."""
    seconds = length.total_seconds()
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def tell_evidence(evidence: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in evidence.items())
