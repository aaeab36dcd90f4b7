"""Which chart shows what: the views' numbers as the figures of each page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from markupsafe import Markup

from models.oauth.connection import Status
from worker.operator.charts import (
    Column,
    Figure,
    Part,
    Point,
    Tone,
    draw_columns,
    draw_line,
    draw_meter,
    draw_split,
    round_up,
)
from worker.operator.states import name_of, tone_of
from worker.operator.views.figures import span
from worker.operator.views.overview import Overview
from worker.operator.views.providers import ProviderView
from worker.operator.wording import format_day

order: tuple[Tone, ...] = ("ok", "warn", "bad", "calm", "idle")


@dataclass(frozen=True, slots=True)
class Legend:
    """One entry of a legend; `query` leads to the connections that it counts."""

    label: str
    value: int
    tone: Tone
    query: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with what stands around it.

    svg: the chart.
    said: its description, for people who see it, too.
    top: the number at the end of its axis.
    ticks: labels below it, from the left to the right edge.
    heads, rows: the same as a table.
    """

    svg: Markup
    said: str
    top: int
    ticks: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class OverviewPictures:
    split: Markup
    legend: Sequence[Legend]
    refreshes: Picture
    syncs: Picture
    requests: Picture
    budgets: Mapping[str, Markup]


def of_overview(view: Overview) -> OverviewPictures:
    """Return the overview's charts."""
    legend = legend_of(view)
    said = ", ".join(f"{each.value:,} {each.label}" for each in legend) or "no connection yet"
    figure = Figure("split", "Connections by status", said)
    return OverviewPictures(
        split=draw_split(figure, [Part(each.label, each.value, each.tone) for each in legend]),
        legend=legend,
        refreshes=_refreshes(view),
        syncs=_syncs(view),
        requests=_requests(view),
        budgets={
            each.provider: _meter(f"budget-{place}", each.provider, each.token_requests, each.token_requests_allowed)
            for place, each in enumerate(view.budgets)
            if each.token_requests_allowed
        },
    )


def of_providers(providers: Sequence[ProviderView]) -> Mapping[str, Markup]:
    """Return the meter of each provider that has a limit."""
    return {
        each.name: _meter(f"budget-{place}", each.name, each.token_requests, each.token_requests_allowed)
        for place, each in enumerate(providers)
        if each.token_requests_allowed
    }


def legend_of(view: Overview) -> Sequence[Legend]:
    """Return the states that any connection has, the good ones first; those of several providers together."""
    counts: dict[tuple[str, str | None], int] = {}
    for each in view.connections:
        problem = each.problem if each.status == Status.active else None
        counts[each.status, problem] = counts.get((each.status, problem), 0) + each.number
    found = [
        Legend(name_of(status, problem), number, tone_of(status, problem), _query(status, problem))
        for (status, problem), number in counts.items()
        if number
    ]
    return sorted(found, key=lambda each: (order.index(each.tone), -each.value, each.label))


def _query(status: str, problem: str | None) -> str:
    return "?" + urlencode({"problem": problem} if problem else {"status": status})


def _refreshes(view: Overview) -> Picture:
    days = view.refreshes_due
    columns = [Column(format_day(each.day), [Part("refreshes", each.refreshes, "calm")]) for each in days]
    total = sum(each.refreshes for each in days)
    most = max(days, key=lambda each: each.refreshes, default=None)
    said = "No refresh is planned in the next four weeks."
    if total and most is not None:
        said = f"{total:,} in the next four weeks, most of them on {format_day(most.day)}: {most.refreshes:,}."
    return Picture(
        svg=draw_columns(Figure("refreshes", "Refreshes due by day", said), columns),
        said=said,
        top=round_up(max((column.total for column in columns), default=0)),
        ticks=["Today", *(format_day(each.day) for each in (days[9], days[18], days[27]))] if len(days) == 28 else [],
        heads=["Day", "Refreshes due"],
        rows=[[format_day(each.day), f"{each.refreshes:,}"] for each in days],
    )


def _syncs(view: Overview) -> Picture:
    spans = view.activity
    columns = [
        Column(
            _span_of(each.at), [Part("completed", each.syncs_completed, "ok"), Part("failed", each.syncs_failed, "bad")]
        )
        for each in spans
    ]
    completed, failed = sum(each.syncs_completed for each in spans), sum(each.syncs_failed for each in spans)
    said = f"{_about(view)}{completed:,} completed, {_or_none(failed)} failed."
    return Picture(
        svg=draw_columns(Figure("syncs", "Syncs in the last six hours, by ten minutes", said), columns),
        said=said,
        top=round_up(max((column.total for column in columns), default=0)),
        ticks=_hours(view),
        heads=["From (UTC)", "Completed", "Failed"],
        rows=[[f"{s.at:%H:%M}", f"{s.syncs_completed:,}", f"{s.syncs_failed:,}"] for s in spans],
    )


def _requests(view: Overview) -> Picture:
    spans = view.activity
    points = [Point(_span_of(each.at), each.requests, each.errors) for each in spans]
    total, errors = sum(each.requests for each in spans), sum(each.errors for each in spans)
    said = f"{_about(view)}{total:,} made, {_or_none(errors)} with an error or without an answer."
    return Picture(
        svg=draw_line(
            Figure("requests", "API requests in the last six hours, by ten minutes", said), points, unfinished=1
        ),
        said=said,
        top=round_up(max((each.requests for each in spans), default=0)),
        ticks=_hours(view),
        heads=["From (UTC)", "Requests", "Errors"],
        rows=[[f"{s.at:%H:%M}", f"{s.requests:,}", f"{s.errors:,}"] for s in spans],
    )


def _meter(id_: str, provider: str, used: int, allowed: int | None) -> Markup:
    said = f"{used:,} of {allowed or 0:,} token requests a minute"
    return draw_meter(Figure(id_, f"Budget of {provider}", said), used, allowed or 0)


def _or_none(number: int) -> str:
    return f"{number:,}" if number else "none"


def _about(view: Overview) -> str:
    return "About " if any(each.is_estimate for each in view.activity) else ""


def _hours(view: Overview) -> Sequence[str]:
    if not view.activity:
        return []
    first = view.activity[0].at.astimezone(UTC)
    return [f"{first + timedelta(hours=hours):%H:%M}" for hours in (0, 2, 4)] + ["now"]


def _span_of(at: datetime) -> str:
    return f"{at:%H:%M} to {at + span:%H:%M} UTC"
