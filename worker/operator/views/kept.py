"""Figures over the whole database, kept for a while: counting a million connections takes a second."""


class Figures:
    """What is counted over the whole database."""
