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
class Route:
    """A route of the HTTP API and the function behind it."""

    method: str
    path: str
    """As the template writes it, parameters in braces."""
    function: str
    """The function's logical id."""
    handler: Path
    """The file that holds ``handler``."""

    @property
    def key(self) -> str:
        """The route key in API Gateway's events."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Stack:
    """The parts of the template that a local run needs."""

    routes: tuple[Route, ...]
    tables: tuple[dict[str, Any], ...]
    """Arguments for DynamoDB's CreateTable."""

    @classmethod
    def from_template(cls, path: Path = TEMPLATE) -> "Stack":
        """Read the template; its parameters take their default values."""
        template = yaml_parse(path.read_text())
        defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
        resources = template["Resources"]
        return cls(
            routes=tuple(
                Route(
                    method=event["Properties"]["Method"],
                    path=event["Properties"]["Path"],
                    function=name,
                    handler=path.parent / resource["Properties"]["CodeUri"] / "handler.py",
                )
                for name, resource in resources.items()
                for event in resource["Properties"].get("Events", {}).values()
                if event["Type"] == "HttpApi"
            ),
            tables=tuple(
                {
                    name: _resolved(resource["Properties"][name], defaults)
                    for name in CREATE_TABLE_PROPERTIES
                    if name in resource["Properties"]
                }
                for resource in resources.values()
                if resource["Type"] == "AWS::DynamoDB::Table"
            ),
        )


def _resolved(value: Any, defaults: dict[str, str]) -> Any:  # noqa: ANN401  # any part of a template
    match value:
        case {"Ref": str(name)}:
            return defaults[name]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], text)
        case dict():
            return {key: _resolved(item, defaults) for key, item in value.items()}
        case list():
            return [_resolved(item, defaults) for item in value]
        case _:
            return value
