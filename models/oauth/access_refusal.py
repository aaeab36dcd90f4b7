"""What a 401 for an access token means, whoever met it: a sync, or a call of an application."""

from dataclasses import dataclass
from datetime import datetime

from models.journal import Note, Verb
from models.oauth.connection import Connection
from models.oauth.credential import Credential, asks_for_refresh, refuse_access


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer token is stored: the refused one is no longer the connection's."""


@dataclass(frozen=True, slots=True)
class Final:
    """No refresh can replace the token."""


@dataclass(frozen=True, slots=True)
class Force:
    """Refresh at once: whether the grant is dead, only the token endpoint knows."""

    credential: Credential
    note: Note


@dataclass(frozen=True, slots=True)
class Known:
    """A refresh was forced already, a moment ago; `is_same`: for this very token, so a newer one comes."""

    is_same: bool


AccessRefusal = Superseded | Final | Force | Known


def judge_access_refusal(
    connection: Connection, credential: Credential, generation: int, is_refreshable: bool, now: datetime
) -> AccessRefusal:
    """Decide what the API's 401 for the access token of `generation` does; the rows are locked."""
    # Race: the token was refreshed while the request was on its way.
    if generation != connection.generation:
        return Superseded()
    if not is_refreshable:
        return Final()
    if asks_for_refresh(connection, credential, generation, now):
        note = Note(Verb.access_refused, {"generation": generation, "status": 401})
        return Force(refuse_access(credential, generation, now), note)
    return Known(credential.refused_generation == generation)
