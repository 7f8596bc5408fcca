"""What is measured."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    key: str
    """What --only calls it."""
    name: str
    """What the tables call it."""
    protocol: str
    tools: tuple
    """What can drive it: the first that is installed does."""
    connections: int
    message: bytes = b""
    """TCP and UDP: what is sent and comes back."""
    depth: int = 1
    """How many requests or datagrams are handed over together."""
    closes: bool = False
    """Each operation has a connection of its own."""


def as_an_answer(length, field=b""):
    """`length` bytes that read as the answer to an HTTP request.

    An echo sends back what it was sent. So wrk can drive it: what wrk sends as its request returns as the answer.
    """
    head = b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: %d\r\n\r\n"
    body = next(n for n in range(length) if len(head % n) + n == length)
    return head % body + b"x" * body


SHORT = as_an_answer(64)
BULK = as_an_answer(64 * 1024)
LAST = as_an_answer(64, b"Connection: close\r\n")

WORKLOADS = [
    Workload("http-1", "HTTP keep-alive, 1 connection", "http", ("wrk",), 1),
    Workload("http-64", "HTTP keep-alive, 64 connections", "http", ("wrk",), 64),
    Workload("http-512", "HTTP keep-alive, 512 connections", "http", ("wrk",), 512),
    Workload("http-pipelined", "HTTP pipelined 16, 64 connections", "http", ("wrk",), 64, depth=16),
    Workload("http-close", "HTTP connection per request, 64", "http", ("wrk",), 64, closes=True),
    Workload("http-ab", "ab -k: keep-alive, 64 connections", "http", ("ab",), 64),
    Workload("http-ab-close", "ab: connection per request, 64", "http", ("ab",), 64, closes=True),
    Workload("tcp-1", "TCP 64 bytes, 1 connection", "tcp", ("wrk", "python"), 1, SHORT),
    Workload("tcp-64", "TCP 64 bytes, 64 connections", "tcp", ("wrk", "python"), 64, SHORT),
    Workload("tcp-512", "TCP 64 bytes, 512 connections", "tcp", ("wrk", "python"), 512, SHORT),
    Workload("tcp-bulk", "TCP 64 KiB, 16 connections", "tcp", ("wrk", "python"), 16, BULK),
    Workload("tcp-close", "TCP connection per 64 bytes, 64", "tcp", ("wrk", "python"), 64, LAST, closes=True),
    Workload("udp", "UDP 64 bytes, 64 in flight", "udp", ("python",), 1, SHORT),
    Workload("udp-trains", "UDP 64 bytes, trains of 64", "udp", ("python",), 1, SHORT, depth=64),
]
KEYS = ", ".join(workload.key for workload in WORKLOADS)

# The request, but for the empty line at its end, and the body of the answer.
GET = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b"Hello, World!"
