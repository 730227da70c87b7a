"""What template.yaml declares, for those who run or check the service without AWS."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "template.yaml"

CREATE_TABLE_PROPERTIES = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")


@dataclass(frozen=True)
class Function:
    """A Lambda function."""

    name: str
    """Its logical id."""
    handler: Path
    """The file that holds ``handler``."""


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API and the function behind it."""

    method: str
    path: str
    """As the template writes it, parameters in braces."""
    function: Function
    authorizer: Function | None = None
    """Who decides whether a request may come in; None for open routes."""

    @property
    def key(self) -> str:
        """The route key in API Gateway's events."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Schedule:
    """A rule that invokes a function at its rate."""

    expression: str
    function: Function


@dataclass(frozen=True)
class Queue:
    """An SQS queue."""

    name: str
    """Its logical id."""
    visibility_timeout: int | None
    """Seconds; None for SQS's default."""
    dead_letter_queue: str | None
    tries: int | None
    """How often a message is received before it goes to the dead-letter queue."""


@dataclass(frozen=True)
class EventSource:
    """A queue whose messages invoke a function."""

    queue: str
    """The queue's logical id."""
    batch_size: int
    function: Function


@dataclass(frozen=True)
class Stack:
    """The parts of the template that a local run needs."""

    routes: tuple[Route, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    event_sources: tuple[EventSource, ...] = ()
    queues: tuple[Queue, ...] = ()
    """A dead-letter queue comes before the queues that use it."""
    tables: tuple[dict[str, Any], ...] = ()
    """Arguments for DynamoDB's CreateTable."""

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions that any of these invokes."""
        triggers: tuple[Route | Schedule | EventSource, ...] = (*self.routes, *self.schedules, *self.event_sources)
        authorizers = [route.authorizer for route in self.routes if route.authorizer is not None]
        return tuple(dict.fromkeys([*(trigger.function for trigger in triggers), *authorizers]))

    @classmethod
    def from_template(cls, path: Path = TEMPLATE) -> "Stack":
        """Read the template; its parameters take their default values, and what only others switch on is left out."""
        template = yaml_parse(path.read_text())
        defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
        resources: dict[str, Any] = {
            name: _resolved(resource, defaults) for name, resource in template["Resources"].items()
        }
        functions = {
            name: Function(name, path.parent / resource["Properties"]["CodeUri"] / "handler.py")
            for name, resource in resources.items()
            if resource["Type"] == "AWS::Serverless::Function"
        }
        events = [
            (function, event["Type"], event["Properties"])
            for name, function in functions.items()
            for event in resources[name]["Properties"].get("Events", {}).values()
        ]
        return cls(
            routes=tuple(
                _route(resource["Properties"], resources, functions)
                for resource in resources.values()
                if resource["Type"] == "AWS::ApiGatewayV2::Route"
            ),
            schedules=tuple(
                Schedule(properties["Schedule"], function)
                for function, kind, properties in events
                if kind == "Schedule"
            ),
            event_sources=tuple(
                EventSource(properties["Queue"], int(properties["BatchSize"]), function)
                for function, kind, properties in events
                if kind == "SQS"
            ),
            queues=_queues(resources),
            tables=tuple(
                {
                    name: resource["Properties"][name]
                    for name in CREATE_TABLE_PROPERTIES
                    if name in resource["Properties"]
                }
                for resource in resources.values()
                if resource["Type"] == "AWS::DynamoDB::Table"
            ),
        )


def _route(route: dict[str, Any], resources: dict[str, Any], functions: dict[str, Function]) -> Route:
    method, _, path = route["RouteKey"].partition(" ")
    integration = resources[_named(route["Target"])]["Properties"]
    authorizer = None
    if route["AuthorizationType"] != "NONE":
        authorizer = functions[_named(resources[route["AuthorizerId"]]["Properties"]["AuthorizerUri"])]
    return Route(method, path, functions[integration["IntegrationUri"]], authorizer)


def _named(text: str) -> str:
    """Return the last resource that a text refers to."""
    names: list[str] = re.findall(r"\$\{(\w+)(?:\.Arn)?\}", text)
    return names[-1]


def _queues(resources: dict[str, Any]) -> tuple[Queue, ...]:
    queues = []
    for name, resource in resources.items():
        if resource["Type"] == "AWS::SQS::Queue":
            properties = resource["Properties"]
            redrive = properties.get("RedrivePolicy", {})
            queues.append(
                Queue(
                    name,
                    properties.get("VisibilityTimeout"),
                    redrive.get("deadLetterTargetArn"),
                    int(redrive["maxReceiveCount"]) if redrive else None,
                )
            )
    return tuple(sorted(queues, key=lambda queue: queue.dead_letter_queue is not None))


def _resolved(value: Any, defaults: dict[str, str]) -> Any:  # noqa: ANN401  # any part of a template
    """Put in parameters; what refers to a resource becomes its logical id."""
    resolved = value
    match value:
        case {"Ref": str(name)}:
            resolved = defaults.get(name, name)
        case {"Fn::GetAtt": [str(name), *_]}:
            resolved = name
        case {"Fn::If": [_, _, otherwise]}:
            resolved = _resolved(otherwise, defaults)
        case {"Fn::Sub": str(text)}:
            resolved = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], match[0]), text)
        case dict():
            resolved = {key: _resolved(item, defaults) for key, item in value.items()}
        case list():
            resolved = [_resolved(item, defaults) for item in value]
    return resolved
