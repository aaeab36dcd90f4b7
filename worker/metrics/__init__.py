"""What a worker counts and measures, and how its processes show it together."""
