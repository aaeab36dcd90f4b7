"""breezesync is an application: nothing of it is for import. What it is made of lies below, out of others' way."""
