"""GET /accounts: the imported accounts, newest id first."""

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.tables import account_table


@endpoint
def handler(request: Request) -> Response:
    """Answer a page of accounts."""
    return request.list_page("accounts", account_table().newest_first)
