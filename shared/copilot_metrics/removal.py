"""Removing an account and all that is kept of it."""

from copilot_metrics.errors import RemovalUnfinished
from copilot_metrics.tables import account_table, metrics_table


def remove_account(account_id: int, *, seconds: float) -> None:
    """Remove an account's token first, then its snapshots, whatever runs at the same time.

    Raises AccountNotFound; RemovalUnfinished where ``seconds`` aren't enough, or DatabaseUnavailable: call it again
    then, it goes on where it stopped.
    """
    accounts = account_table()
    accounts.begin_removal(account_id)
    if not metrics_table().remove_all(account_id, seconds=seconds):
        raise RemovalUnfinished(
            f"Account {account_id} and its token are removed, but not yet all of its metrics: repeat the request until "
            "it is answered with 204.",
            retry_after=1,
        )
    accounts.finish_removal(account_id)
