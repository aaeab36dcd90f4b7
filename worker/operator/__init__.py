"""The operator's page: who may see it."""
