import signal
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.road.browser import open_browser
from tests.road.product import Product


@pytest.fixture(scope="package")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product, started once for all tests of the road, and ended with the last of them: it would work on beside all others."""
    running = Product(tmp_path_factory.mktemp("road") / "data")
    running.start()
    yield running
    running.stop(signal.SIGKILL)  # everything ends with it; how it ends in order is test_start_and_stop's


@pytest.fixture(scope="package")
def demo(product: Product) -> dict[str, Any]:
    return product.demo()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a file: Playwright's loop may not outlive it, as other files have loops of their own."""
    with open_browser() as running:
        yield running


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The file's browser, with the pages of this test only: a page left open goes on drawing and asking."""
    yield chromium
    for context in chromium.contexts:
        context.close()
