"""The tables: the only package that knows how DynamoDB holds what the service keeps.

``copilot_github_accounts`` (key ``id``, number) holds three kinds of items:

- ``id`` > 0: an account. Its ``kind`` puts it into the index that has what lists show, in order of their ids.
- ``id`` < 0: the claim of GitHub user ``-id``, naming the one account this user has. Written in one transaction
  with the account, it keeps racing imports of one user from making two.
- ``id`` = 0: the counter that account ids come from, and how far the latest dispatch has come.

``copilot_metrics`` (key ``account_id``, sort key ``id``) holds the snapshots, and at 0/0 the counter for their ids.
An account's ``latest_metrics_id`` points to its latest snapshot and is written in one transaction with it.

``copilot_metrics_api_keys`` (key ``id``) holds who may call the API.
"""

from functools import cache

from copilot_metrics.dynamodb import call, dynamodb, number, string
from copilot_metrics.settings import settings
from copilot_metrics.tables.accounts import COUNTER, AccountTable
from copilot_metrics.tables.dispatches import DispatchTable
from copilot_metrics.tables.keys import ApiKeyTable
from copilot_metrics.tables.metrics import MetricsTable
from copilot_metrics.tables.recent import RecentSnapshots

__all__ = [
    "AccountTable",
    "ApiKeyTable",
    "DispatchTable",
    "MetricsTable",
    "account_table",
    "api_key_table",
    "check_tables",
    "dispatch_table",
    "metrics_table",
]


def check_tables() -> None:
    """Read one key of each table. Raises DatabaseUnavailable."""
    current = settings()
    counter = number(COUNTER)
    keys: dict[str, dict[str, dict[str, str]]] = {
        current.accounts_table: {"id": counter},
        current.metrics_table: {"account_id": counter, "id": counter},
        current.api_keys_table: {"id": string("none")},
    }
    for name, key in keys.items():
        call(dynamodb().get_item, TableName=name, Key=key, ProjectionExpression="id")


def account_table() -> AccountTable:
    """Return the accounts as this process's environment names them."""
    return AccountTable(dynamodb(), settings().accounts_table)


def metrics_table() -> MetricsTable:
    """Return the metrics as this process's environment names them."""
    return MetricsTable(dynamodb(), settings().metrics_table, settings().accounts_table, _recent())


@cache
def _recent() -> RecentSnapshots:
    return RecentSnapshots()


def dispatch_table() -> DispatchTable:
    """Return the dispatches as this process's environment names their table."""
    return DispatchTable(dynamodb(), settings().accounts_table)


def api_key_table() -> ApiKeyTable:
    """Return the API keys as this process's environment names their table."""
    return ApiKeyTable(dynamodb(), settings().api_keys_table)
