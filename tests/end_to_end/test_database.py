"""The local database takes over a folder that an earlier version has left."""

import dataclasses
from pathlib import Path

from copilot_metrics.models import SealedToken
from copilot_metrics.schemas import GitHubUser
from copilot_metrics.tables import AccountTable
from infra.local.database import database
from tests.end_to_end.parts import KEY, STACK

SEALED = SealedToken(ciphertext=b"c", nonce=b"n" * 12, salt=b"s" * 16, kdf="a-kdf", key_id="a-key")
USER = GitHubUser(id=5, login="octo", node_id="U", avatar_url="")


def test_accounts_from_before_an_index_are_listed_by_it(tmp_path: Path) -> None:
    folder = tmp_path / "database"
    folder.mkdir()
    earlier = dataclasses.replace(
        STACK,
        tables=tuple(
            {
                **table,
                "GlobalSecondaryIndexes": [
                    {**index, "IndexName": f"earlier_{index['IndexName']}"} for index in table["GlobalSecondaryIndexes"]
                ],
            }
            if "GlobalSecondaryIndexes" in table
            else table
            for table in STACK.tables
        ),
    )
    assert earlier != STACK
    with database(folder, KEY, earlier) as running:
        AccountTable(running.client(), "copilot_github_accounts").upsert(USER, lambda _account_id: SEALED)
    with database(folder, KEY, STACK) as running:
        accounts = AccountTable(running.client(), "copilot_github_accounts")
        assert [account.login for account in accounts.newest_first().items] == ["octo"]
        assert list(accounts.ids_on_schedule()) == [1]
