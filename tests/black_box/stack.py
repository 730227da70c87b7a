"""The template, deployed to ministack: API Gateway, Lambda, DynamoDB, SQS, EventBridge and IAM in one process.

IAM is enforced. Where ministack differs from AWS, ``DIFFERENCES`` and ``_make_numbers`` say how, and make up for it.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import httpx

from infra.stack import ROOT
from tests.black_box.targets import Target, made_key
from tests.end_to_end.running import free_port, user_environment
from tests.stand_ins.github import GitHubStandIn

if TYPE_CHECKING:
    from botocore.client import BaseClient

STACK: Final = "copilot-metrics"
PARAMETER: Final = "/copilot-metrics/token-secret"
START_SECONDS: Final = 60
TOOLS: Final = ROOT / ".tools"
BUILT: Final = ROOT / ".aws-sam" / "stack" / "template.yaml"

TRIES: Final = 2

DIFFERENCES: Final = {
    # ministack has an action sqs:SendMessageBatch. AWS: Amazon SQS API Reference, SendMessageBatch needs SendMessage.
    "FetchAllMetricsRole": ("sqs:SendMessageBatch", "FetchQueue"),
    "DispatchFetchesRole": ("sqs:SendMessageBatch", "FetchQueue"),
}


@dataclass(frozen=True)
class Stack:
    """The deployed stack."""

    target: Target
    environment: dict[str, str]
    resources: dict[str, str]
    """Physical by logical ids."""

    def client(self, service: str) -> "Any":
        """Return a client of boto3's for an administrator."""
        return _client(self.environment, service)

    def deploy(self, **parameters: str) -> None:
        """Deploy again; parameters that aren't given stay as they are."""
        _sam_deploy(self.environment, parameters)


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Deploy what ``make test-stack`` has built."""
    port, log = free_port(), folder / "ministack.log"
    environment = {
        **user_environment(),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "AUTH": "true",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    with GitHubStandIn() as github, log.open("wb") as output:
        process = subprocess.Popen(
            [TOOLS / "ministack" / "bin" / "ministack"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait(environment["AWS_ENDPOINT_URL"], process, log)
            resources = _deploy(environment, github)
            host = f"{resources['Api']}.execute-api.localhost:{port}"
            keys = [made_key(scope, "--stack", STACK, **environment) for scope in ("write", "read")]
            target = Target(
                "stack", environment["AWS_ENDPOINT_URL"], keys[0], keys[1], github, host=host, log=log.read_text
            )
            yield Stack(target, environment, resources)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _deploy(environment: dict[str, str], github: GitHubStandIn) -> dict[str, str]:
    ssm = _client(environment, "ssm")
    ssm.put_parameter(Name=PARAMETER, Type="SecureString", Value=secrets.token_hex(32))
    parameters = {
        "AwsEndpointUrl": environment["AWS_ENDPOINT_URL"],
        "GitHubApiUrl": github.url,
        "FetchTries": str(TRIES),
        "FetchSchedule": "rate(1 minute)",
    }
    _sam_deploy(environment, parameters)
    listed = _client(environment, "cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    resources = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in listed}
    arns = {
        "AccountsTable": f"arn:aws:dynamodb:us-east-1:000000000000:table/{resources['AccountsTable']}",
        "FetchQueue": f"arn:aws:sqs:us-east-1:000000000000:{resources['FetchQueue'].rpartition('/')[2]}",
    }
    iam = _client(environment, "iam")
    for role, (action, resource) in DIFFERENCES.items():
        statement = {"Effect": "Allow", "Action": action, "Resource": arns[resource]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=resources[role], PolicyName="Difference", PolicyDocument=policy)
    _make_numbers(environment, resources["FetchQueue"])
    return resources


def _sam_deploy(environment: dict[str, str], parameters: dict[str, str]) -> None:
    deployed = subprocess.run(
        [
            *(TOOLS / "sam" / "bin" / "sam", "deploy", "--template", BUILT, "--stack-name", STACK),
            *("--capabilities", "CAPABILITY_IAM", "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
            *("--parameter-overrides", " ".join(f"{name}='{value}'" for name, value in parameters.items())),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr


def _make_numbers(environment: dict[str, str], queue: str) -> None:
    """Set anew what the template takes from parameters: CloudFormation makes them numbers, ministack leaves text."""
    lambdas, sqs = _client(environment, "lambda"), _client(environment, "sqs")
    [source] = lambdas.list_event_source_mappings()["EventSourceMappings"]
    lambdas.update_event_source_mapping(
        UUID=source["UUID"],
        BatchSize=int(source["BatchSize"]),
        ScalingConfig={"MaximumConcurrency": int(source["ScalingConfig"]["MaximumConcurrency"])},
    )
    redrive = json.loads(
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
    )
    redrive["maxReceiveCount"] = int(redrive["maxReceiveCount"])
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(redrive)})


def _client(environment: dict[str, str], service: str) -> "Any":
    client: BaseClient = boto3.client(
        service,  # type: ignore[call-overload]  # any of boto3's
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    return client


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{url}/_ministack/health", timeout=5, trust_env=False)
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        else:
            return
