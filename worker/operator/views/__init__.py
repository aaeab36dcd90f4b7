"""What the operator's page and API show: one frozen value for each view, with the function that loads it.

Each `load_…` takes the `Sources` and what was asked for, and reads a bounded number of rows, however many connections
there are. It raises `SyncError` if the database does not answer. If Redis does not answer, what Redis says is None
and the rest is shown. Times are aware and in UTC. No view holds a secret; texts of users and of the provider are as
they came, so that whoever makes HTML of them escapes them.
"""
