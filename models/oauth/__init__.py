"""What RFC 6749 is about: authorizations, connections, credentials, and what a token endpoint's answer proves."""
