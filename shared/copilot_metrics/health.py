"""Whether what the service needs is there."""

from collections.abc import Callable

from copilot_metrics.errors import Unavailable
from copilot_metrics.secret import check_secret
from copilot_metrics.settings import settings
from copilot_metrics.tables import check_tables


def health() -> dict[str, str]:
    """Return ``status``, ``database`` and ``secret``: each "ok", or what is wrong and what to do."""
    parts = {"database": _state(check_tables), "secret": _state(lambda: check_secret(settings()))}
    return {"status": "ok" if set(parts.values()) == {"ok"} else "unavailable", **parts}


def _state(check: Callable[[], None]) -> str:
    try:
        check()
    except Unavailable as error:
        return error.detail
    return "ok"
