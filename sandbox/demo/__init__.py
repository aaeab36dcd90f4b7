"""Demonstrate the life of one user's connection on a real breezesync, using only its public interfaces.

`python -m sandbox.demo` starts its own breezesync, in its own directory and on its own ports; with `--attach` it uses
a running one. It exits with 0 if it saw every step happen, and with 1 at the first that it did not see.
"""
