"""Traces: what a process does for one request or message, and in what order, for a collector to show."""
