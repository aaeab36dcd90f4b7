"""What breezesync is measured beside: Celery and Authlib in an environment of their own."""
