"""Which service a command is for: a local run, whether it is running or not, or a stack in AWS."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from copilot_metrics.errors import CopilotMetricsError
from infra.admin.secret_store import SecretStore
from infra.local.data import in_use
from infra.local.database import clear_aws_environment
from infra.local.problem import Problem
from infra.local.services import running_environment, services
from infra.stack import ROOT

OUTPUTS: Final = {
    "AccountsTable": "COPILOT_METRICS__ACCOUNTS_TABLE",
    "MetricsTable": "COPILOT_METRICS__METRICS_TABLE",
    "ApiKeysTable": "COPILOT_METRICS__API_KEYS_TABLE",
    "TokenSecretParameter": "COPILOT_METRICS__TOKEN_SECRET_PARAMETER",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the service."""
    parser.add_argument("--stack", default="", help="a deployed stack's name; else the local run (STACK=...)")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", help="a local run's data folder (DATA_DIR=...)")


def command(program: str, run: Callable[[Console], bool]) -> int:
    """Run a command; return its exit code, 1 where it said no or after a problem was printed."""
    try:
        return 0 if run(Console(highlight=False)) else 1
    except (Problem, CopilotMetricsError) as problem:
        print(f"{program}: {problem}", file=sys.stderr)
    except (BotoCoreError, ClientError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        print(f"{program}: AWS refused ({code})", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
    return 1


@contextmanager
def target(stack: str, data: Path) -> Iterator[SecretStore]:
    """Put the service's tables into this process's environment; yield where its secret is kept. Raises Problem."""
    if stack:
        os.environ.update(_outputs(stack))
        yield SecretStore(os.environ["COPILOT_METRICS__TOKEN_SECRET_PARAMETER"])
        return
    path = data.absolute()
    if not path.exists():
        raise Problem(f"There is no data folder {path}: start the service first with make run, or name a STACK=...")
    if in_use(path):
        clear_aws_environment()
        os.environ.update(running_environment(path))
        yield SecretStore(os.environ.get("COPILOT_METRICS__TOKEN_SECRET_PARAMETER"), path / "token_secret")
        return
    with services(path):
        yield SecretStore(os.environ.get("COPILOT_METRICS__TOKEN_SECRET_PARAMETER"), path / "token_secret")


def _outputs(stack: str) -> dict[str, str]:
    try:
        [described] = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        raise Problem(f"There is no stack {stack} here ({error.response['Error']['Code']}): check AWS_REGION") from None
    except BotoCoreError as error:
        raise Problem(f"AWS can't be asked ({type(error).__name__}): set AWS_PROFILE and AWS_REGION") from None
    found = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
    if not OUTPUTS.keys() <= found.keys():
        raise Problem(f"The stack {stack} isn't one of this service, or an older one: deploy it again")
    return {variable: found[output] for output, variable in OUTPUTS.items()}
