"""What only the deployed stack shows: its rule, its queues, its roles, its alarms."""

import json
import time
from collections.abc import Callable

import httpx
import pytest

from tests.black_box.stack import Stack

pytestmark = [pytest.mark.only_on("stack", reason="make test-stack deploys it"), pytest.mark.timeout(300)]


def eventually(fact: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(1)


def test_the_rule_fires_and_every_account_is_fetched(deployed: Stack, client: httpx.Client) -> None:
    account_id = deployed.target.import_account(client, "gho_user-8001")
    eventually(lambda: client.get(f"/metrics/{account_id}").status_code == 200, 150)


def test_a_message_that_cannot_be_served_ends_in_the_dead_letter_queue(deployed: Stack) -> None:
    sqs = deployed.client("sqs")
    sqs.send_message(QueueUrl=deployed.resources["FetchQueue"], MessageBody="poison")
    found: list[str] = []

    def dead() -> bool:
        answer = sqs.receive_message(QueueUrl=deployed.resources["FailedFetchQueue"], MaxNumberOfMessages=10)
        found.extend(message["Body"] for message in answer.get("Messages", []))
        return "poison" in found

    eventually(dead, 150)


def test_an_account_whose_fetches_fail_shows_it_and_its_message_is_kept(deployed: Stack, client: httpx.Client) -> None:
    account_id = deployed.target.import_account(client, "gho_user-8002-down")

    def failing() -> bool:
        return bool((client.get(f"/accounts/{account_id}").json()["last_fetch"] or {}).get("status") == "failing")

    eventually(failing, 240)
    client.delete(f"/accounts/{account_id}")


def test_a_function_that_its_role_denies_is_denied(deployed: Stack, client: httpx.Client) -> None:
    """So what the other tests show is allowed by the template's roles, and by nothing else."""
    iam, role = deployed.client("iam"), deployed.resources["GetAccountRole"]
    account_id = deployed.target.import_account(client, "gho_user-8003")
    assert client.get(f"/accounts/{account_id}").status_code == 200
    kept = iam.get_role_policy(RoleName=role, PolicyName="GetAccount")["PolicyDocument"]
    kept = json.loads(kept) if isinstance(kept, str) else kept
    without = {**kept, "Statement": [s for s in kept["Statement"] if s["Sid"] != "ReadAccount"]}
    iam.put_role_policy(RoleName=role, PolicyName="GetAccount", PolicyDocument=json.dumps(without))
    try:
        answer = client.get(f"/accounts/{account_id}")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "AccessDenied" in answer.json()["detail"]
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="GetAccount", PolicyDocument=json.dumps(kept))
    assert client.get(f"/accounts/{account_id}").status_code == 200


def test_the_reading_functions_cannot_read_a_token(deployed: Stack) -> None:
    """The condition on attributes, as far as ministack has it: GetItem's projection."""
    lambdas, name = deployed.client("lambda"), deployed.resources["GetAccount"]
    policy = deployed.client("iam").get_role_policy(
        RoleName=deployed.resources["GetAccountRole"], PolicyName="GetAccount"
    )
    assert "token_ciphertext" not in json.dumps(policy["PolicyDocument"])
    assert lambdas.get_function(FunctionName=name)["Configuration"]["Role"].endswith(
        deployed.resources["GetAccountRole"]
    )


def test_the_alarms_are_there(deployed: Stack) -> None:
    alarms = deployed.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {alarm["MetricName"] for alarm in alarms} == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "Errors",
    }
    assert len(alarms) == 4


def test_with_snap_start_each_release_publishes_what_api_gateway_calls(deployed: Stack, client: httpx.Client) -> None:
    lambdas, gateway = deployed.client("lambda"), deployed.client("apigatewayv2")
    name, api = deployed.resources["ListAccounts"], deployed.resources["Api"]

    def versions() -> list[str]:
        return [version["Version"] for version in lambdas.list_versions_by_function(FunctionName=name)["Versions"]]

    def called_by_alias() -> set[bool]:
        integrations = [found["IntegrationUri"] for found in gateway.get_integrations(ApiId=api)["Items"]]
        [authorizer] = [found["AuthorizerUri"] for found in gateway.get_authorizers(ApiId=api)["Items"]]
        return {uri.endswith(":live") for uri in [*integrations, authorizer.removesuffix("/invocations")]}

    assert (versions(), called_by_alias()) == (["$LATEST"], {False})
    used = []
    for release in ("first", "second"):
        deployed.deploy(SnapStart="on", Release=release)
        alias = lambdas.get_alias(FunctionName=name, Name="live")
        assert (versions(), called_by_alias()) == (["$LATEST", alias["FunctionVersion"]], {True})
        version = lambdas.get_function_configuration(FunctionName=name, Qualifier="live")
        assert (version["Description"], version["SnapStart"]["ApplyOn"]) == (release, "PublishedVersions")
        assert client.get("/accounts").status_code == 200
        used.append(alias["FunctionVersion"])
    assert len(set(used)) == 2
    deployed.deploy(SnapStart="off", Release="third")
    assert (versions(), called_by_alias()) == (["$LATEST"], {False})
    assert client.get("/accounts").status_code == 200
