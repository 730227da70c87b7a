"""What else of AWS a local run needs: a queue and a parameter, served by moto for this run only."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import moto.sqs.models
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import make_server

from infra.stack import Queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Aws:
    """SQS and SSM on this machine.

    What they hold is in memory, and gone with this run: messages are due again when the schedule comes round.
    """

    environment: Mapping[str, str]
    """What a process needs in its environment, beside the database's, for boto3 to use them."""
    sqs: "SQSClient"
    ssm: "SSMClient"

    def keep_secret(self, name: str, value: str) -> None:
        """Keep a value as a SecureString."""
        self.ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)

    def forget(self) -> None:
        """Remove everything: moto's memory is this process's."""
        for url in self.sqs.list_queues().get("QueueUrls", []):
            self.sqs.delete_queue(QueueUrl=url)
        for parameter in self.ssm.describe_parameters()["Parameters"]:
            self.ssm.delete_parameter(Name=parameter["Name"])
        self.sqs.close()
        self.ssm.close()


def create_queues(client: "SQSClient", declared: Iterable[Queue]) -> dict[str, str]:
    """Make the queues; return their addresses by logical id."""
    urls: dict[str, str] = {}
    for queue in declared:
        attributes: dict[Any, str] = {}
        if queue.visibility_timeout is not None:
            attributes["VisibilityTimeout"] = str(queue.visibility_timeout)
        if queue.dead_letter_queue is not None:
            target = client.get_queue_attributes(QueueUrl=urls[queue.dead_letter_queue], AttributeNames=["QueueArn"])
            attributes["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": target["Attributes"]["QueueArn"], "maxReceiveCount": queue.tries}
            )
        urls[queue.name] = client.create_queue(QueueName=queue.name, Attributes=attributes)["QueueUrl"]
    return urls


@contextmanager
def aws(access_key_id: str, environment: Mapping[str, str], host: str = "127.0.0.1") -> Iterator[Aws]:
    """Serve SQS and SSM until the block ends, on loopback by default, to those who know the access key id."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # For each message that it keeps and each that it takes, moto works out the time by a calendar.
    moto.sqs.models.unix_time_millis = _milliseconds  # type: ignore[attr-defined,assignment]  # its seam, for want of one
    application = _for_those_who_know(access_key_id, _by_service())
    server = make_server(host, 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="aws", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    session = boto3.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    served = Aws(
        environment={"AWS_ENDPOINT_URL_SQS": url, "AWS_ENDPOINT_URL_SSM": url},
        sqs=session.client("sqs", endpoint_url=url),
        ssm=session.client("ssm", endpoint_url=url),
    )
    try:
        yield served
    finally:
        served.forget()
        server.shutdown()
        server.server_close()
        thread.join()


def _milliseconds(*_moment: object) -> float:
    return time.time() * 1000


def _by_service() -> Application:
    """Serve each service's requests by its own application; moto's own way to choose takes longer than most answers."""
    services = {"AmazonSQS": create_backend_app("sqs"), "AmazonSSM": create_backend_app("ssm")}

    def application(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        service = services.get(environment.get("HTTP_X_AMZ_TARGET", "").partition(".")[0])
        if service is None:
            start_response("400 Bad Request", [("content-type", "text/plain")])
            return [b"Neither SQS nor SSM"]
        return service(environment, start_response)

    return application


def _for_those_who_know(access_key_id: str, application: Application) -> Application:
    """Let only requests pass that are signed under the key: no web page, and nobody else on this machine."""

    def guarded(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if f"Credential={access_key_id}/" not in environment.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", [("content-type", "text/plain")])
            return [b"Forbidden"]
        return application(environment, start_response)

    return guarded
