"""Accounts and snapshots by the thousand, as they are stored, for services that only read them."""

import base64
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from copilot_metrics.models import SealedToken
from infra.stack import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAYLOAD = (ROOT / "tests" / "payloads" / "pro_plus_credits.json").read_text()
MOMENT = "2026-11-23T19:05:19.165Z"
AS_LONG_AS_SEALED = SealedToken(b"A" * 56, b"A" * 12, b"A" * 16, "argon2id$v=19$m=19456,t=2,p=1", "0" * 16)
"""For accounts whose token nobody opens."""


def add_accounts(
    client: "DynamoDBClient", ids: Iterable[int], seal: Callable[[int], SealedToken] = lambda _: AS_LONG_AS_SEALED
) -> None:
    """Put accounts whose latest snapshot is the one with the account's own id."""
    _put(client, (("copilot_github_accounts", _account(i, i, seal(i))) for i in ids))


def add_snapshots(client: "DynamoDBClient", ids: Iterable[int], rounds: Iterable[int], accounts: int) -> None:
    """Put snapshots of accounts for some rounds of fetches, of which the first is 0."""
    _put(
        client,
        (("copilot_metrics", _snapshot(i, snapshot_id(i, r, accounts))) for r in rounds for i in ids),
    )


def point(client: "DynamoDBClient", ids: Iterable[int], round_: int, accounts: int) -> None:
    """Let the accounts' latest snapshot be a round's."""
    _put(client, (("copilot_github_accounts", _account(i, snapshot_id(i, round_, accounts))) for i in ids))


def snapshot_id(account_id: int, round_: int, accounts: int) -> int:
    """Return the id that a snapshot has where all accounts were fetched one after the other."""
    return round_ * accounts + account_id


def _account(account_id: int, latest: int, sealed: SealedToken = AS_LONG_AS_SEALED) -> dict[str, Any]:
    return {
        "id": {"N": str(account_id)},
        "kind": {"S": "account"},
        "schedule": {"S": "on"},
        "login": {"S": f"octo-{account_id}"},
        "github_user_id": {"N": str(10**6 + account_id)},
        "node_id": {"S": f"U_{account_id}"},
        "avatar_url": {"S": f"https://avatars.example/u/{account_id}?v=4"},
        "created_at": {"S": MOMENT},
        "updated_at": {"S": MOMENT},
        "fetch_status": {"S": "ok"},
        "fetch_at": {"S": MOMENT},
        "fresh_as_of": {"S": MOMENT},
        "latest_metrics_id": {"N": str(latest)},
        "token_ciphertext": {"S": base64.b64encode(sealed.ciphertext).decode()},
        "token_nonce": {"S": base64.b64encode(sealed.nonce).decode()},
        "token_salt": {"S": base64.b64encode(sealed.salt).decode()},
        "token_kdf": {"S": sealed.kdf},
        "token_key_id": {"S": sealed.key_id},
    }


def _snapshot(account_id: int, metrics_id: int) -> dict[str, Any]:
    return {
        "account_id": {"N": str(account_id)},
        "id": {"N": str(metrics_id)},
        "fetched_at": {"S": MOMENT},
        "payload": {"S": PAYLOAD},
    }


def _put(client: "DynamoDBClient", items: Iterable[tuple[str, dict[str, Any]]]) -> None:
    def put(chunk: list[tuple[str, dict[str, Any]]]) -> None:
        requests: dict[str, Any] = {}
        for table, item in chunk:
            requests.setdefault(table, []).append({"PutRequest": {"Item": item}})
        client.batch_write_item(RequestItems=requests)

    chunks = _chunks(iter(items))
    with ThreadPoolExecutor(4) as pool:
        # A few at a time: a million items don't belong into memory.
        while some := list(islice(chunks, 100)):
            list(pool.map(put, some))


def _chunks(items: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    while chunk := list(islice(items, 25)):
        yield chunk
