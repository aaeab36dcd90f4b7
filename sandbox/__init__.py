"""A BreezeDoc for tests: consent page, token endpoint and API, with switches that make them fail.

In a process of its own: `python -m sandbox [--port 8799] …`. Inside a test, on a free port:

    with sandbox.running(passport=13, token_rate_limit=0) as provider:
        provider.url                  # "http://127.0.0.1:43211"; authorize, token and API are below it
        provider.control.authorize(authorize_url, user_id=1)   # acts as the user, returns the redirect's URL
        provider.control.inject(on="token", moment="after", kind="drop", count=1)
        provider.control.start_outage("502")                   # and end_outage(); the kinds are in sandbox.outages
        provider.control.replace_keys()                        # and restore_keys(): a re-keyed server and back
        provider.control.advance(3600)                         # the sandbox's clock, not yours
        provider.control.counters()["max_presentations"]

`running` takes any field of `sandbox.settings.Settings`. `sandbox.client.Control(url)` is the same control
for a sandbox that runs elsewhere. Users 1 to 5 are Ada (12 documents), Grace (37; agency plan, teams 1 and 2),
Linus (1,000), Edsger (none) and Barbara (free plan: the API answers 403).
"""

from sandbox.client import Control, ControlError
from sandbox.server import Running, running
from sandbox.settings import Settings

__all__ = ["Control", "ControlError", "Running", "Settings", "running"]
