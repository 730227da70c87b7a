"""What template.yaml becomes in AWS."""

import json
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from infra.stack import TEMPLATE, Stack

ACCOUNTS = "AccountsTable"
INDEX = "AccountsTable/index/accounts_by_id"
SCHEDULE_INDEX = "AccountsTable/index/accounts_by_schedule"
METRICS = "MetricsTable"
QUEUE = "FetchQueue"
SECRET = "ssm:TokenSecretParameter"

ALLOWED = {
    "ImportAccount": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:UpdateItem", ACCOUNTS),
        ("ssm:GetParameter", SECRET),
    },
    "ListAccounts": {("dynamodb:Query", INDEX), ("dynamodb:BatchGetItem", ACCOUNTS)},
    "GetAccount": {("dynamodb:GetItem", ACCOUNTS)},
    "FetchMetrics": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:UpdateItem", ACCOUNTS),
        ("dynamodb:ConditionCheckItem", ACCOUNTS),
        ("dynamodb:PutItem", METRICS),
        ("dynamodb:UpdateItem", METRICS),
        ("ssm:GetParameter", SECRET),
    },
    "GetLatestMetrics": {("dynamodb:Query", METRICS), ("dynamodb:GetItem", ACCOUNTS)},
    "ListLatestMetrics": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", ACCOUNTS),
        ("dynamodb:BatchGetItem", METRICS),
    },
    "FetchAllMetrics": {
        ("dynamodb:Query", SCHEDULE_INDEX),
        ("dynamodb:UpdateItem", ACCOUNTS),
        ("sqs:SendMessage", QUEUE),
        ("lambda:InvokeFunction", "DispatchFetches"),
    },
    "DispatchFetches": {
        ("dynamodb:Query", SCHEDULE_INDEX),
        ("dynamodb:UpdateItem", ACCOUNTS),
        ("sqs:SendMessage", QUEUE),
        ("lambda:InvokeFunction", "DispatchFetches"),
    },
    "ProcessFetches": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:UpdateItem", ACCOUNTS),
        ("dynamodb:ConditionCheckItem", ACCOUNTS),
        ("dynamodb:PutItem", METRICS),
        ("dynamodb:UpdateItem", METRICS),
        ("sqs:ReceiveMessage", QUEUE),
        ("sqs:DeleteMessage", QUEUE),
        ("sqs:GetQueueAttributes", QUEUE),
        ("sqs:ChangeMessageVisibility", QUEUE),
        ("ssm:GetParameter", SECRET),
    },
    "CheckHealth": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:GetItem", METRICS),
        ("ssm:ListTagsForResource", SECRET),
    },
}


@pytest.fixture(scope="module")
def resources(module_monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The resources that CloudFormation is given, after SAM's transform."""
    module_monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    template = yaml_parse(TEMPLATE.read_text())
    for resource in template["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource["Properties"]:  # `sam package` puts these in
                resource["Properties"][name] = "s3://bucket/key"
    transformed: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    found: dict[str, Any] = transformed["Resources"]
    return found


@pytest.fixture(scope="module")
def module_monkeypatch() -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def short(resource: Any) -> str:
    """Name an ARN's target: its intrinsic function has one of these forms."""
    match resource:
        case {"Fn::GetAtt": [str(name), "Arn"]}:
            return name
        case {"Fn::Sub": str(text)} if text.startswith("${AccountsTable.Arn}"):
            return text.replace("${AccountsTable.Arn}", ACCOUNTS)
        case {"Fn::Sub": str(text)} if text.endswith(":parameter${TokenSecretParameter}"):
            return SECRET
    return json.dumps(resource)


def test_each_function_may_do_what_it_needs_and_no_more(resources: dict[str, Any]) -> None:
    roles = of_type(resources, "AWS::IAM::Role")
    granted = {}
    for function, properties in of_type(resources, "AWS::Lambda::Function").items():
        role = roles[properties["Role"]["Fn::GetAtt"][0]]
        policies = [*role["Policies"], *of_role(resources, properties["Role"]["Fn::GetAtt"][0])]
        statements = [s for policy in policies for s in policy["PolicyDocument"]["Statement"]]
        assert all(statement["Effect"] == "Allow" for statement in statements)
        granted[function] = {
            (action, short(resource))
            for statement in statements
            for action in as_list(statement["Action"])
            for resource in as_list(statement["Resource"])
        }
    assert granted == ALLOWED
    assert len(roles) == len(granted)


def of_role(resources: dict[str, Any], role: str) -> list[Any]:
    policies = of_type(resources, "AWS::IAM::Policy").values()
    return [policy for policy in policies if {"Ref": role} in policy["Roles"]]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_every_documented_endpoint_has_a_route_and_only_health_is_open(resources: dict[str, Any]) -> None:
    (api,) = of_type(resources, "AWS::ApiGatewayV2::Api").values()
    routes = {
        f"{method.upper()} {path.removeprefix('/plugins/copilot_metrics')}": operation.get("security")
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    }
    closed: list[dict[str, list[str]]] = [{"AWS_IAM": []}]
    assert routes == {
        "POST /accounts/import": closed,
        "GET /accounts": closed,
        "GET /accounts/{account_id}": closed,
        "POST /metrics/fetch": closed,
        "POST /metrics/fetch/{account_id}": closed,
        "GET /metrics/{account_id}": closed,
        "GET /metrics": closed,
        "GET /health": [{"NONE": []}],
    }


def test_tables_are_keyed_and_kept_as_the_data_needs(resources: dict[str, Any]) -> None:
    keys = {
        table["TableName"]: [key["AttributeName"] for key in table["KeySchema"]]
        for table in Stack.from_template().tables
    }
    assert keys == {"copilot_github_accounts": ["id"], "copilot_metrics": ["account_id", "id"]}
    tables = [resource for resource in resources.values() if resource["Type"] == "AWS::DynamoDB::Table"]
    assert len(tables) == 2
    for table in tables:
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        assert table["Properties"]["DeletionProtectionEnabled"] is True
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    for index in resources["AccountsTable"]["Properties"]["GlobalSecondaryIndexes"]:
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}


def test_functions_stop_before_api_gateway_gives_up_and_log_for_a_limited_time(resources: dict[str, Any]) -> None:
    groups = of_type(resources, "AWS::Logs::LogGroup")
    for function, properties in of_type(resources, "AWS::Lambda::Function").items():
        assert properties["Timeout"] < 30 or function in {"DispatchFetches", "ProcessFetches"}
        assert properties["Runtime"] == "python3.13"
        assert groups[properties["LoggingConfig"]["LogGroup"]["Ref"]]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_the_secret_reaches_only_the_functions_that_use_it(resources: dict[str, Any]) -> None:
    named = {
        function
        for function, properties in of_type(resources, "AWS::Lambda::Function").items()
        if any("SECRET" in variable for variable in properties["Environment"]["Variables"])
    }
    assert named == {"ImportAccount", "FetchMetrics", "ProcessFetches", "CheckHealth"}
    assert yaml_parse(TEMPLATE.read_text())["Parameters"]["TokenSecret"]["NoEcho"] is True


def test_what_fails_comes_back_and_ends_where_an_alarm_rings(resources: dict[str, Any]) -> None:
    queue = resources["FetchQueue"]["Properties"]
    (source,) = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    assert queue["VisibilityTimeout"] >= 6 * resources["ProcessFetches"]["Properties"]["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["FailedFetchQueue", "Arn"]}
    tries = resources["ProcessFetches"]["Properties"]["Environment"]["Variables"]["COPILOT_METRICS__FETCH_TRIES"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == tries
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"]["MaximumConcurrency"] == {"Ref": "FetchFunctions"}
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    watched = {(alarm["MetricName"], json.dumps(alarm["Dimensions"][0]["Value"])) for alarm in alarms.values()}
    assert watched == {
        ("ApproximateNumberOfMessagesVisible", json.dumps({"Fn::GetAtt": ["FailedFetchQueue", "QueueName"]})),
        ("ApproximateAgeOfOldestMessage", json.dumps({"Fn::GetAtt": ["FetchQueue", "QueueName"]})),
        ("Errors", json.dumps({"Ref": "DispatchFetches"})),
        ("Errors", json.dumps({"Ref": "ProcessFetches"})),
    }
    assert all(alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}] for alarm in alarms.values())


def test_the_schedule_is_a_parameter_and_hourly_by_default(resources: dict[str, Any]) -> None:
    (rule,) = of_type(resources, "AWS::Events::Rule").values()
    assert rule["ScheduleExpression"] == {"Ref": "FetchSchedule"}
    assert yaml_parse(TEMPLATE.read_text())["Parameters"]["FetchSchedule"]["Default"] == "rate(1 hour)"
