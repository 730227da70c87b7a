"""GET /accounts/{account_id}: one account."""

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.tables import account_table


@endpoint
def handler(request: Request) -> Response:
    """Answer the account."""
    return Response(account_table().get(request.account_id()).to_json())
