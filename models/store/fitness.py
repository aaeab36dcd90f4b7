"""Whether a database that answers can be worked with: its encoding, its revision, and what the role may do."""

from collections.abc import Collection

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text

from models.store.trouble import Trouble


def find_misfit(sql: SqlConnection, revision: str | None, known: Collection[str]) -> Trouble | None:
    """Return why neither this version nor its migrations can work with the database; `known` are our revisions."""
    if revision is not None and revision not in known:
        said = f"has schema {revision}, which a newer version of breezesync made"
        return Trouble(said, "Run that version, or restore a backup from before its migration.")
    if sql.dialect.name != "postgresql":
        return None
    encoding = sql.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        remedy = "Create a database with ENCODING 'UTF8' (createdb -E UTF8 -T template0), and set DATABASE_URL to it."
        return Trouble(f"has the encoding {encoding}, and needs UTF8", remedy)
    if revision is not None and revision == max(known):
        return None
    role, schema, path, may_create = sql.execute(
        text(
            "SELECT current_user, current_schema(), current_setting('search_path'), "
            "has_schema_privilege(current_schema(), 'CREATE')"
        )
    ).one()
    if schema is None:
        said = f"has no schema that search_path ({path}) names"
        return Trouble(said, "Create the schema, or correct search_path in DATABASE_URL or of the role.")
    if not may_create:
        remedy = f"As its owner: GRANT CREATE ON SCHEMA {schema} TO {role}; or run breezesync migrate as the owner."
        return Trouble(f"does not let role {role} create tables in schema {schema}", remedy)
    return None
