"""Alembic migrations of the feedback store, applied by upgrade.py when a store is opened. None goes back."""
