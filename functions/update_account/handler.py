"""PATCH /accounts/{account_id}: pause an account, or let the schedule fetch it again."""

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.schemas import AccountChange
from copilot_metrics.tables import account_table


@endpoint
def handler(request: Request) -> Response:
    """Answer the account as it is then."""
    account_id, change = request.account_id(), request.body(AccountChange)
    accounts = account_table()
    accounts.set_paused(account_id, paused=change.paused)
    return Response(accounts.get(account_id).to_json())
