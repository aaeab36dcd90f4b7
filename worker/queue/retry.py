"""Retry what fails for a while: one log line for each try, and no dead letter of work that comes back by itself."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import dramatiq
import structlog
from dramatiq.errors import Retry
from dramatiq.middleware import CurrentMessage

from models.errors import Permanent, Transient
from models.messaging.messages import REQUESTS

a_few: dict[str, Any] = {"max_retries": 3, "min_backoff": 500, "max_backoff": 5_000, "throws": Permanent}
for_a_day: dict[str, Any] = a_few | {"max_retries": 1_440, "max_backoff": 60_000}
"""For requests, which no row remembers: they outlast an outage, and then become dead letters."""


def retries_of(actor_name: str) -> dict[str, Any]:
    """Return the options of an actor's retries."""
    if actor_name == "publish_events":
        return a_few | {"max_retries": 0}  # the sweep sends it every second while events wait
    return for_a_day if actor_name in REQUESTS else a_few


def retrying(name: str, actor: Callable[..., None]) -> Callable[..., None]:
    """Return the actor with its transient errors turned into retries.

    When its retries are used up, a request fails for good; anything else ends here, for the sweep sends it again.
    """
    most = retries_of(name)["max_retries"]

    @wraps(actor)
    def call(*args: object, **kwargs: object) -> None:
        try:
            actor(*args, **kwargs)
        except Transient as error:
            log, retries = structlog.get_logger("queue"), _count_retries()
            if retries < most:
                log.info("message.retried", retries=retries, error=str(error))
                raise Retry(str(error), delay=_delay(error)) from None
            if name in REQUESTS:
                raise
            log.warning("message.left_to_sweep", actor=name, error=str(error))

    return call


def current_message() -> dramatiq.Message[Any]:
    """Return the message that this thread works on."""
    message = CurrentMessage.get_current_message()
    if message is None:
        raise AssertionError("the broker lacks CurrentMessage")
    return message


def _count_retries() -> int:
    retries = current_message().options.get("retries", 0)
    return retries if isinstance(retries, int) else 0


def _delay(error: Transient) -> int | None:
    """Return the milliseconds that the other side asked us to wait, if it did."""
    return None if error.retry_after is None else round(error.retry_after.total_seconds() * 1000)
