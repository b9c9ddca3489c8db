"""`python -m benchmarks._gateway.ping URL SECONDS [AUTHORIZATION]` prints the milliseconds of the slowest of a row of requests: of small calls to a model, if
it may make some. A process of its own, so that nothing of the bench is in what it measures."""

from __future__ import annotations

import http.client
import sys
import time
from urllib.parse import urlsplit

from benchmarks._gateway.load import BODY


def main() -> None:
    address, seconds = urlsplit(sys.argv[1]), float(sys.argv[2])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    end, slowest = time.perf_counter() + seconds, 0.0
    body = BODY if len(sys.argv) > 3 else None
    headers = {"content-type": "application/json", "authorization": sys.argv[3]} if body else {}
    while (began := time.perf_counter()) < end:
        connection.request("POST" if body else "GET", address.path, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{address.path} answered {answer.status}")
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.001)
    print(slowest * 1000)


if __name__ == "__main__":
    main()
