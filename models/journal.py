"""The journal's words: every decision, problem and call that it can hold, each word with a sentence for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """A word that is stored, with the sentence that people read instead of it."""

    sentence: str

    def __new__(cls, word: str, sentence: str = "") -> Self:
        """Build a member whose stored value is `word` alone."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        return member


class Verb(Word):
    """What was decided about a connection or an authorization."""

    authorized = "authorized", "the user authorized; new tokens were saved"

    refresh_requested = "refresh.requested", "an application asked for a refresh"
    refresh_saved = "refresh.saved", "refreshed; new tokens were saved"
    refresh_superseded = "refresh.superseded", "the result of a refresh was ignored: newer tokens had been saved"
    refresh_handed_over = "refresh.handed_over", "the result of a refresh was ignored: another worker had taken over"
    refresh_unknown = (
        "refresh.unknown",
        "the answer to a refresh was lost; next we find out whether the refresh token was used up",
    )
    refresh_malformed = (
        "refresh.malformed",
        "the provider called the refresh request malformed; the refresh token was not used up",
    )
    refresh_token_unreadable = (
        "refresh.token_unreadable",
        "the refresh token cannot be decrypted with the configured keys; no request was sent",
    )
    refresh_not_now = "refresh.not_now", "the provider postponed the refresh; the refresh token was not used up"
    refresh_unavailable = (
        "refresh.unavailable",
        "the provider answered 503; next we find out whether the refresh token was used up anyway",
    )
    refresh_scope_refused = (
        "refresh.scope_refused",
        "the provider refused the scope; the refresh is repeated without a scope",
    )

    client_rejected = (
        "client.rejected",
        "the provider rejected our OAuth client; its refreshes are paused, the user's grant is not affected",
    )

    resolved_unspent = (
        "resolved.unspent",
        "the old access token still works, so the refresh token was not used up and is sent again",
    )
    resolved_presumed = (
        "resolved.presumed",
        "nothing is left to check with; after a 503 the refresh token counts as not used up and is sent again",
    )
    resolved_presentagain = (
        "resolved.presentagain",
        "whether the refresh token was used up cannot be known; sending it again is harmless at this provider",
    )
    resolved_lost = "resolved.lost", "the answer with the new tokens was lost, and the old tokens no longer work"
    resolved_wait = (
        "resolved.wait",
        "whether the refresh token was used up is not known yet; it is checked again later",
    )

    refusal_waits = (
        "refusal.waits",
        "the provider rejected its token; its tokens are kept, and it is tried again before that counts",
    )
    refusal_held = (
        "refusal.held",
        "the provider rejected its token, as those of many others; its tokens are kept, no one is told",
    )
    refusal_released = "refusal.released", "the hold has ended; its token is tried again"

    revoked_access_revoked = (
        "revoked.access_revoked",
        "ended: the API and the token endpoint reject the grant; the user revoked it",
    )
    revoked_refresh_rejected = "revoked.refresh_rejected", "ended: the token endpoint rejected the refresh token"
    revoked_refresh_expired = "revoked.refresh_expired", "ended: the refresh token has expired"
    revoked_rotation_lost = "revoked.rotation_lost", "ended: the provider issued new tokens, but its answer was lost"
    revoked_upstream = "revoked.upstream", "the provider confirmed that it revoked the grant"
    revoked_upstream_unconfirmed = (
        "revoked.upstream_unconfirmed",
        "the provider did not confirm the revocation within a day; we stopped asking",
    )

    access_refused = (
        "access.refused",
        "the API rejected the current access token; a refresh follows and shows whether the grant still exists",
    )

    sync_token_unreadable = (
        "sync.token_unreadable",
        "the access token cannot be decrypted with the configured keys; no request was sent",
    )
    sync_throttled = "sync.throttled", "the provider takes no more requests for the account; the sync waits"
    sync_failed = "sync.failed", "a sync failed"
    list_failing = "list.failing", "a list failed more than once in a row; it is tried again"
    list_recovered = "list.recovered", "the list that kept failing was read"
    reading_unproven = "reading.unproven", "a list was read to its end, but no record was proven to be deleted"
    deletion_held_back = (
        "deletion.held_back",
        "most or all records of a resource were missing; they are kept until a second sync confirms it",
    )

    disconnect_requested = "disconnect.requested", "a command on the stream asked to disconnect it"
    disconnected = "disconnected", "disconnected; the tokens were erased"
    disconnect_repeated = "disconnect.repeated", "a request to disconnect changed nothing: it was already disconnected"
    disconnect_superseded = (
        "disconnect.superseded",
        "a request to disconnect was ignored: the user authorized again after it was made",
    )
    records_erased = "records.erased", "its records were erased"

    call_failed = "call.failed", "a call that an application had asked for failed; it was not carried out"
    call_unknown = (
        "call.unknown",
        "the answer to a call was lost; it may have been carried out, and is not repeated",
    )

    confirmed = "confirmed", "it was confirmed that the browser is the link's user's"

    exchange_not_now = "exchange.not_now", "the provider postponed the code exchange; it is tried again"
    exchange_unknown = (
        "exchange.unknown",
        "the answer to the code exchange was lost; it is tried a second time if the code is still valid",
    )
    exchange_kept_back = "exchange.kept_back", "the code is kept back until the token endpoint takes it"
    exchange_client_unknown = (
        "exchange.client_unknown",
        "the OAuth client that it began with is not configured, and no stored secret opens; no request was sent",
    )
    exchange_code_unreadable = (
        "exchange.code_unreadable",
        "the code cannot be decrypted with the configured keys; no request was sent",
    )
    exchange_superseded = (
        "exchange.superseded",
        "its tokens were not saved: the user had authorized the account again meanwhile, and those stay",
    )
    exchange_grant_spared = (
        "exchange.grant_spared",
        "the new grant was not revoked, because another active connection depends on it",
    )
    failed_denied = "failed.denied", "failed: the user or the account's plan does not allow access"
    failed_code_rejected = (
        "failed.code_rejected",
        "failed: the provider rejected the code, or the tokens it had issued for it",
    )
    failed_client_rejected = "failed.client_rejected", "failed: the provider rejected our OAuth client"
    failed_account_mismatch = (
        "failed.account_mismatch",
        "failed: the user authorized another account than the connection's",
    )
    failed_answer_lost = "failed.answer_lost", "failed: the provider's answer was lost; the user has to start again"
    failed_expired = "failed.expired", "failed: the time for it ran out"
    failed_not_confirmed = (
        "failed.not_confirmed",
        "failed: it was not confirmed that the browser was the link's user's",
    )
    failed_provider_unavailable = "failed.provider_unavailable", "failed: the provider was not available"


class Problem(Word):
    """What is wrong with an active connection: its column `problem`."""

    plan_required = "plan_required", "the account's plan has no API access (403); the tokens still work"
    access_refused = "access_refused", "the API rejects an access token that was issued a moment ago"
    provider_unavailable = "provider_unavailable", "the provider cannot refresh its tokens at the moment"
    client_unknown = (
        "client_unknown",
        "its OAuth client is not configured, and no stored secret of it can be decrypted; configure the client again",
    )
    token_unreadable = (
        "token_unreadable",
        "one of its tokens cannot be decrypted with the configured keys; run breezesync doctor",
    )
    refresh_malformed = "refresh_malformed", "the provider calls our refresh requests malformed"
    throttled = "throttled", "the provider takes no more requests for its account at the moment; its sync waits"
    sync_failing = "sync_failing", "the last sync failed"
    list_failing = "list_failing", "the sync under way waits for a list that keeps failing"
    refused = "refused", "its token was rejected; it is tried once more before that counts"
    held = (
        "held",
        "its token was rejected, as those of many others: its tokens are kept until the provider accepts them "
        "again, or an operator decides with breezesync provider",
    )


class ListProblem(Word):
    """Why the last sync could not read one list, or proved no deletion in it."""

    plan_required = "plan_required", "forbidden (403): the plan does not include it, or the user is not in this team"
    not_found = "not_found", "not found (404)"
    unreadable = "unreadable", "skipped by the last sync, because it failed repeatedly"
    list_shifting = "list_shifting", "it changed each time it was read; none of its records counts as deleted"
    nameless_records = "nameless_records", "it has records without an id; none of its records counts as deleted"
    list_too_long = "list_too_long", "it is longer than the limit; none of its records counts as deleted"
    too_many_parents = "too_many_parents", "it has more parents than the limit; the lists of the others are not read"
    unusable_parent = "unusable_parent", "nothing in its parent's record can name it in a path; it is not read"
    other_list_unread = (
        "other_list_unread",
        "records are missing that may be in another list, which was not read; none of its records counts as deleted",
    )
    many_gone = "many_gone", "most or all of its records were missing; they are kept until the next sync confirms it"


@dataclass(frozen=True, slots=True)
class Note:
    """A decision that is still to be recorded, with its evidence."""

    verb: Verb
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision and its evidence."""

    at: datetime
    verb: str
    """A `Verb`, or a word that a newer version wrote."""
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """One request made for a user.

    Until its connection exists, `connection_id` is the id of the authorization. `status` is 0 if no response came.
    """

    at: datetime
    connection_id: str
    method: str
    path: str
    status: int
    duration_ms: int


def sentence_of(words: type[Word], word: str) -> str:
    """Return the word's sentence; the word itself if this version does not know it."""
    try:
        return words(word).sentence
    except ValueError:
        return word
