"""The real database behind a bad network: requests that are throttled, and answers that get lost."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from copilot_metrics.models import SealedToken, timestamp
from copilot_metrics.schemas import GitHubUser
from copilot_metrics.tables import AccountTable, DispatchTable, MetricsTable
from infra.local.database import database
from tests.end_to_end.parts import KEY, STACK

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SEALED = SealedToken(ciphertext=b"c", nonce=b"n" * 12, salt=b"s" * 16, kdf="a-kdf", key_id="a-key")
USER = GitHubUser(id=5, login="octo", node_id="U", avatar_url="")


class FirstTry:
    """Lets each request's first try go wrong."""

    def __init__(self, wrong: Callable[[AWSPreparedRequest], AWSResponse]) -> None:
        self.tokens: set[str] = set()
        self.count = 0
        self._wrong = wrong

    def __call__(self, request: AWSPreparedRequest, **_more: Any) -> AWSResponse | None:
        # botocore counts the tries of one request in this header.
        header = request.headers.get("amz-sdk-request", b"")
        if b"attempt=1" not in (header if isinstance(header, bytes) else header.encode()):
            return None
        self.count += 1
        return self._wrong(request)


class Raw:
    """A body as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_arguments: Any) -> Iterator[bytes]:
        yield self._body


def answered(request: AWSPreparedRequest, status: int, body: bytes) -> AWSResponse:
    headers: Any = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, Raw(body))


def throttled(request: AWSPreparedRequest) -> AWSResponse:
    body = b'{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"}'
    return answered(request, 400, body)


def unavailable(request: AWSPreparedRequest) -> AWSResponse:
    return answered(request, 503, b"")


def lost(request: AWSPreparedRequest) -> AWSResponse:
    """It arrives and is done, and nobody hears of it."""
    assert URLLib3Session().send(request).status_code in {200, 400}
    raise ReadTimeoutError(endpoint_url=request.url)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[DynamoDBClient]":
    """A client with botocore's standard retries, as the service has them."""
    folder = tmp_path_factory.mktemp("faults") / "database"
    folder.mkdir()
    with database(folder, KEY, STACK) as running:
        yield boto3.client(
            "dynamodb",
            endpoint_url=running.environment["AWS_ENDPOINT_URL_DYNAMODB"],
            region_name=running.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=KEY,
            aws_secret_access_key="unused",
            config=Config(retries={"mode": "standard", "total_max_attempts": 3}, proxies={}),
        )


def stored(client: "DynamoDBClient", table: str) -> list[dict[str, Any]]:
    return [item for item in client.scan(TableName=table)["Items"] if item["id"] != {"N": "0"}]


@pytest.mark.parametrize("wrong", [throttled, unavailable, lost])
def test_everything_is_done_once_though_each_first_try_goes_wrong(
    client: "DynamoDBClient", wrong: Callable[[AWSPreparedRequest], AWSResponse]
) -> None:
    accounts = AccountTable(client, "copilot_github_accounts")
    metrics = MetricsTable(client, "copilot_metrics", "copilot_github_accounts")
    dispatches = DispatchTable(client, "copilot_github_accounts")
    moment = timestamp()  # later than the test's before
    fault: Any = FirstTry(wrong)  # botocore's stubs know no hooks that answer
    client.meta.events.register("before-send.dynamodb", fault)

    account_id = accounts.upsert(USER, lambda _account_id: SEALED)
    assert accounts.upsert(USER, lambda _account_id: SEALED) == account_id
    first = metrics.add(account_id, "{}")
    due = "2099-01-01T00:00:00.000Z"
    second = metrics.add(account_id, '{"a": 1}', due=due)
    assert metrics.add(account_id, '{"a": 1}', due=due) is None
    assert metrics.latest(account_id).id == second
    assert dispatches.begin(moment) == 0
    assert dispatches.begin(moment) is None
    accounts.set_paused(account_id, paused=True)
    assert accounts.get(account_id).paused
    assert fault.count > 10

    client.meta.events.unregister("before-send.dynamodb", fault)
    assert sorted(int(item["id"]["N"]) for item in stored(client, "copilot_metrics")) == [first, second]
    assert len(stored(client, "copilot_github_accounts")) == 2  # the account and its claim
    client.meta.events.register("before-send.dynamodb", fault)

    accounts.begin_removal(account_id)
    assert metrics.remove_all(account_id, seconds=20)
    accounts.finish_removal(account_id)
    client.meta.events.unregister("before-send.dynamodb", fault)
    assert stored(client, "copilot_metrics") + stored(client, "copilot_github_accounts") == []
