"""The SQL views: a profile's, of a resource's records that are not deleted with fields as columns, and two of ours."""

from collections.abc import Iterable, Iterator

from models.provider import Column, Provider, View

Dialect = str
zone = r"(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
time_of_day = rf"^.{{10}}[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{{1,30}})?)?{zone}?$"
"""Matches times that PostgreSQL casts without an error; the date is checked separately."""
longest_time = 62
"""The characters of the longest text that `time_of_day` matches."""
refreshable = "refreshable"
"""The view of the connections that have a refresh token: it shows that to roles which may not read the token."""
request_log = "request_log"
"""The view of every request that was made for a user."""
own_views = (refreshable, request_log)


def all_views(providers: Iterable[Provider], dialect: Dialect) -> Iterator[tuple[str, str, str]]:
    """Yield the name of every view, with its DROP and its CREATE for `sqlite` or `postgresql`."""
    query = "SELECT connection_id FROM credential WHERE refresh_token IS NOT NULL"
    yield refreshable, f"DROP VIEW IF EXISTS {refreshable}", f"CREATE VIEW {refreshable} AS {query}"
    yield request_log, f"DROP VIEW IF EXISTS {request_log}", f"CREATE VIEW {request_log} AS {_requests(dialect)}"
    for provider in providers:
        for view in provider.views:
            yield provider.view_name(view), *view_statements(provider, view, dialect)


def _requests(dialect: Dialect) -> str:
    """Return the query of `request_log`: a row for each element of `calls` (see `models/store/request_batch.py`)."""
    if dialect == "sqlite":
        later = (
            "printf('%+.3f seconds', json_extract(e.value, '$[0]') / 1000.0)"  # less than nothing: a clock was set back
        )
        at = f"CASE e.key WHEN 0 THEN b.at ELSE strftime('%Y-%m-%d %H:%M:%f', b.at, {later}) || '000' END"
        names = ("method", "path", "status", "duration_ms")
        values = (f"json_extract(e.value, '$[{place}]') AS {name}" for place, name in enumerate(names, start=1))
        source = "request_batch b, json_each(b.calls) e"
    else:
        at = "b.at + (e.value ->> 0)::bigint * interval '1 millisecond'"
        types = {"method": "text", "path": "text", "status": "integer", "duration_ms": "integer"}
        values = (f"(e.value ->> {place})::{of} AS {name}" for place, (name, of) in enumerate(types.items(), start=1))
        source = "request_batch b CROSS JOIN LATERAL json_array_elements(b.calls::json) e(value)"
    return f"SELECT b.position, {at} AS at, b.connection_id, {', '.join(values)} FROM {source}"  # noqa: S608


def view_statements(provider: Provider, view: View, dialect: Dialect) -> tuple[str, str]:
    """Return DROP and CREATE of one view for `sqlite` or `postgresql`. All names come from the profile."""
    own = [f"{_express(column, dialect)} AS {_quote(column.name)}" for column in view.columns]
    columns = ", ".join(
        [
            "r.connection_id",
            "c.user_id",
            "c.account_id",
            "r.external_id",
            *own,
            "r.first_seen_at",
            "r.changed_at",
            "r.data",
        ]
    )
    name = _quote(provider.view_name(view))
    source = "record r JOIN connection c ON c.id = r.connection_id"
    living = f"r.resource = {_text(view.resource)} AND c.provider = {_text(provider.name)} AND r.deleted_at IS NULL"
    query = f"SELECT {columns} FROM {source} WHERE {living}"  # noqa: S608 - names of the profile, quoted
    return f"DROP VIEW IF EXISTS {name}", f"CREATE VIEW {name} AS {query}"


def _express(column: Column, dialect: Dialect) -> str:
    parts = column.path.split(".")
    if column.type == "count":
        return _count(parts, column.where, dialect)
    if dialect == "sqlite":
        return _express_in_sqlite(column, _text("$." + ".".join(parts)))
    value = f"r.data #>> {_text('{' + ','.join(parts) + '}')}"
    match column.type:
        case "integer" | "number":
            return _typed(parts, "number", f"({value})::numeric")
        case "boolean":
            return _typed(parts, "boolean", f"({value})::boolean")
        case "time":
            has_zone = f"{value} ~ {_text(zone + '$')}"
            in_zone = f"(CASE WHEN {has_zone} THEN {value} ELSE {value} || 'Z' END)::timestamptz"
            is_time = f"{value} ~ {_text(time_of_day)} AND {value} !~ '^9999' AND {_is_date(value)}"
            return f"CASE WHEN {is_time} THEN {in_zone} END"
        case "date":
            return f"CASE WHEN {_is_date(value)} THEN left({value}, 10)::date END"
        case _:
            return value


def _express_in_sqlite(column: Column, path: str) -> str:
    """Return the column's value, or NULL if it is of another type; a time is a text in UTC with a Z."""
    value, kind = f"json_extract(r.data, {path})", f"json_type(r.data, {path})"
    day = f"substr({value}, 1, 10)"
    is_day = f"{kind} = 'text' AND {day} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' AND {day} >= '0002'"
    is_day += f" AND date({day}, '+0 days') = {day}"
    match column.type:
        case "integer" | "number":
            return f"CASE WHEN {kind} IN ('integer', 'real') THEN {value} END"
        case "boolean":
            return f"CASE WHEN {kind} IN ('true', 'false') THEN {value} END"
        case "time":
            clock = f"substr({value}, 11, 6) GLOB '[T ][0-9][0-9]:[0-9][0-9]' AND substr({value}, 12, 2) < '24'"
            is_time = f"{is_day} AND {clock} AND {day} < '9999' AND length({value}) <= {longest_time}"
            return f"CASE WHEN {is_time} THEN strftime('%Y-%m-%dT%H:%M:%fZ', {value}) END"
        case "date":
            return f"CASE WHEN {is_day} THEN {day} END"
        case _:
            return value


def _is_date(value: str) -> str:
    """Test that a text begins with a date that exists: PostgreSQL's cast fails on 0000-00-00 and on 02-31.

    The years 1 and, for a time, 9999 are left out: in the session's zone they may be the years 0 and 10000, which
    clients cannot read.
    """
    is_day = f"jsonb_path_query_first(to_jsonb(left({value}, 10)), '$.datetime()', '{{}}', true) IS NOT NULL"
    return f"({value} ~ '^\\d{{4}}-\\d\\d-\\d\\d' AND {value} !~ '^000[01]' AND {is_day})"


def _typed(parts: list[str], kind: str, cast: str) -> str:
    """Return NULL for a value of another JSON type than promised, so that one bad record does not fail the query."""
    path = _text("{" + ",".join(parts) + "}")
    return f"CASE WHEN jsonb_typeof(r.data #> {path}) = '{kind}' THEN {cast} END"


def _count(parts: list[str], where: str | None, dialect: Dialect) -> str:
    if dialect == "sqlite":
        path = _text("$." + ".".join(parts))
        inner = f"CASE WHEN e.type = 'object' THEN json_extract(e.value, {_text('$.' + where)}) END" if where else ""
        condition = f" WHERE {inner} IS NOT NULL" if where else ""
        counted = f"SELECT count(*) FROM json_each(r.data, {path}) e{condition}"  # noqa: S608
        return f"CASE WHEN json_type(r.data, {path}) = 'array' THEN ({counted}) ELSE 0 END"
    path = _text("{" + ",".join(parts) + "}")
    elements = f"CASE WHEN jsonb_typeof(r.data #> {path}) = 'array' THEN r.data #> {path} ELSE '[]'::jsonb END"
    condition = f" WHERE e.value ->> {_text(where)} IS NOT NULL" if where else ""
    return f"(SELECT count(*) FROM jsonb_array_elements({elements}) e(value){condition})"  # noqa: S608


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
