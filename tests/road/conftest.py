import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.road.product import Product


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product, started once for all tests of the road."""
    running = Product(tmp_path_factory.mktemp("road") / "data")
    running.start()
    yield running
    running.stop(signal.SIGKILL)  # everything ends with it; how it ends in order is test_start_and_stop's


@pytest.fixture(scope="session")
def demo(product: Product) -> dict[str, Any]:
    return product.demo()
