"""What template.yaml becomes in AWS."""

import json
import tomllib
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from copilot_metrics.tables.accounts import ACCOUNT_FIELDS
from infra.stack import ROOT, TEMPLATE, Stack

ACCOUNTS = "AccountsTable"
INDEX = "AccountsTable/index/accounts_without_token"
SCHEDULE_INDEX = "AccountsTable/index/accounts_by_schedule"
KEYS = "ApiKeysTable"
METRICS = "MetricsTable"
QUEUE = "FetchQueue"
SECRET = "ssm:TokenSecretParameter"

SECRET_KEY = "kms:TokenSecretKeyArn"
READ_SECRET = {("ssm:GetParameter", SECRET), ("kms:Decrypt", SECRET_KEY)}
FETCH = {
    ("dynamodb:GetItem", ACCOUNTS),
    ("dynamodb:UpdateItem", ACCOUNTS),
    ("dynamodb:ConditionCheckItem", ACCOUNTS),
    ("dynamodb:PutItem", METRICS),
    ("dynamodb:UpdateItem", METRICS),
    *READ_SECRET,
}
DISPATCH = {
    ("dynamodb:Query", SCHEDULE_INDEX),
    ("dynamodb:UpdateItem", ACCOUNTS),
    ("sqs:SendMessage", QUEUE),
    ("lambda:InvokeFunction", "DispatchFetches"),
}
ALLOWED = {
    "AuthorizeRequest": {("dynamodb:GetItem", KEYS), ("dynamodb:UpdateItem", KEYS)},
    "ImportAccount": {("dynamodb:GetItem", ACCOUNTS), ("dynamodb:UpdateItem", ACCOUNTS), *READ_SECRET},
    "ListAccounts": {("dynamodb:Query", INDEX)},
    "GetAccount": {("dynamodb:GetItem", ACCOUNTS)},
    "UpdateAccount": {("dynamodb:GetItem", ACCOUNTS), ("dynamodb:UpdateItem", ACCOUNTS)},
    "DeleteAccount": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:PutItem", ACCOUNTS),
        ("dynamodb:DeleteItem", ACCOUNTS),
        ("dynamodb:Query", METRICS),
        ("dynamodb:BatchWriteItem", METRICS),
    },
    "FetchMetrics": FETCH,
    "GetLatestMetrics": {("dynamodb:Query", METRICS), ("dynamodb:GetItem", ACCOUNTS)},
    "ListLatestMetrics": {("dynamodb:Query", INDEX), ("dynamodb:BatchGetItem", METRICS)},
    "FetchAllMetrics": DISPATCH,
    "DispatchFetches": DISPATCH,
    "ProcessFetches": {
        *FETCH,
        ("sqs:ReceiveMessage", QUEUE),
        ("sqs:DeleteMessage", QUEUE),
        ("sqs:GetQueueAttributes", QUEUE),
        ("sqs:ChangeMessageVisibility", QUEUE),
    },
    "CheckHealth": {
        ("dynamodb:GetItem", ACCOUNTS),
        ("dynamodb:GetItem", METRICS),
        ("dynamodb:GetItem", KEYS),
        ("ssm:ListTagsForResource", SECRET),
    },
}
MAY_READ_TOKENS = {"FetchMetrics", "ProcessFetches"}
TOKEN_ATTRIBUTES = {"token_ciphertext", "token_nonce", "token_salt", "token_kdf", "token_key_id"}
PUBLISHED = {"AWS::Lambda::Version", "AWS::Lambda::Alias"}
READS = {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan"}


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
        case {"Ref": "TokenSecretKeyArn"}:
            return SECRET_KEY
    return json.dumps(resource)


def statements_of(resources: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The statements of each function's own role, those that parameters switch on included."""
    roles = of_type(resources, "AWS::IAM::Role")
    functions = of_type(resources, "AWS::Lambda::Function")
    assert len(roles) == len(functions)
    found = {}
    for function, properties in functions.items():
        name = properties["Role"]["Fn::GetAtt"][0]
        assert name == f"{function}Role"
        assert set(roles[name]) == {"AssumeRolePolicyDocument", "Policies"}  # nothing that AWS manages
        policies = [*roles[name]["Policies"], *of_role(resources, name)]
        statements = [s for policy in policies for s in policy["PolicyDocument"]["Statement"]]
        found[function] = [s["Fn::If"][1] if "Fn::If" in s else s for s in statements]
    return found


def test_each_function_may_do_what_it_needs_and_no_more(resources: dict[str, Any]) -> None:
    granted = {}
    for function, statements in statements_of(resources).items():
        assert all(statement["Effect"] == "Allow" for statement in statements)
        granted[function] = {
            (action, short(resource))
            for statement in statements
            for action in as_list(statement["Action"])
            for resource in as_list(statement["Resource"])
        }
        own_log = f"{function}Logs"
        assert granted[function] >= {("logs:CreateLogStream", own_log), ("logs:PutLogEvents", own_log)}
        granted[function] -= {("logs:CreateLogStream", own_log), ("logs:PutLogEvents", own_log)}
    assert granted == ALLOWED
    assert "*" not in json.dumps(statements_of(resources))


def test_only_those_who_fetch_can_read_the_tokens_attributes(resources: dict[str, Any]) -> None:
    """Source: Amazon DynamoDB Developer Guide, IAM policy conditions for fine-grained access control."""
    able = set()
    for function, statements in statements_of(resources).items():
        for statement in statements:
            if "AccountsTable" not in json.dumps(statement["Resource"]) or INDEX in map(short, [statement["Resource"]]):
                continue
            conditions = statement.get("Condition", {})
            attributes = conditions.get("ForAllValues:StringEquals", {}).get("dynamodb:Attributes")
            keys_only = short(statement["Resource"]) == SCHEDULE_INDEX
            if READS & set(as_list(statement["Action"])) and not keys_only:
                selected = conditions.get("StringEqualsIfExists", {}).get("dynamodb:Select")
                if attributes is None or TOKEN_ATTRIBUTES & set(attributes) or selected != "SPECIFIC_ATTRIBUTES":
                    able.add(function)
            elif not keys_only and "dynamodb:LeadingKeys" not in json.dumps(conditions):
                # A write must not return what was there.
                returned = as_list(conditions["StringEqualsIfExists"]["dynamodb:ReturnValues"])
                assert set(returned) <= {"NONE", "UPDATED_NEW"}, function
    assert able == MAY_READ_TOKENS


def chosen(value: Any, *, snap_start: bool) -> Any:
    """Return what CloudFormation makes of a value that depends on SnapStart."""
    condition, on, off = value["Fn::If"]
    assert condition == "HasSnapStart"
    return on if snap_start else off


def of_role(resources: dict[str, Any], role: str) -> list[Any]:
    policies = of_type(resources, "AWS::IAM::Policy").values()
    return [policy for policy in policies if {"Ref": role} in policy["Roles"]]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


ENDPOINTS = {
    "POST /accounts/import",
    "GET /accounts",
    "GET /accounts/{account_id}",
    "PATCH /accounts/{account_id}",
    "DELETE /accounts/{account_id}",
    "POST /metrics/fetch",
    "POST /metrics/fetch/{account_id}",
    "GET /metrics/{account_id}",
    "GET /metrics",
}


def test_every_documented_endpoint_has_a_route_and_only_health_is_open(resources: dict[str, Any]) -> None:
    routes = {
        route["RouteKey"].replace("/plugins/copilot_metrics", ""): (
            route["AuthorizationType"],
            route.get("AuthorizerId"),
        )
        for route in of_type(resources, "AWS::ApiGatewayV2::Route").values()
    }
    closed = (
        {"Fn::If": ["HasJwt", "JWT", "CUSTOM"]},
        {"Fn::If": ["HasJwt", {"Ref": "JwtAuthorizer"}, {"Ref": "KeyAuthorizer"}]},
    )
    assert routes == {**dict.fromkeys(ENDPOINTS, closed), "GET /health": ("NONE", None)}


def test_api_gateway_may_call_each_function_for_its_own_route_only(resources: dict[str, Any]) -> None:
    routes = Stack.from_template().routes
    permitted = {
        chosen(permission["FunctionName"], snap_start=False)["Ref"]: (
            permission["SourceArn"]["Fn::Sub"].rpartition("${Api}")[2]
        )
        for permission in of_type(resources, "AWS::Lambda::Permission").values()
        if permission["Principal"] == "apigateway.amazonaws.com"
    }
    authorizer = permitted.pop("AuthorizeRequest")
    assert authorizer == "/authorizers/${KeyAuthorizer}"
    assert permitted == {
        route.function.name: f"/*/{route.method}{route.path.replace('{account_id}', '*')}" for route in routes
    }


def test_without_snap_start_no_version_is_published_and_api_gateway_calls_the_functions(
    resources: dict[str, Any],
) -> None:
    template = yaml_parse(TEMPLATE.read_text())
    assert template["Parameters"]["SnapStart"]["Default"] == "off"
    assert template["Conditions"]["HasSnapStart"] == {"Fn::Equals": [{"Ref": "SnapStart"}, "on"]}
    published = {name for name, resource in resources.items() if resource["Type"] in PUBLISHED}
    assert {name for name in published if resources[name].get("Condition") != "HasSnapStart"} == set()
    no_value = {"Ref": "AWS::NoValue"}
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert chosen(function["SnapStart"], snap_start=False) == no_value
        release = function["Environment"]["Variables"]["COPILOT_METRICS__RELEASE"]
        assert chosen(release, snap_start=False) == no_value
    assert called(resources, snap_start=False) == {
        "AuthorizeRequest": "${AuthorizeRequest.Arn}",
        **{route.function.name: {"Fn::GetAtt": [route.function.name, "Arn"]} for route in Stack.from_template().routes},
    }


def test_with_snap_start_the_functions_of_the_api_are_called_by_aliases_of_versions_made_anew_by_each_release(
    resources: dict[str, Any],
) -> None:
    """Source: AWS Lambda Developer Guide, SnapStart: for published versions and their aliases only."""
    of_the_api = {"AuthorizeRequest", *(route.function.name for route in Stack.from_template().routes)}
    for function in of_the_api:
        properties = resources[function]["Properties"]
        assert chosen(properties["SnapStart"], snap_start=True) == {"ApplyOn": "PublishedVersions"}
        release = properties["Environment"]["Variables"]["COPILOT_METRICS__RELEASE"]
        assert chosen(release, snap_start=True) == {"Ref": "Release"}  # else there is nothing new to publish
    assert of_type(resources, "AWS::Lambda::Version") == {
        f"{function}Version": {"FunctionName": {"Ref": function}, "Description": {"Ref": "Release"}}
        for function in of_the_api
    }
    assert of_type(resources, "AWS::Lambda::Alias") == {
        f"{function}Alias": {
            "Name": "live",
            "FunctionName": {"Ref": function},
            "FunctionVersion": {"Fn::GetAtt": [f"{function}Version", "Version"]},
        }
        for function in of_the_api
    }
    assert called(resources, snap_start=True) == {
        function: "${AuthorizeRequestAlias}" if function == "AuthorizeRequest" else {"Ref": f"{function}Alias"}
        for function in of_the_api
    }
    permitted = {
        name.removesuffix("Permission"): chosen(permission["FunctionName"], snap_start=True)
        for name, permission in of_type(resources, "AWS::Lambda::Permission").items()
        if permission["Principal"] == "apigateway.amazonaws.com"
    }
    assert permitted == {function: {"Ref": f"{function}Alias"} for function in of_the_api}


def called(resources: dict[str, Any], *, snap_start: bool) -> dict[str, Any]:
    """What API Gateway calls for each function of the API."""
    uri = chosen(resources["KeyAuthorizer"]["Properties"]["AuthorizerUri"], snap_start=snap_start)["Fn::Sub"]
    return {
        "AuthorizeRequest": uri.rpartition("/functions/")[2].removesuffix("/invocations"),
        **{
            name.removesuffix("Integration"): chosen(integration["IntegrationUri"], snap_start=snap_start)
            for name, integration in of_type(resources, "AWS::ApiGatewayV2::Integration").items()
        },
    }


def test_the_deployments_settings_bring_a_release_of_each_build() -> None:
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text())
    for environment in ("dev", "prod"):
        assert "file://.aws-sam/release.yaml" in settings[environment]["deploy"]["parameters"]["parameter_overrides"]
    assert ">.aws-sam/release.yaml" in (ROOT / "Makefile").read_text()


def test_a_remembered_decision_is_for_one_key_on_one_route(resources: dict[str, Any]) -> None:
    authorizer = resources["KeyAuthorizer"]["Properties"]
    assert authorizer["IdentitySource"] == ["$request.header.Authorization", "$context.routeKey"]
    assert authorizer["AuthorizerResultTtlInSeconds"] <= 60
    assert (authorizer["EnableSimpleResponses"], authorizer["AuthorizerPayloadFormatVersion"]) == (True, "2.0")
    jwt = resources["JwtAuthorizer"]
    assert (jwt["Condition"], jwt["Properties"]["AuthorizerType"]) == ("HasJwt", "JWT")


def test_the_stage_is_throttled_and_its_log_has_neither_queries_nor_headers(resources: dict[str, Any]) -> None:
    stage = resources["Stage"]["Properties"]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }
    logged = json.loads(stage["AccessLogSettings"]["Format"])
    assert set(logged) >= {"time", "route", "status", "key_id"}
    assert not {"$context.path", "$context.authorizer.claims"} & set(logged.values())
    assert "request.header" not in str(logged)
    assert "querystring" not in str(logged)


def test_tables_are_keyed_and_kept_as_the_data_needs(resources: dict[str, Any]) -> None:
    keys = {
        table["TableName"]: [key["AttributeName"] for key in table["KeySchema"]]
        for table in Stack.from_template().tables
    }
    assert keys == {
        "copilot_github_accounts": ["id"],
        "copilot_metrics": ["account_id", "id"],
        "copilot_metrics_api_keys": ["id"],
    }
    tables = [resource for resource in resources.values() if resource["Type"] == "AWS::DynamoDB::Table"]
    assert len(tables) == 3
    for table in tables:
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        assert table["Properties"]["DeletionProtectionEnabled"] is True
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS"}
    lists, schedule = (
        index["Projection"] for index in resources["AccountsTable"]["Properties"]["GlobalSecondaryIndexes"]
    )
    assert {"id", "kind", *lists["NonKeyAttributes"]} == {*ACCOUNT_FIELDS, "latest_metrics_id"}
    assert not [name for name in lists["NonKeyAttributes"] if name.startswith("token")]
    assert schedule == {"ProjectionType": "KEYS_ONLY"}


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
