"""GET /health: whether the database and the secret are there."""

import json
from http import HTTPStatus

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.health import health


@endpoint
def handler(_request: Request) -> Response:
    """Answer 200 where all is there, else 503 and what is wrong."""
    state = health()
    status = HTTPStatus.OK if state["status"] == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(json.dumps(state), status)
