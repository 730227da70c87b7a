"""POST /metrics/fetch: queue the fetch of every account now."""

import json
from http import HTTPStatus

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.dispatch import dispatcher, hand_over
from copilot_metrics.models import timestamp
from copilot_metrics.settings import settings

SECONDS = 20
"""Within API Gateway's 30; what is left then is queued by dispatch_fetches."""


@endpoint
def handler(_request: Request) -> Response:
    """Answer how many accounts were queued, for which moment, and whether these are all."""
    due = timestamp()
    dispatched = dispatcher().dispatch(due, seconds=SECONDS)
    hand_over(settings().dispatch_function or "", due, dispatched)
    body = {"queued": dispatched.queued, "due": due, "complete": dispatched.after is None}
    return Response(json.dumps(body), HTTPStatus.ACCEPTED)
