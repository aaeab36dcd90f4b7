"""Syncs: what a run reads, what its answers mean, which records are deleted, and when the next run is due."""
