"""The schedule, the queue, and what becomes of each account."""

import io
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
import respx
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends

from copilot_metrics import continuation, dispatch
from copilot_metrics.queue import FetchQueue
from infra.local.aws import create_queues
from infra.local.lambdas import Context, load
from tests.conftest import STACK, Invoke, github_user
from tests.functions.conftest import CANARY, ImportAccount

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

USAGE = "/copilot_internal/user"
DUE = "2099-11-23T19:00:00Z"
LATER = "2099-11-23T20:00:00Z"
FUNCTIONS = {function.handler.parent.name: function for function in STACK.functions}


class Queue:
    """The queue, and what stands between it and the function."""

    def __init__(self, url: str) -> None:
        self._client = boto3.client("sqs", region_name="eu-central-1")
        self._url = url

    def receive(self) -> list[Any]:
        """Take all messages that can be received now."""
        found: list[Any] = []
        while more := self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages", []):
            found += more
        return found

    def process(self, messages: list[Any], *, receives: int = 1, **changes: Any) -> list[int]:
        """Give messages to the function; return the positions of those that come back."""
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": {**message["Attributes"], "ApproximateReceiveCount": str(receives)},
                "eventSource": "aws:sqs",
            }
            | changes
            for message in messages
        ]
        answer = load(FUNCTIONS["process_fetches"])({"Records": records}, Context("process_fetches"))
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [position for position, record in enumerate(records) if record["messageId"] in failed]

    def seconds_until_back(self, message: Any) -> float:
        """How long a received message is still kept back."""
        backend = sqs_backends[DEFAULT_ACCOUNT_ID]["eu-central-1"]
        (found,) = (m for m in backend.queues["FetchQueue"]._messages if m.id == message["MessageId"])
        return float(found.visible_at / 1000 - time.time())


@pytest.fixture
def queue(tables: "DynamoDBClient", environment: pytest.MonkeyPatch) -> Queue:
    """The template's queue, empty."""
    assert tables is not None
    urls = create_queues(boto3.client("sqs", region_name="eu-central-1"), STACK.queues)
    environment.setenv("COPILOT_METRICS__FETCH_QUEUE_URL", urls["FetchQueue"])
    # moto's transactions lose writes where threads use them; the end-to-end tests fetch concurrently.
    environment.setenv("COPILOT_METRICS__FETCH_CONCURRENCY", "1")
    return Queue(urls["FetchQueue"])


def dispatching(event: dict[str, Any] | None = None, *, seconds: float = 300) -> int:
    context = Context("dispatch_fetches", seconds=seconds)
    return int(load(FUNCTIONS["dispatch_fetches"])(event or {"time": DUE}, context)["queued"])


def bodies(messages: list[Any]) -> list[Any]:
    return [json.loads(message["Body"]) for message in messages]


def last_fetch(invoke: Invoke, account_id: int = 1) -> Any:
    return invoke("get_account", parameters={"account_id": str(account_id)}).json["last_fetch"]


def snapshots(tables: "DynamoDBClient") -> list[int]:
    """The account of each snapshot."""
    items = tables.scan(TableName="copilot_metrics")["Items"]
    return sorted(int(item["account_id"]["N"]) for item in items if "payload" in item)


Answers = Callable[[httpx.Response | Exception], respx.Route]


@pytest.fixture
def usage(github_api: respx.MockRouter) -> Answers:
    """Say what GitHub answers when it is asked for Copilot usage."""

    def answering(answer: httpx.Response | Exception) -> respx.Route:
        if isinstance(answer, Exception):
            return github_api.get(USAGE).mock(side_effect=answer)
        return github_api.get(USAGE).mock(return_value=answer)

    return answering


class TestDispatch:
    def test_every_account_gets_one_message(self, queue: Queue, import_account: ImportAccount) -> None:
        for user_id in range(1, 24):
            import_account(user_id)
        assert dispatching() == 23
        sent = bodies(queue.receive())
        assert sorted(body["account_id"] for body in sent) == list(range(1, 24))
        assert {body["due"] for body in sent} == {"2099-11-23T19:00:00.000Z"}

    def test_a_second_event_for_the_same_time_sends_nothing(self, queue: Queue, import_account: ImportAccount) -> None:
        import_account()
        assert [dispatching(), dispatching(), dispatching({"time": LATER}), dispatching()] == [1, 0, 1, 0]
        assert len(queue.receive()) == 2

    def test_without_accounts_nothing_is_sent(self, queue: Queue) -> None:
        assert dispatching() == 0
        assert queue.receive() == []

    def test_a_disabled_plugin_dispatches_and_processes_nothing(
        self, queue: Queue, import_account: ImportAccount, environment: pytest.MonkeyPatch, usage: Answers
    ) -> None:
        import_account()
        dispatching()
        messages = queue.receive()
        disable(environment)
        assert dispatching({"time": LATER}) == 0
        route = usage(httpx.Response(200, json={}))
        assert queue.process(messages) == []
        assert not route.called

    def test_where_time_runs_out_another_invocation_carries_on(
        self, queue: Queue, import_account: ImportAccount, environment: pytest.MonkeyPatch
    ) -> None:
        for user_id in range(1, 8):
            import_account(user_id)
        environment.setattr(dispatch, "ACCOUNTS_AT_ONCE", 3)
        handed_over = carrying_on(environment)
        moments = iter([0, 1, 2, 300])
        environment.setattr("copilot_metrics.dispatch.time", SimpleNamespace(monotonic=lambda: next(moments)))
        assert dispatching() == 6
        assert handed_over == [("dispatch_fetches", {"due": "2099-11-23T19:00:00.000Z", "after": 6})]
        assert len(queue.receive()) == 6
        assert dispatching() == 0

    def test_the_next_invocation_sends_the_rest(self, queue: Queue, import_account: ImportAccount) -> None:
        for user_id in range(1, 6):
            import_account(user_id)
        assert dispatching({"due": "2099-11-23T19:00:00.000Z", "after": 3}) == 2
        assert [body["account_id"] for body in bodies(queue.receive())] == [4, 5]

    def test_what_died_is_taken_up_where_it_stopped_but_not_while_it_may_live(
        self, queue: Queue, import_account: ImportAccount, environment: pytest.MonkeyPatch
    ) -> None:
        for user_id in range(1, 6):
            import_account(user_id)
        with environment.context() as dying:
            dying.setattr(dispatch, "ACCOUNTS_AT_ONCE", 2)
            sent: list[Any] = []
            send = FetchQueue.send

            def dies(self: Any, requests: Any) -> None:
                if sent:
                    raise KeyboardInterrupt
                sent.append(requests)
                send(self, requests)

            dying.setattr(FetchQueue, "send", dies)
            with pytest.raises(KeyboardInterrupt):
                dispatching()
        assert dispatching() == 0
        environment.setattr("copilot_metrics.tables.dispatches.time", SimpleNamespace(time=lambda: time.time() + 31))
        assert dispatching() == 3
        assert sorted(body["account_id"] for body in bodies(queue.receive())) == [1, 2, 3, 4, 5]

    def test_without_a_queue_the_caller_is_told(self, invoke: Invoke, import_account: ImportAccount) -> None:
        import_account()
        answer = invoke("fetch_all_metrics")
        assert (answer.status, answer.json["code"]) == (503, "queue_unavailable")

    def test_all_can_be_fetched_now(self, invoke: Invoke, queue: Queue, import_account: ImportAccount) -> None:
        import_account(1)
        import_account(2)
        answer = invoke("fetch_all_metrics")
        assert answer.status == 202
        assert (answer.json["queued"], answer.json["complete"]) == (2, True)
        assert bodies(queue.receive()) == [{"account_id": i, "due": answer.json["due"]} for i in (1, 2)]


def carrying_on(environment: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Record what another invocation is given."""
    handed_over: list[tuple[str, Any]] = []

    class Lambda:
        def invoke(self, **call: Any) -> None:
            assert call["InvocationType"] == "Event"
            handed_over.append((call["FunctionName"], json.loads(call["Payload"])))

    environment.setattr(continuation, "_lambda", Lambda)
    return handed_over


def disable(environment: pytest.MonkeyPatch) -> None:
    from copilot_metrics.settings import settings  # noqa: PLC0415  # after the fixture cleared it

    environment.setenv("PLUGINS_ENABLED", "hello")
    settings.cache_clear()


@pytest.fixture
def due(queue: Queue, import_account: ImportAccount) -> Any:
    """The message for one account, received."""
    import_account()
    dispatching()
    return queue.receive()[0]


class TestProcess:
    def test_each_account_of_a_batch_gets_a_snapshot(
        self, queue: Queue, import_account: ImportAccount, usage: Answers, tables: "DynamoDBClient", invoke: Invoke
    ) -> None:
        for user_id in range(1, 26):
            import_account(user_id)
        dispatching()
        usage(httpx.Response(200, json={"access_type_sku": "no_access"}))
        assert queue.process(queue.receive()) == []
        assert snapshots(tables) == list(range(1, 26))
        assert last_fetch(invoke, 7)["status"] == "ok"
        assert last_fetch(invoke, 7)["reason"] is None

    def test_a_message_delivered_twice_is_stored_and_asked_for_once(
        self, queue: Queue, due: Any, usage: Answers, tables: "DynamoDBClient"
    ) -> None:
        route = usage(httpx.Response(200, json={}))
        assert [queue.process([due]), queue.process([due], receives=2)] == [[], []]
        assert snapshots(tables) == [1]
        assert route.call_count == 1

    def test_a_message_delivered_to_two_at_once_is_stored_once(
        self, queue: Queue, due: Any, usage: Answers, tables: "DynamoDBClient"
    ) -> None:
        usage(httpx.Response(200, json={}))
        twin = {**due, "MessageId": "twin"}
        assert queue.process([due, twin, {**due, "MessageId": "third"}]) == []
        assert snapshots(tables) == [1]

    def test_an_older_request_is_served_by_a_newer_fetch(
        self, queue: Queue, due: Any, usage: Answers, tables: "DynamoDBClient"
    ) -> None:
        usage(httpx.Response(200, json={}))
        dispatching({"time": LATER})
        newer = queue.receive()
        assert [queue.process(newer), queue.process([due])] == [[], []]
        assert snapshots(tables) == [1]

    def test_a_refused_token_is_noted_and_left_alone_until_the_account_is_imported_again(
        self, queue: Queue, due: Any, usage: Answers, invoke: Invoke, import_account: ImportAccount
    ) -> None:
        route = usage(httpx.Response(401, json={"message": "Bad credentials"}))
        assert queue.process([due]) == []
        state = last_fetch(invoke)
        assert state["status"] == "token_invalid"
        assert "Bad credentials" in state["reason"]
        assert state["at"] > "2026"
        assert dispatching({"time": LATER}) == 0
        assert queue.process([{**due, "Body": due["Body"].replace("19:", "21:")}]) == []
        assert route.call_count == 1
        import_account(token="gho_another")
        assert last_fetch(invoke) is None
        assert dispatching({"time": "2099-11-23T22:00:00Z"}) == 1

    def test_a_token_replaced_during_the_fetch_is_not_called_invalid(
        self, queue: Queue, due: Any, github_api: respx.MockRouter, invoke: Invoke
    ) -> None:
        def imported_meanwhile(_request: httpx.Request) -> httpx.Response:
            github_api.get("/user").respond(json=github_user())
            assert invoke("import_account", body={"token": "gho_newer"}).status == 200
            return httpx.Response(401)

        github_api.get(USAGE).mock(side_effect=imported_meanwhile)
        assert queue.process([due]) == []
        assert last_fetch(invoke) is None

    def test_a_limit_keeps_the_message_back_for_as_long_as_github_asks(
        self, queue: Queue, due: Any, usage: Answers, invoke: Invoke
    ) -> None:
        route = usage(httpx.Response(429, headers={"retry-after": "600"}))
        assert queue.process([due]) == [0]
        assert 600 <= queue.seconds_until_back(due) <= 662
        assert last_fetch(invoke)["status"] == "limited"
        dispatching({"time": LATER})
        (next_due,) = queue.receive()
        assert queue.process([next_due]) == [0]
        assert 590 <= queue.seconds_until_back(next_due) <= 662
        assert route.call_count == 1

    @pytest.mark.parametrize(
        "failure",
        [
            httpx.Response(500),
            httpx.ReadTimeout("late"),
            httpx.ConnectError("down"),
            httpx.Response(200, text="<html>"),
        ],
        ids=["an error", "a timeout", "no connection", "nonsense"],
    )
    def test_a_failure_is_tried_again_later_and_later(
        self, queue: Queue, due: Any, usage: Answers, invoke: Invoke, failure: Any, tables: "DynamoDBClient"
    ) -> None:
        usage(failure)
        waits = []
        for receives in (1, 2, 3, 4):
            usage(failure)
            assert queue.process([due], receives=receives) == [0]
            waits.append(queue.seconds_until_back(due))
            assert last_fetch(invoke)["status"] == "retrying"
        assert [
            low - 1 < wait <= high for wait, low, high in zip(waits, (15, 30, 60, 120), (30, 60, 120, 240), strict=True)
        ]
        assert all(low - 2 < wait for wait, low in zip(waits, (15, 30, 60, 120), strict=True))
        usage(failure)
        assert queue.process([due], receives=5) == [0]
        assert queue.seconds_until_back(due) < 1
        assert last_fetch(invoke)["status"] == "failing"
        assert last_fetch(invoke)["reason"]
        assert snapshots(tables) == []

    def test_one_bad_account_does_not_touch_the_others(
        self,
        queue: Queue,
        import_account: ImportAccount,
        github_api: respx.MockRouter,
        invoke: Invoke,
        tables: "DynamoDBClient",
    ) -> None:
        for user_id, case in enumerate(("good", "refused", "down", "limited", "late", "good-too"), 1):
            import_account(user_id, f"gho_{case}")
        dispatching()

        def answering(request: httpx.Request) -> httpx.Response:
            match request.headers["authorization"].removeprefix("Bearer gho_"):
                case "refused":
                    return httpx.Response(401)
                case "down":
                    return httpx.Response(503)
                case "limited":
                    return httpx.Response(403, headers={"x-ratelimit-remaining": "0"})
                case "late":
                    raise httpx.ReadTimeout("late")
            return httpx.Response(200, json={})

        github_api.get(USAGE).mock(side_effect=answering)
        assert len(queue.process(queue.receive())) == 3
        assert snapshots(tables) == [1, 6]
        states = [last_fetch(invoke, account_id)["status"] for account_id in range(1, 7)]
        assert states == ["ok", "token_invalid", "retrying", "limited", "retrying", "ok"]

    @pytest.mark.parametrize(
        "body", ["", "nonsense", "[]", "{}", '{"account_id": "1", "due": 1}', '{"account_id": 1, "due": "soon"}']
    )
    def test_a_poisoned_message_comes_back_alone(
        self, queue: Queue, due: Any, usage: Answers, tables: "DynamoDBClient", body: str
    ) -> None:
        usage(httpx.Response(200, json={}))
        poisoned = {**due, "MessageId": "poisoned", "Body": body}
        assert queue.process([poisoned, due]) == [0]
        assert snapshots(tables) == [1]

    def test_an_account_that_is_gone_is_not_an_error(
        self, queue: Queue, due: Any, usage: Answers, tables: "DynamoDBClient"
    ) -> None:
        tables.delete_item(TableName="copilot_github_accounts", Key={"id": {"N": "1"}})
        route = usage(httpx.Response(200, json={}))
        assert queue.process([due]) == []
        assert not route.called
        assert snapshots(tables) == []

    def test_a_single_fetch_tells_how_it_ended_too(
        self, due: Any, usage: Answers, invoke: Invoke, queue: Queue
    ) -> None:
        assert due
        usage(httpx.Response(500))
        assert invoke("fetch_metrics", parameters={"account_id": "1"}).status == 502
        assert last_fetch(invoke)["status"] == "failing"
        usage(httpx.Response(404))
        assert invoke("fetch_metrics", parameters={"account_id": "1"}).status == 401
        assert last_fetch(invoke)["status"] == "token_invalid"
        assert dispatching({"time": LATER}) == 0
        usage(httpx.Response(200, json={}))
        assert invoke("fetch_metrics", parameters={"account_id": "1"}).status == 200
        assert last_fetch(invoke)["status"] == "ok"
        assert dispatching({"time": "2099-11-23T22:00:00Z"}) == 1
        assert queue.receive()

    def test_what_happened_is_counted(
        self, queue: Queue, due: Any, usage: Answers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        usage(httpx.Response(200, json={}))
        capsys.readouterr()
        queue.process([{**due, "Body": json.dumps({"account_id": 1, "due": "2026-11-23T10:00:00.000Z"})}])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "CloudWatchMetrics" in line]
        counted = json.loads(line)
        assert counted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "CopilotMetrics"
        assert counted["Fetched"] == [1.0]
        assert len(counted["SecondsToStored"]) == 1

    def test_no_token_is_seen_anywhere(
        self,
        queue: Queue,
        due: Any,
        usage: Answers,
        tables: "DynamoDBClient",
        logged: io.StringIO,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        for failure in (
            httpx.Response(500, json={"message": f"no {CANARY}"}),
            httpx.Response(200, json={"echo": CANARY}),
            httpx.ReadTimeout(CANARY),
            RuntimeError(CANARY),
            httpx.Response(401, json={"message": f"no {CANARY}"}),
        ):
            usage(failure)
            queue.process([due])
        printed = capfd.readouterr()
        stored = repr(tables.scan(TableName="copilot_github_accounts")["Items"])
        assert "batch" in logged.getvalue()
        assert not [place for place in (printed.out, printed.err, logged.getvalue(), stored) if CANARY in place]
