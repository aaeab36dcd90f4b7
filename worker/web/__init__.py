"""The web process: connect links, the callback, the result page, health and metrics."""
