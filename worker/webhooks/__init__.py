"""Webhooks: events to the application's endpoints over HTTP."""
