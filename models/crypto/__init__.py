"""Secrets: sealed and opened, and hidden in text."""
