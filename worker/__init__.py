"""The worker: actors and the flows they call, the web endpoints, the command line."""
