"""HTTP to the provider, within its rate limit."""
