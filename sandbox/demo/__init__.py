"""One user's whole life, played against a real breezesync through nothing but what anybody outside can use.

`python -m sandbox.demo` starts a breezesync of its own, in a directory and on ports of its own; with `--attach` it
plays against one that runs. It exits with 0 if every step was seen to happen, and with 1 at the first that was not.
"""
