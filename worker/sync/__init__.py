"""Sync a connection page by page."""
