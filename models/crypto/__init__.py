"""Seal and open secrets, and redact them from texts."""
