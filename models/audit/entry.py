"""What the audit records: its actions, one entry, and the entry that follows from a decision in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from models.journal import Verb, Word

longest_text = 200
most_details = 12
kept_evidence: Final = ("generation", "by", "attempts", "records", "provider_to_be_told", "status")
"""What an entry takes from a decision's evidence. Texts of a provider stay in the journal."""

application: Final = "application"
"""The actor behind a command on the stream, and behind a message that no process of ours sends."""


class Channel(StrEnum):
    """How someone asked for something: by a message, on the commands stream, the command line, as an operator, or by
    the gateway."""

    message = "message"
    stream = "stream"
    cli = "cli"
    page = "operator page"
    api = "operator api"
    gateway = "gateway"


class Action(Word):
    """What was done."""

    link_opened = "link.opened", "a connect link was opened"
    link_refused = "link.refused", "a connect link was refused"
    callback_accepted = "callback.accepted", "the provider sent the user back"
    callback_refused = "callback.refused", "a redirect from the provider was refused"
    hook_refused = "hook.refused", "a provider's webhook was refused"
    code_exchanged = "code.exchanged", "an authorization code was exchanged for tokens"
    authorization_failed = "authorization.failed", "an authorization failed"

    connection_authorized = "connection.authorized", "an account was connected; its tokens were saved"
    connection_revoked = "connection.revoked", "a connection ended; its tokens were erased"
    connection_disconnected = "connection.disconnected", "an account was disconnected; its tokens were erased"
    connection_erased = "connection.erased", "a connection's records were erased"

    token_refreshed = "token.refreshed", "tokens were refreshed"
    token_revoked_upstream = "token.revoked_upstream", "the provider confirmed that it revoked a grant"
    token_revocation_unconfirmed = (
        "token.revocation_unconfirmed",
        "the provider did not confirm a revocation within a day",
    )

    token_given = "token.given", "an application was given an access token"
    call_made = "call.made", "an application called the provider's API"
    gateway_key_made = "gateway_key.made", "a key of the gateway was made"
    gateway_key_refused = "gateway_key.refused", "a request to the gateway had no key, or a wrong one"

    key_missing = "key.missing", "a token could not be decrypted with the configured keys"
    key_rotated = "key.rotated", "the stored secrets were resealed with the first key"

    command_received = (
        "command.received",
        "someone asked for a sync, a refresh or a disconnect, or confirmed an authorization",
    )
    dead_letter_retried = "dead_letter.retried", "a dead letter was enqueued again"
    dead_letter_dropped = "dead_letter.dropped", "a dead letter was deleted"

    events_replayed = "events.replayed", "published events were published again"

    webhook_added = "webhook.added", "an endpoint for webhooks was added"
    webhook_rotated = "webhook.rotated", "an endpoint's secret was replaced"
    webhook_paused = "webhook.paused", "an endpoint was paused"
    webhook_gone = "webhook.gone", "an endpoint answered that it is gone, and was paused"
    webhook_resumed = "webhook.resumed", "an endpoint was resumed"
    webhook_retried = "webhook.retried", "what waits for an endpoint was sent at once"
    webhook_tested = "webhook.tested", "an endpoint was sent a test"
    webhook_removed = "webhook.removed", "an endpoint was removed, with what waited for it"

    provider_held = "provider.held", "refused connections of a provider were held"
    provider_released = "provider.released", "held connections were tried again"
    provider_accepted = "provider.accepted", "held connections were ended"
    provider_paused = "provider.paused", "token requests to a provider were paused"
    provider_resumed = "provider.resumed", "a pause of token requests ended"

    operator_signed_in = "operator.signed_in", "an operator signed in to the operator's page"
    operator_refused = "operator.refused", "a sign-in to the operator's page or API failed"


derived: Final[Mapping[Verb, Action]] = {
    Verb.authorized: Action.connection_authorized,
    Verb.refresh_saved: Action.token_refreshed,
    Verb.refresh_token_unreadable: Action.key_missing,
    Verb.sync_token_unreadable: Action.key_missing,
    Verb.revoked_access_revoked: Action.connection_revoked,
    Verb.revoked_refresh_rejected: Action.connection_revoked,
    Verb.revoked_refresh_expired: Action.connection_revoked,
    Verb.revoked_rotation_lost: Action.connection_revoked,
    Verb.revoked_upstream: Action.token_revoked_upstream,
    Verb.revoked_upstream_unconfirmed: Action.token_revocation_unconfirmed,
    Verb.disconnected: Action.connection_disconnected,
    Verb.records_erased: Action.connection_erased,
    **{verb: Action.authorization_failed for verb in Verb if verb.value.startswith("failed.")},
}
"""The decisions of the journal that are also lines of the audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the audit before it is written.

    actor: who did it; None for the process that writes it.
    provider, user_id: None if they are the ones of the connection or authorization.
    address: the client's address, of a link or a callback.
    detail: a few numbers, flags and short texts of ours; never a token, a code or a link.
    """

    action: Action
    actor: str | None = None
    provider: str | None = None
    user_id: str | None = None
    connection_id: str | None = None
    authorization_id: str | None = None
    address: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


def entry_of(subject: str, verb: Verb, evidence: Mapping[str, object]) -> Entry | None:
    """Return the entry that goes with a decision about a connection or an authorization; None if none does."""
    action = derived.get(verb)
    if action is None:
        return None
    detail = {name: evidence[name] for name in kept_evidence if name in evidence}
    if action in (Action.connection_revoked, Action.authorization_failed):
        detail["reason"] = verb.value.partition(".")[2]
    if action is Action.authorization_failed:
        return Entry(action=action, authorization_id=subject, detail=detail)
    made_by = evidence.get("authorization_id")
    authorization_id = made_by if isinstance(made_by, str) else None
    return Entry(action=action, connection_id=subject, authorization_id=authorization_id, detail=detail)


def received(
    channel: Channel,
    command: str,
    detail: Mapping[str, object],
    *,
    connection_id: str | None = None,
    authorization_id: str | None = None,
) -> Entry:
    """Return the entry about a command for a connection or an authorization.

    What is typed or clicked, its process asks for.
    """
    return Entry(
        action=Action.command_received,
        actor=None if channel in (Channel.cli, Channel.page, Channel.api) else application,
        connection_id=connection_id,
        authorization_id=authorization_id,
        detail={"command": command, "channel": channel.value} | dict(detail),
    )


def bound_detail(detail: Mapping[str, object]) -> dict[str, str | int | bool]:
    """Return what is stored: at most `most_details` values, numbers and flags as they are, anything else as a text."""
    kept = [(name, value) for name, value in detail.items() if value is not None][:most_details]
    return {name: value if isinstance(value, int) else bound_text(str(value)) for name, value in kept}


def bound_text(text: str) -> str:
    """Return the text without control characters, cut to `longest_text`."""
    return "".join(character for character in text[: 2 * longest_text] if character.isprintable())[:longest_text]


def is_recorded(count: int) -> bool:
    """Return whether the nth refused request of a minute gets a line: the first ten, then 20, 50, 100, 200 and so on.

    Refused requests come from strangers, and a line for each would let them fill the disk.
    """
    if count <= 10:
        return True
    while count % 10 == 0:
        count //= 10
    return count in (1, 2, 5)
