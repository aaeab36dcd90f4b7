"""Where tokens are kept: saved, spooled while the database is away, queued for revocation."""
