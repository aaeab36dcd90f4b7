"""What came of a call's request, as text: for as long as the database can't take it."""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.gateway.call import StoredCall
from models.http import HttpAnswer, NoAnswer
from models.journal import Request


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came of a request.

    owner: the job that made it.
    generation: of the access token that it was made with.
    at, duration_ms: when it left, and how long its answer took.
    """

    owner: str
    generation: int
    at: datetime
    duration_ms: int
    outcome: HttpAnswer | NoAnswer

    def log_for(self, call: StoredCall) -> list[Request]:
        """The request log's line, if anything left."""
        if isinstance(self.outcome, NoAnswer) and not self.outcome.sent:
            return []
        status = self.outcome.status if isinstance(self.outcome, HttpAnswer) else 0
        return [Request(self.at, call.connection_id, call.method, call.path, status, self.duration_ms)]


def pack_arrived(arrived: Arrived) -> str:
    """Return all of it as text."""
    match arrived.outcome:
        case HttpAnswer(status, headers, body, complete):
            outcome: dict[str, object] = {
                "status": status,
                "headers": dict(headers),
                "body": b64encode(body).decode(),
                "complete": complete,
            }
        case NoAnswer(sent, why, retry_after):
            seconds = None if retry_after is None else retry_after.total_seconds()
            outcome = {"sent": sent, "why": why, "retry_after": seconds}
    return json.dumps(
        {
            "owner": arrived.owner,
            "generation": arrived.generation,
            "at": arrived.at.isoformat(),
            "duration_ms": arrived.duration_ms,
            "outcome": outcome,
        }
    )


def unpack_arrived(text: str) -> Arrived:
    """Return what was packed."""
    packed = json.loads(text)
    given = packed["outcome"]
    outcome: HttpAnswer | NoAnswer
    if "status" in given:
        outcome = HttpAnswer(given["status"], given["headers"], b64decode(given["body"]), given["complete"])
    else:
        pause = given["retry_after"]
        outcome = NoAnswer(given["sent"], given["why"], None if pause is None else timedelta(seconds=pause))
    at = datetime.fromisoformat(packed["at"])
    return Arrived(packed["owner"], packed["generation"], at, packed["duration_ms"], outcome)
