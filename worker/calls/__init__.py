"""Calls to a provider as jobs."""
