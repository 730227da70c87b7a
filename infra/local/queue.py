"""Starting and stopping the local queue: moto's SQS, for this run only."""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from infra.stack import Queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextmanager
def queues(declared: Iterable[Queue], access_key_id: str, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Serve queues on loopback until the block ends; yield what a process needs in its environment to use them.

    Beside boto3's own variable there is each queue's address, under the queue's logical id. Messages are kept in
    memory: what is lost with them is due again when the schedule comes round.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = _for_those_who_know(access_key_id, DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="queue", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=access_key_id,
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    urls = create(client, declared)
    try:
        yield {"AWS_ENDPOINT_URL_SQS": url, **urls}
    finally:
        for queue_url in urls.values():  # moto's memory is this process's
            client.delete_queue(QueueUrl=queue_url)
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


def create(client: "SQSClient", declared: Iterable[Queue]) -> dict[str, str]:
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


def _for_those_who_know(access_key_id: str, application: Application) -> Application:
    """Let only requests pass that are signed under the key: no web page, and nobody else on this machine."""

    def guarded(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if f"Credential={access_key_id}/" not in environment.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", [("content-type", "text/plain")])
            return [b"Forbidden"]
        return application(environment, start_response)

    return guarded
