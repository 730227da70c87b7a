"""POST /metrics/fetch/{account_id}: fetch one account's Copilot metrics from GitHub now."""

import json

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.service import copilot_metrics_service


@endpoint
def handler(request: Request) -> Response:
    """Answer the new snapshot's id."""
    metrics_id = copilot_metrics_service().fetch_metrics(request.account_id())
    return Response(json.dumps({"metrics_id": metrics_id}))
