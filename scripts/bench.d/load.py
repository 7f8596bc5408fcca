"""Echo load in plain Python.

    load.py tcp       PORT CONNECTIONS BYTES SECONDS  one message at a time on each connection
    load.py tcp-close PORT CONNECTIONS BYTES SECONDS  the same, with a new connection per message
    load.py udp       PORT 1           BYTES SECONDS  64 datagrams, their replies, the next 64
    load.py udp-gso   PORT 1           BYTES SECONDS  the same, sent as one GSO batch (UDP_SEGMENT)

Every byte that returns is compared with what was sent. At the end, the counts are printed as one
line of JSON. The generator never sleeps, so that the server does not have to wake it. It is slower
than the server all the same.
"""
import gc
import json
import os
import select
import socket
import sys
import time

BURST = 64
# From <linux/udp.h>; the socket module does not have them.
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104


class Latencies:
    """A histogram of the latencies of operations, in steps of 1 µs up to 0.1 s."""

    def __init__(self):
        self.counts = [0] * 100_001

    def add(self, ns, times=1):
        self.counts[min(ns // 1000, 100_000)] += times

    def at(self, share):
        """Returns the latency in µs that this share of the operations did not exceed."""
        left = share * sum(self.counts)
        for us, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return us
        return 0


class Connection:
    """One connection, with one message on its way to the server and back."""

    def __init__(self, port, message):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.reply = bytearray(len(message))
        self.begin(message)

    def begin(self, message):
        self.message = message
        self.unsent = memoryview(message)
        self.missing = memoryview(self.reply)
        self.began = time.perf_counter_ns()

    def advance(self):
        """Sends and receives what it can. Returns whether the whole message has come back."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass  # also while the connection is still being made
        try:
            while self.missing:
                count = self.socket.recv_into(self.missing)
                if count == 0:
                    raise ConnectionError("the server has closed the connection")
                self.missing = self.missing[count:]
        except BlockingIOError:
            return False
        if self.reply != self.message:
            raise ValueError("the reply differs from the message")
        return True


def tcp(port, connections, message, end, latencies, closes):
    poll, connections_by_fd, errors = select.epoll(), {}, 0

    def open_another():
        connection = Connection(port, message)
        connections_by_fd[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def close(descriptor):
        connections_by_fd.pop(descriptor).socket.close()

    for _ in range(connections):
        open_another()
    while time.perf_counter_ns() < end:
        done = []
        for descriptor, _ in poll.poll(0):
            try:
                if connections_by_fd[descriptor].advance():
                    done.append(descriptor)
            except (OSError, ValueError):
                errors += 1
                close(descriptor)
                open_another()
        # All replies are read before any new message is sent, so that the server finds more
        # connections ready together.
        now = time.perf_counter_ns()
        for descriptor in done:
            latencies.add(now - connections_by_fd[descriptor].began)
            if closes:
                close(descriptor)
                open_another()
            else:
                connections_by_fd[descriptor].begin(message)
                connections_by_fd[descriptor].advance()
        if not done:
            os.sched_yield()
    return errors


def udp(port, message, end, latencies, is_gso):
    errors = 0
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.setblocking(False)
    peer.connect(("127.0.0.1", port))
    if is_gso:
        peer.setsockopt(SOL_UDP, UDP_SEGMENT, len(message))
        peer.setsockopt(SOL_UDP, UDP_GRO, 1)
    # Several bursts in turn, so that a late reply is not taken for one of the next burst.
    bursts = [
        [b"%02d%02d" % (burst, number) + message[4:] for number in range(BURST)]
        for burst in range(16)
    ]
    wholes = [b"".join(burst) for burst in bursts]
    number = 0
    while time.perf_counter_ns() < end:
        number = (number + 1) % len(bursts)
        if is_gso:
            began = [time.perf_counter_ns()] * BURST
            peer.send(wholes[number])
        else:
            began = []
            for datagram in bursts[number]:
                began.append(time.perf_counter_ns())
                peer.send(datagram)
        replies, missing = [], BURST
        give_up = began[0] + 200_000_000
        while missing:
            try:
                reply = peer.recv(65536)
            except BlockingIOError:
                if time.perf_counter_ns() > give_up:
                    break
                os.sched_yield()
                continue
            except ConnectionRefusedError:
                return errors + missing
            count = len(reply) // len(message)
            # Loopback does not reorder: the next reply belongs to the oldest datagram.
            latencies.add(time.perf_counter_ns() - began[BURST - missing], count)
            missing -= count
            replies.append(reply)
        if b"".join(replies) != wholes[number]:
            errors += max(missing, 1)
            time.sleep(0.05)
            while select.select([peer], [], [], 0)[0]:
                peer.recv(65536)
    return errors


def main():
    kind, (port, connections, size, seconds) = sys.argv[1], map(int, sys.argv[2:])
    gc.disable()
    # A message in which a piece that is lost or moved shows.
    message = bytes(index % 251 for index in range(size))
    latencies = Latencies()
    began = time.perf_counter_ns()
    end = began + seconds * 1_000_000_000
    if kind.startswith("udp"):
        errors = udp(port, message, end, latencies, is_gso=kind == "udp-gso")
    else:
        errors = tcp(port, connections, message, end, latencies, closes=kind == "tcp-close")
    print(json.dumps({
        "operations": sum(latencies.counts),
        "seconds": (time.perf_counter_ns() - began) / 1e9,
        "errors": errors,
        "p50_us": latencies.at(0.50),
        "p99_us": latencies.at(0.99),
    }))


main()
