"""Asks a last-mile server a few times on one connection and prints its last answer.

python -m tests.support.last_mile_client HOST PORT
"""

from __future__ import annotations

import http.client
import sys

QUESTIONS = 5


def main() -> None:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=30)
    answer = b""
    for _ in range(QUESTIONS):
        connection.request("GET", "/")
        answer = connection.getresponse().read()
    connection.close()
    print(answer.decode())


if __name__ == "__main__":
    main()
