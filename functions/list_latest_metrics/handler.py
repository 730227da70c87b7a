"""GET /metrics: the latest metrics of every account, by account id."""

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.tables import metrics_table


@endpoint
def handler(request: Request) -> Response:
    """Answer a page of latest snapshots."""
    return request.list_page("metrics", metrics_table().latest_for_all)
