"""Random input at every door, seeded and bounded: `make fuzz`."""
