"""The flows of a grant's life: exchange, refresh, disconnect, revoke."""
