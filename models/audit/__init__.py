"""The audit: what was done with whose tokens, by whom, in lines that are chained by their hashes."""
