"""What Dramatiq and uvicorn call to build a process. Each imports its own: a process starts with what it is made of."""

from starlette.types import ASGIApp


def boot() -> None:
    """What `dramatiq worker.main:boot` calls: reads the settings, sets the broker, declares the actors."""
    from worker.processes import worker  # noqa: PLC0415

    worker.boot()


def web() -> ASGIApp:
    """What `uvicorn --factory worker.main:web` calls: the public application, and the operator's beside it."""
    from worker.processes import web  # noqa: PLC0415

    return web.web()


def operator() -> ASGIApp:
    """What `uvicorn --factory worker.main:operator` calls: the operator's application alone."""
    from worker.processes import web  # noqa: PLC0415

    return web.operator()


def gateway() -> ASGIApp:
    """What `uvicorn --factory worker.main:gateway` calls: tokens and calls for the application's servers."""
    from worker.processes import gateway  # noqa: PLC0415

    return gateway.gateway()
