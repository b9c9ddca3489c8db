import signal
from collections.abc import Iterator
from typing import Any

import pytest

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
