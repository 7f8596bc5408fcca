"""Echo load in plain Python.

    load.py tcp        PORT CONNECTIONS BYTES SECONDS     a message at a time on each connection
    load.py tcp-close  PORT CONNECTIONS BYTES SECONDS     the same, with a new connection for each message
    load.py udp        PORT 1           BYTES SECONDS     64 datagrams, their replies, the next 64
    load.py udp-trains PORT 1           BYTES SECONDS     the same, handed to the kernel as one train (UDP_SEGMENT)

Every byte that returns is compared with what was sent. At the end, one line of JSON tells what was counted. It never
sleeps, so that the server need not wake it; but it is slower than the server all the same.
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
    """How long the operations took, in steps of 1 µs up to 0.1 s."""

    def __init__(self):
        self.counts = [0] * 100_001

    def add(self, ns, times=1):
        self.counts[min(ns // 1000, 100_000)] += times

    def at(self, share):
        """What this share of them did not exceed."""
        left = share * sum(self.counts)
        for us, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return us
        return 0


class Conversation:
    """One message on its way out and back."""

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
        """Sends and receives what it can. Is the message back, whole?"""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass  # also while it is still connecting
        try:
            while self.missing:
                count = self.socket.recv_into(self.missing)
                if count == 0:
                    raise ConnectionError("the server has closed")
                self.missing = self.missing[count:]
        except BlockingIOError:
            return False
        if self.reply != self.message:
            raise ValueError("not what was sent")
        return True


def tcp(port, connections, message, end, latencies, closes):
    poll, conversations, errors = select.epoll(), {}, 0

    def open_another():
        conversation = Conversation(port, message)
        conversations[conversation.socket.fileno()] = conversation
        poll.register(conversation.socket, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def close(descriptor):
        conversations.pop(descriptor).socket.close()

    for _ in range(connections):
        open_another()
    while time.perf_counter_ns() < end:
        done = []
        for descriptor, _ in poll.poll(0):
            try:
                if conversations[descriptor].advance():
                    done.append(descriptor)
            except (OSError, ValueError):
                errors += 1
                close(descriptor)
                open_another()
        # All are answered before any is begun anew: so the server has more of them to find ready together.
        now = time.perf_counter_ns()
        for descriptor in done:
            latencies.add(now - conversations[descriptor].began)
            if closes:
                close(descriptor)
                open_another()
            else:
                conversations[descriptor].begin(message)
                conversations[descriptor].advance()
        if not done:
            os.sched_yield()
    return errors


def udp(port, message, end, latencies, is_train):
    errors = 0
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.setblocking(False)
    peer.connect(("127.0.0.1", port))
    if is_train:
        peer.setsockopt(SOL_UDP, UDP_SEGMENT, len(message))
        peer.setsockopt(SOL_UDP, UDP_GRO, 1)
    # Several bursts in turn, so that a reply that comes too late is not taken for one of the next burst.
    bursts = [[b"%02d%02d" % (burst, number) + message[4:] for number in range(BURST)] for burst in range(16)]
    wholes = [b"".join(burst) for burst in bursts]
    number = 0
    while time.perf_counter_ns() < end:
        number = (number + 1) % len(bursts)
        if is_train:
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
            # Over the loopback interface nothing is overtaken: the next reply belongs to the oldest datagram.
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
    # No byte of a message is where it was in the one before it, should anything slip.
    message = bytes(index % 251 for index in range(size))
    latencies = Latencies()
    began = time.perf_counter_ns()
    end = began + seconds * 1_000_000_000
    if kind.startswith("udp"):
        errors = udp(port, message, end, latencies, is_train=kind == "udp-trains")
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
