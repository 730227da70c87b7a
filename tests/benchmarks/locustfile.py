"""What callers do, for locust: mostly reading, now and then a fetch or an import."""

import os
import random

from locust import HttpUser, between, task

PREFIX = "/plugins/copilot_metrics"
ACCOUNTS = int(os.environ["ACCOUNTS"])


class Caller(HttpUser):
    """One client, with a key for everything."""

    wait_time = between(0, 0.05)

    def on_start(self) -> None:
        """Send the key with each request."""
        self.client.headers["authorization"] = f"Bearer {os.environ['KEY']}"

    @task(4)
    def latest(self) -> None:
        """Read one account's metrics."""
        self.client.get(f"{PREFIX}/metrics/{_any()}", name="GET /metrics/{account_id}")

    @task(1)
    def latest_of_all(self) -> None:
        """Read all accounts' metrics."""
        self.client.get(f"{PREFIX}/metrics?limit=100", name="GET /metrics")

    @task(1)
    def accounts(self) -> None:
        """List the accounts."""
        self.client.get(f"{PREFIX}/accounts?limit=100", name="GET /accounts")

    @task(3)
    def fetch(self) -> None:
        """Fetch one account's metrics."""
        self.client.post(f"{PREFIX}/metrics/fetch/{_any()}", name="POST /metrics/fetch/{account_id}")

    @task(1)
    def again(self) -> None:
        """Import a known account again."""
        self.client.post(
            f"{PREFIX}/accounts/import", json={"token": f"gho_user-{_any()}"}, name="POST /accounts/import"
        )


def _any() -> int:
    return random.randint(1, ACCOUNTS)  # noqa: S311  # any account
