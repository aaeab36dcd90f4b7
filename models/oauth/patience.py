"""How long a token request may take, and how long everybody else leaves its connection alone."""

from dataclasses import dataclass
from datetime import timedelta

from models.provider import Provider

shortest_deadline = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Patience:
    """`deadline` ends a request, however slowly its answer drips; `lease` is longer by the time it may take to leave,
    and by what the clocks of two machines may differ; `settle` after it was sent the provider must be done with it,
    also where we gave up: no probe before that says anything.
    """

    deadline: timedelta = timedelta(seconds=20)
    lease: timedelta = timedelta(seconds=30)
    settle: timedelta = timedelta(seconds=60)


def patience_with(provider: Provider, usual: Patience) -> Patience:
    """The usual patience; where only a grace is left for a second try, two thirds of it at most are waited."""
    if provider.refresh_reuse != "grace":
        return usual
    third = timedelta(seconds=provider.grace_seconds) / 3
    deadline = min(usual.deadline, max(third, shortest_deadline))
    lease = deadline + min(usual.lease - usual.deadline, deadline)
    return Patience(deadline, lease, min(usual.settle, max(third * 2, lease)))
