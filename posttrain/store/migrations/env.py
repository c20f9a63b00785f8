"""What Alembic runs: the migrations, on the connection and in the transaction that upgrade.py gives it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
