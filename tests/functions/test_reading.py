"""The functions that read: GET /accounts, /accounts/{account_id}, /metrics, /metrics/{account_id}."""

import base64
import gzip
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import PAYLOADS, PREFIX, Invoke
from tests.functions.conftest import FetchMetrics, ImportAccount, assert_problem

ACCOUNT_FIELDS = [
    "id",
    "login",
    "github_user_id",
    "node_id",
    "avatar_url",
    "created_at",
    "updated_at",
    "paused",
    "last_fetch",
]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LISTS = ["list_accounts", "list_latest_metrics"]
BY_ID = ["get_account", "get_latest_metrics", "fetch_metrics"]


def one(invoke: Invoke, function: str, account_id: str) -> Any:
    return invoke(function, parameters={"account_id": account_id})


def pages(invoke: Invoke, function: str, query: dict[str, str]) -> list[list[Any]]:
    """Follow a list's links to its end."""
    found = []
    while True:
        answer = invoke(function, query=query)
        assert answer.status == 200, answer.text
        found.append(answer.json)
        if "link" not in answer.headers:
            return found
        match = re.fullmatch('<(.+)>; rel="next"', answer.headers["link"])
        assert match is not None
        url = urlsplit(match[1])
        assert (url.scheme, url.netloc) == ("https", "api.example")
        assert url.path == PREFIX + {"list_accounts": "/accounts", "list_latest_metrics": "/metrics"}[function]
        query = {name: value for name, (value,) in parse_qs(url.query).items()}


def test_an_account_has_the_documented_fields(invoke: Invoke, import_account: ImportAccount) -> None:
    import_account(1001)
    answer = one(invoke, "get_account", "1")
    assert answer.status == 200
    assert list(answer.json) == ACCOUNT_FIELDS
    assert MOMENT.fullmatch(answer.json["created_at"])
    assert {name: answer.json[name] for name in ACCOUNT_FIELDS[:5]} == {
        "id": 1,
        "login": "octo-1001",
        "github_user_id": 1001,
        "node_id": "U_1001",
        "avatar_url": "https://avatars.example/u/1001?v=4",
    }


def test_accounts_are_listed_newest_first(invoke: Invoke, import_account: ImportAccount) -> None:
    for user_id in (30, 10, 20):
        import_account(user_id)
    answer = invoke("list_accounts")
    assert [account["id"] for account in answer.json] == [3, 2, 1]
    assert answer.json[0] == one(invoke, "get_account", "3").json
    assert "link" not in answer.headers


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_metrics_have_the_documented_fields_and_the_payload_decoded_and_equal(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics, payload: str
) -> None:
    import_account()
    fetch_metrics(1, payload)
    answer = one(invoke, "get_latest_metrics", "1")
    assert list(answer.json) == ["id", "account_id", "fetched_at", "payload"]
    assert (answer.json["id"], answer.json["account_id"]) == (1, 1)
    assert MOMENT.fullmatch(answer.json["fetched_at"])
    assert answer.json["payload"] == json.loads(payload)
    assert invoke("list_latest_metrics").json == [answer.json]


@pytest.mark.parametrize(
    "payload",
    [
        '{"f": 93.50, "g": 0.1234567890123456789, "h": 1e400, "i": -0.0, "big": 123456789012345678901234567890}',
        '{"text": "\\u00fc \U0001f600 \\ud83d\\ude00 \\" \\\\ </script>", "none": null, "": {}}',
        ' {"spaced" : [ ] }\n',
        '{"twice": 1, "twice": 2}',
    ],
)
def test_a_payload_arrives_as_github_wrote_it(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics, payload: str
) -> None:
    import_account()
    fetch_metrics(1, payload)
    for answer in (one(invoke, "get_latest_metrics", "1"), invoke("list_latest_metrics")):
        assert f'"payload": {payload}}}' in answer.text
        json.loads(answer.text)


def test_latest_metrics_are_listed_one_per_account_by_account_id(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics
) -> None:
    for user_id in (30, 10, 20):
        import_account(user_id)
    for account_id in (3, 1, 3, 3):
        fetch_metrics(account_id, "{}")
    assert [(item["account_id"], item["id"]) for item in invoke("list_latest_metrics").json] == [(1, 2), (3, 4)]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("function", LISTS)
def test_an_empty_list_is_an_empty_list(invoke: Invoke, function: str) -> None:
    answer = invoke(function)
    assert (answer.status, answer.text) == (200, "[]")


@pytest.mark.parametrize("limit", ["1", "2", "3", "4", "5", "10000"])
@pytest.mark.parametrize("function", LISTS)
def test_links_lead_through_the_whole_list(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics, function: str, limit: str
) -> None:
    for user_id in range(101, 105):
        fetch_metrics(import_account(user_id), "{}")
    found = pages(invoke, function, {"limit": limit})
    assert [len(page) for page in found[:-1]] == [int(limit)] * (len(found) - 1)
    assert 0 < len(found[-1]) <= int(limit)
    assert [item for page in found for item in page] == invoke(function).json


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("limit", ["0", "-1", "abc", "1.5", "1e3", "", " 1", "10001", "1,2", "9" * 30, "\u0661"])
@pytest.mark.parametrize("function", LISTS)
def test_a_limit_that_is_none_is_refused(invoke: Invoke, function: str, limit: str) -> None:
    answer = invoke(function, query={"limit": limit})
    assert_problem(answer, 422, "invalid_input")
    assert answer.json["field"] == "limit"


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "===",
        "ü",
        "\x00",
        "1",
        cursor("1"),
        cursor(":1"),
        cursor("other:1"),
        cursor("accounts:0"),
        cursor("metrics:-1"),
        cursor("accounts:1 "),
        cursor("metrics:1:2"),
        cursor("accounts:99999999999999999999"),
        cursor("metrics:1") + "=",
        "A" * 10_000,
    ],
)
@pytest.mark.parametrize("function", LISTS)
def test_a_forged_cursor_is_refused(invoke: Invoke, function: str, forged: str) -> None:
    answer = invoke(function, query={"cursor": forged})
    assert_problem(answer, 422, "invalid_input")
    assert answer.json["field"] == "cursor"


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(("function", "other"), [("list_accounts", "metrics"), ("list_latest_metrics", "accounts")])
def test_another_lists_cursor_is_refused(invoke: Invoke, function: str, other: str) -> None:
    assert_problem(invoke(function, query={"cursor": cursor(f"{other}:1")}), 422, "invalid_input")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    "account_id",
    ["0", "-1", "01", "+1", "1.0", "1e3", " 1", "1 ", "\u0661", "abc", "null", "", "0x1", "9" * 16, "9" * 5000, "1\n"],
)
@pytest.mark.parametrize("function", BY_ID)
def test_an_id_that_is_none_is_refused(invoke: Invoke, function: str, account_id: str) -> None:
    answer = one(invoke, function, account_id)
    assert_problem(answer, 422, "invalid_input")
    assert answer.json["field"] == "account_id"


@pytest.mark.parametrize("account_id", ["2", str(10**15)])
@pytest.mark.parametrize("function", BY_ID)
def test_an_unknown_account_is_not_found(
    invoke: Invoke, import_account: ImportAccount, function: str, account_id: str
) -> None:
    import_account()
    assert_problem(one(invoke, function, account_id), 404, "account_not_found")


def test_an_account_without_metrics_is_told_what_to_do(invoke: Invoke, import_account: ImportAccount) -> None:
    import_account()
    answer = one(invoke, "get_latest_metrics", "1")
    assert_problem(answer, 404, "metrics_not_found")
    assert "POST /metrics/fetch/1" in answer.json["detail"]


@pytest.mark.parametrize("plugins", ["", "hello,analytics"])
@pytest.mark.parametrize("function", [*LISTS, *BY_ID, "import_account", "check_health"])
def test_a_plugin_that_is_not_enabled_has_no_routes(
    invoke: Invoke, environment: pytest.MonkeyPatch, function: str, plugins: str
) -> None:
    environment.setenv("PLUGINS_ENABLED", plugins)
    answer = invoke(function, parameters={"account_id": "1"}, body={"token": "x"})
    assert_problem(answer, 404, "plugin_disabled")
    assert "PLUGINS_ENABLED" in answer.json["detail"]


@pytest.mark.parametrize("function", [*LISTS, *BY_ID])
def test_a_setting_that_is_wrong_is_named(invoke: Invoke, environment: pytest.MonkeyPatch, function: str) -> None:
    environment.setenv("COPILOT_METRICS__GITHUB_API_URL", "not an address")
    answer = one(invoke, function, "1")
    assert_problem(answer, 503, "setting_invalid")
    assert "COPILOT_METRICS__GITHUB_API_URL" in answer.json["detail"]


@pytest.mark.parametrize("function", [*LISTS, "get_account", "get_latest_metrics"])
def test_reading_needs_no_secret(
    invoke: Invoke,
    import_account: ImportAccount,
    fetch_metrics: FetchMetrics,
    environment: pytest.MonkeyPatch,
    function: str,
) -> None:
    fetch_metrics(import_account(), "{}")
    environment.delenv("COPILOT_METRICS__TOKEN_SECRET")
    assert one(invoke, function, "1").status == 200


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("function", LISTS)
def test_answers_are_not_to_be_stored_on_the_way(invoke: Invoke, function: str) -> None:
    assert invoke(function).headers["cache-control"] == "no-store"


LONG = json.dumps({"filler": "ü" * 3000})


def accepting(header: str) -> dict[str, str]:
    return {"accept-encoding": header}


@pytest.mark.parametrize("header", ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP ;q=0.8, *;q=0.1", "gzip;q=0.01"])
def test_a_long_answer_is_compressed_where_that_is_accepted(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics, header: str
) -> None:
    fetch_metrics(import_account(), LONG)
    plain = invoke("list_latest_metrics")
    answer = invoke("list_latest_metrics", headers=accepting(header))
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert answer.event["isBase64Encoded"] is True
    assert len(answer.text) < len(plain.text) / 10
    assert gzip.decompress(base64.b64decode(answer.text)).decode() == plain.text


@pytest.mark.parametrize("header", ["", "br", "gzip;q=0", "gzip ; q=0.00, br", "x-gzip", "*"])
def test_an_answer_is_not_compressed_where_that_is_not_accepted(
    invoke: Invoke, import_account: ImportAccount, fetch_metrics: FetchMetrics, header: str
) -> None:
    fetch_metrics(import_account(), LONG)
    answer = invoke("list_latest_metrics", headers=accepting(header))
    assert "content-encoding" not in answer.headers
    assert answer.event["isBase64Encoded"] is False
    assert answer.json[0]["payload"] == json.loads(LONG)


def test_a_short_answer_and_an_error_stay_as_they_are(invoke: Invoke, import_account: ImportAccount) -> None:
    import_account()
    for answer in (
        invoke("list_accounts", headers=accepting("gzip")),
        invoke("get_account", parameters={"account_id": "7"}, headers=accepting("gzip")),
    ):
        assert not {"content-encoding", "vary"} & set(answer.headers)
        assert answer.json
