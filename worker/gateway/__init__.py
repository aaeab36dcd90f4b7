"""The gateway: what an application's servers ask for over HTTP."""
