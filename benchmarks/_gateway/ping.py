"""`python -m benchmarks._gateway.ping URL SECONDS` prints the milliseconds of the slowest of a row of requests. A process of its own, so that nothing of the
bench is in what it measures."""

from __future__ import annotations

import http.client
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    address, seconds = urlsplit(sys.argv[1]), float(sys.argv[2])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    end, slowest = time.perf_counter() + seconds, 0.0
    while (began := time.perf_counter()) < end:
        connection.request("GET", address.path)
        connection.getresponse().read()
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.001)
    print(slowest * 1000)


if __name__ == "__main__":
    main()
