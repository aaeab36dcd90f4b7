"""The Dramatiq broker, the worker's liveness, and the publishing of events."""
