"""The workloads that are measured."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    key: str
    """The name for --only."""
    name: str
    """The name in the tables."""
    protocol: str
    tools: tuple
    """The load generators that can produce it; the first that is installed is used."""
    connections: int
    message: bytes = b""
    """TCP and UDP: the message that is sent and echoed."""
    depth: int = 1
    """How many requests or datagrams are sent together."""
    closes: bool = False
    """Each operation has its own connection."""
    rate: int = 0
    """Requests a second, whatever comes back (an open loop). 0: as many as come back."""


def http_response(length, field=b""):
    """Returns an HTTP response of `length` bytes.

    An echo server sends back what it receives. So wrk can load it: what wrk sends as its request
    returns as the response.
    """
    head = b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: %d\r\n\r\n"
    body = next(n for n in range(length) if len(head % n) + n == length)
    return head % body + b"x" * body


SHORT = http_response(64)
BULK = http_response(64 * 1024)
LAST = http_response(64, b"Connection: close\r\n")

TCP = ("wrk", "python")

WORKLOADS = [
    Workload("http-1", "HTTP keep-alive, 1 connection", "http", ("wrk",), 1),
    Workload("http-64", "HTTP keep-alive, 64 connections", "http", ("wrk",), 64),
    Workload("http-512", "HTTP keep-alive, 512 connections", "http", ("wrk",), 512),
    Workload("http-pipelined", "HTTP pipelined 16, 64 connections", "http", ("wrk",), 64, depth=16),
    Workload("http-close", "HTTP connection per request, 64", "http", ("wrk",), 64, closes=True),
    Workload("http-ab", "ab -k: keep-alive, 64 connections", "http", ("ab",), 64),
    Workload("http-ab-close", "ab: connection per request, 64", "http", ("ab",), 64, closes=True),
    Workload("http-at-2k", "HTTP at 2,000 a second", "http", ("blast",), 64, rate=2_000),
    Workload("http-at-10k", "HTTP at 10,000 a second", "http", ("blast",), 64, rate=10_000),
    Workload("http-at-40k", "HTTP at 40,000 a second", "http", ("blast",), 64, rate=40_000),
    Workload("tcp-1", "TCP 64 bytes, 1 connection", "tcp", TCP, 1, SHORT),
    Workload("tcp-64", "TCP 64 bytes, 64 connections", "tcp", TCP, 64, SHORT),
    Workload("tcp-512", "TCP 64 bytes, 512 connections", "tcp", TCP, 512, SHORT),
    Workload("tcp-bulk", "TCP 64 KiB, 16 connections", "tcp", TCP, 16, BULK),
    Workload("tcp-close", "TCP connection per 64 bytes, 64", "tcp", TCP, 64, LAST, closes=True),
    Workload("udp", "UDP 64 bytes, 64 in flight", "udp", ("python",), 1, SHORT),
    Workload("udp-gso", "UDP 64 bytes, GSO batches of 64", "udp", ("python",), 1, SHORT, depth=64),
]
KEYS = [workload.key for workload in WORKLOADS]

# The request without the empty line at its end, and the body of the response.
GET = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b"Hello, World!"
