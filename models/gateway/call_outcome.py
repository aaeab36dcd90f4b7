"""What becomes of a call that is sent as a job: before it leaves, and by what the provider answered.

A request was not carried out if it never left, or if the answer is a 401 of the API, a 429, or a 503 of the API that
says when to come again. Any other answer is the answer. Without one, only a method that is safe is sent again.

A 503 that is a page of HTML is not the API's. A cache or gateway in front of it may say so, and when to come again,
after it has passed the request on and waited in vain.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.api_response import Throttled, Unauthorized, is_html, read_api_answer
from models.backoff import Backoff
from models.gateway.access import Access, Ask, Give, Join, plan_access, soon, usable
from models.gateway.call import CallDecision, CallReason, StoredCall, complete, fail, lose, postpone
from models.gateway.problems import Problem, ProblemType
from models.http import HttpAnswer, NoAnswer, read_retry_after
from models.messaging import messages
from models.oauth.access_refusal import AccessRefusal, Force, Known, Superseded
from models.oauth.access_refusal import Final as NotRefreshable
from models.oauth.connection import Connection, Status
from models.paging.page_format import PageAsked, PageFormat

most_server_errors: Final = 5
"""How often a safe method is sent that is answered with a 5xx; the last answer counts."""
backoff: Final = Backoff.of_seconds(2, 5, 15, 60, 300)
refresh_pause: Final = timedelta(seconds=2)
shortest_pause: Final = timedelta(seconds=1)
at_once: Final = timedelta()


def admit(call: StoredCall, access: Access | None, now: datetime) -> CallDecision | None:
    """Return what keeps a call that is due from leaving; None if it may leave now."""
    if access is None:
        return fail(call, CallReason.connection_unknown, now)
    if access.connection.access_limited:
        return fail(call, CallReason.plan_required, now)
    plan = plan_access(access, usable, now)
    match plan:
        case Give():
            return None
        case Ask() | Join():
            waiting = postpone(call, refresh_pause, CallReason.refresh_pending, now)
            due = messages.carry_out_refresh(call.connection_id)
            return replace(waiting, asks_refresh=isinstance(plan, Ask), send=(*waiting.send, due))
        case Problem(type=ProblemType.reauthorization_required):
            return fail(call, CallReason.reauthorization_required, now)
        case Problem(type=ProblemType.held):
            return postpone(call, plan.retry_after or soon, CallReason.held, now)
        case Problem():
            return postpone(call, plan.retry_after or soon, CallReason.provider_unavailable, now)


def admit_still(call: StoredCall, opened: Connection, current: Connection, now: datetime) -> CallDecision | None:
    """Return what keeps an admitted call from leaving, now that its connection is locked; None if it may leave.

    opened: the connection as it was when its token was opened. If it has another token now, a job looks again.
    """
    if current.status is not Status.active:
        return fail(call, CallReason.reauthorization_required, now)
    if current.generation != opened.generation:
        return postpone(call, at_once, CallReason.refresh_pending, now)
    return None


def is_token_refused(answer: HttpAnswer | NoAnswer, now: datetime) -> bool:
    """Return whether the API itself refused the access token, and not a firewall in front of it the request."""
    is_refused = isinstance(answer, HttpAnswer) and answer.status == 401
    return is_refused and isinstance(read_api_answer(answer, PageFormat(), PageAsked(), now), Unauthorized)


def pause_of(answer: HttpAnswer | NoAnswer, now: datetime) -> timedelta:
    """Return for how long a 429 stops the account; nothing for any other answer."""
    if not isinstance(answer, HttpAnswer) or answer.status != 429:
        return timedelta()
    outcome = read_api_answer(answer, PageFormat(), PageAsked(), now)
    return outcome.retry_after if isinstance(outcome, Throttled) else timedelta()


def decide_call(
    call: StoredCall, answer: HttpAnswer | NoAnswer, refusal: AccessRefusal | None, now: datetime
) -> CallDecision:
    """Decide what the answer to a call's request makes of it; `refusal` is what its 401 means, if it is one."""
    if isinstance(answer, NoAnswer):
        if answer.sent and not call.is_safe:
            return lose(call, now)
        pause = answer.retry_after or backoff.after(call.attempts)
        return postpone(call, pause, CallReason.provider_unavailable, now)
    call = replace(call, answer_status=answer.status)
    if is_token_refused(answer, now):
        return _decide_refused(call, refusal, now)
    if answer.status == 429:
        pause = max(pause_of(answer, now), shortest_pause)
        return postpone(call, pause, CallReason.rate_limited, now)
    is_certain = call.is_safe or not is_html(answer)
    if answer.status == 503 and is_certain and (asked := read_retry_after(answer.headers, now)) is not None:
        return postpone(call, max(asked, shortest_pause), CallReason.provider_unavailable, now)
    if answer.status >= 500 and call.is_safe and call.attempts < most_server_errors:
        return postpone(call, backoff.after(call.attempts), CallReason.provider_unavailable, now)
    return complete(call, answer.status, None if answer.complete else CallReason.answer_incomplete, now)


def _decide_refused(call: StoredCall, refusal: AccessRefusal | None, now: datetime) -> CallDecision:
    match refusal:
        case Superseded():
            return postpone(call, at_once, CallReason.token_refused, now)
        case Force():
            return postpone(call, refresh_pause, CallReason.token_refused, now)
        case Known(is_same=False):
            # A token that was refreshed a moment ago is refused, too: it is about this call.
            return complete(call, 401, None, now)
        case Known() | NotRefreshable() | None:
            return postpone(call, backoff.after(call.attempts), CallReason.token_refused, now)
