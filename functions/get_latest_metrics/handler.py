"""GET /metrics/{account_id}: one account's latest metrics."""

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.tables import metrics_table


@endpoint
def handler(request: Request) -> Response:
    """Answer the latest snapshot."""
    return Response(metrics_table().latest(request.account_id()).to_json())
