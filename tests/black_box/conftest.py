"""The service that the black-box tests are for."""

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.black_box import targets
from tests.black_box.stack import Stack, stack
from tests.black_box.targets import Target

NAME = os.environ.get("TARGET", "local")


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if NAME == "stack":
        yield _closed_at_end(request, request.getfixturevalue("deployed").target)
        return
    start = {"local": targets.local, "sam": targets.sam, "deployed": targets.deployed}[NAME]
    with start(tmp_path_factory.mktemp("target")) as running:
        yield _closed_at_end(request, running)


def _closed_at_end(request: pytest.FixtureRequest, target: Target) -> Target:
    def close() -> None:
        for client in target.clients:
            client.close()

    request.addfinalizer(close)
    return target


@pytest.fixture(scope="session")
def client(target: Target) -> httpx.Client:
    """A client that may do everything."""
    return target.client(target.write_key)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what a target can't show, with the reason that the test gives."""
    for item in items:
        for marker in item.iter_markers():
            there = NAME in marker.args
            if (marker.name == "not_on" and there) or (marker.name == "only_on" and not there):
                item.add_marker(pytest.mark.skip(reason=marker.kwargs["reason"]))
        if item.get_closest_marker("invented_github") and NAME == "deployed":
            item.add_marker(pytest.mark.skip(reason="it needs a GitHub that answers as a token says"))
