"""The SQL views that a profile describes: a resource's records that are not deleted, with fields as columns."""

from models.provider import Column, Provider, View

Dialect = str
time_of_day = r"^.{10}[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]([01]\d):?([0-5]\d)?)?$"
"""Matches times that PostgreSQL casts without an error; the date is checked separately."""


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
        return f"json_extract(r.data, {_text('$.' + '.'.join(parts))})"
    value = f"r.data #>> {_text('{' + ','.join(parts) + '}')}"
    match column.type:
        case "integer" | "number":
            return _typed(parts, "number", f"({value})::numeric")
        case "boolean":
            return _typed(parts, "boolean", f"({value})::boolean")
        case "time":
            return f"CASE WHEN {value} ~ {_text(time_of_day)} AND {_is_date(value)} THEN ({value})::timestamptz END"
        case "date":
            return f"CASE WHEN {_is_date(value)} THEN left({value}, 10)::date END"
        case _:
            return value


def _is_date(value: str) -> str:
    """Test that a text begins with a date that exists: PostgreSQL's cast fails on 0000-00-00 and on 02-31."""
    is_day = f"jsonb_path_query_first(to_jsonb(left({value}, 10)), '$.datetime()', '{{}}', true) IS NOT NULL"
    return f"({value} ~ '^\\d{{4}}-\\d\\d-\\d\\d' AND {value} !~ '^0000' AND {is_day})"


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
