"""Webhooks: which endpoints hear of an event, how a request is signed, and what becomes of a delivery."""
