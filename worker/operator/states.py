"""The tone and the word of each state: the colour says no more than the word beside it."""

from typing import Final

from models.journal import Problem
from models.oauth.connection import Connection, Status
from worker.operator.charts import Tone

passing: Final = frozenset(
    {Problem.throttled, Problem.refused, Problem.plan_required, Problem.list_failing, Problem.provider_unavailable}
)
"""Problems that pass by themselves, or that only the account's user can mend."""
tones: Final[dict[str, Tone]] = {
    "closed": "ok",
    "active": "ok",
    "revoked": "bad",
    "rejected": "bad",
    "unavailable": "bad",
    "failed": "bad",
    "failing": "bad",
    "gone": "bad",
    "denied": "bad",
    "paused": "warn",
    "held": "warn",
    "warn": "warn",
    "started": "calm",
    "received": "calm",
    "granted": "calm",
    "connected": "ok",
    "disconnected": "idle",
}


def tone_of_state(word: str) -> Tone:
    """Return the tone of a status, a breaker's or an endpoint's state, an authorization's step, or a severity."""
    return tones.get(word, "idle")


def tone_of(status: str, problem: str | None) -> Tone:
    """Return the tone of a connection's status and problem."""
    if status != Status.active or problem is None:
        return tone_of_state(status)
    return "warn" if problem in passing or problem == Problem.held else "bad"


def name_of(status: str, problem: str | None) -> str:
    """Return the one word, or few, that a list shows."""
    return status if status != Status.active or problem is None else problem.replace("_", " ")


def describe_status(connection: Connection) -> tuple[Tone, str]:
    """Return a connection's tone and word."""
    status = connection.status.value
    return tone_of(status, connection.problem), name_of(status, connection.problem)
