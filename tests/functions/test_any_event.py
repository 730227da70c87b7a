"""Whatever API Gateway passes on, each function answers, and never with a fault of its own."""

import base64
import json
from typing import Any

import pytest
import respx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.lambdas import Context
from tests.conftest import ROUTES, github_user, http_event, load

HANDLERS = {name: load(route.function.handler) for name, route in ROUTES.items()}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.one_of(
    st.none(),
    st.text(max_size=200),
    ANY_JSON.map(json.dumps),
    st.fixed_dictionaries({"token": ANY_JSON}, optional={"proxy": ANY_JSON, "paused": ANY_JSON}).map(json.dumps),
    st.fixed_dictionaries({"paused": ANY_JSON}).map(json.dumps),
)
EVENTS = st.fixed_dictionaries(
    {
        "account_id": st.one_of(st.text(max_size=30), st.integers().map(str)),
        "query": st.dictionaries(st.sampled_from(["limit", "cursor", "x"]), st.text(max_size=30), max_size=3),
        "body": BODIES,
        "base64": st.sampled_from(["no", "yes", "said"]),
        "media_type": st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain", "", "ü"]),
    }
)


def event_of(function: str, parts: dict[str, Any]) -> dict[str, Any]:
    event = http_event(function, {"account_id": parts["account_id"]}, parts["query"], parts["body"])
    event["headers"]["content-type"] = parts["media_type"]
    if parts["base64"] != "no":
        event["isBase64Encoded"] = True
        if parts["base64"] == "yes" and parts["body"] is not None:
            event["body"] = base64.b64encode(event["body"].encode("utf-8", "surrogatepass")).decode()
    return event


@pytest.mark.parametrize("function", sorted(HANDLERS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=EVENTS)
@pytest.mark.usefixtures("tables")
def test_every_event_has_an_answer(github_api: respx.MockRouter, function: str, parts: dict[str, Any]) -> None:
    github_api.route().respond(401)
    answer = HANDLERS[function](event_of(function, parts), Context(function))
    assert answer["statusCode"] in {200, 202, 204, 401, 404, 413, 415, 422, 502, 503}
    if answer["statusCode"] == 503:  # no queue is configured here
        assert (function, json.loads(answer["body"])["code"]) == ("fetch_all_metrics", "queue_unavailable")
    if answer["statusCode"] >= 400:
        assert answer["headers"]["content-type"] == "application/problem+json"
        assert set(json.loads(answer["body"])) >= {"detail", "code"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.dictionaries(st.text(max_size=10), ANY_JSON, max_size=4))
@pytest.mark.usefixtures("tables")
def test_every_object_that_github_sends_comes_back_equal(github_api: respx.MockRouter, payload: Any) -> None:
    text = json.dumps(payload).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
    github_api.get("/user").respond(json=github_user())
    github_api.get("/copilot_internal/user").respond(text=text)

    def call(function: str, parameters: dict[str, str], body: Any = None) -> Any:
        answer = HANDLERS[function](http_event(function, parameters, {}, body), Context(function))
        assert answer["statusCode"] == 200, answer
        return json.loads(answer["body"])

    account_id = str(call("import_account", {}, {"token": "gho_canary"})["account_id"])
    call("fetch_metrics", {"account_id": account_id})
    assert call("get_latest_metrics", {"account_id": account_id})["payload"] == json.loads(text)
