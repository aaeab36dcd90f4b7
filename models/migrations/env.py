"""Alembic's entry: runs the migrations on the connection that the caller opened and locked."""

from alembic import context

from models.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
