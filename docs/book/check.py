"""Checks an echo server as its clients would: python3 check.py PROGRAM [ARGUMENT ...]

Each row starts the program, with a free port as its last argument, and plays one or more clients.
With a row about HTTP, a port for HTTP precedes it. The reply to a line is "echo -> " and that line,
and the end of the stream ends the last line. The output is TAP: a line for each row, "ok" or "not
ok". With --exercise N, the rows are the first three and that of the exercise of chapter N. The
programs of the book in Rust are built and run by cargo.
"""

import argparse
import concurrent.futures
import contextlib
import glob
import itertools
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PREFIX = b"echo -> "
PATIENCE = 20  # Seconds until a reply counts as missing, if the program is not asleep.
ASLEEP = 0.3  # Seconds in which no thread of the program has run: it waits for something else.
CROWD = 50  # Clients.
FILL_MAX = 64 << 20  # Bytes. No kernel's buffers hold as much, so the program must have taken them.
LIMIT = 2  # Seconds: the limit of a program whose first argument is 2000, in rows about time.
PYTHON = [sys.executable, "-S"]  # Without `site`, which no program here needs, it starts faster.


class Failure(Exception):
    """What a row has found."""


class EndFailure(Failure):
    """What a row has found that ends the program."""


def hold_port():
    """Returns a socket that is bound to a free port, at which datagrams can be served, too."""
    while True:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            with contextlib.suppress(OSError):
                datagrams.bind(holder.getsockname())
                return holder
        holder.close()


class Server:
    """The program, in a process of its own."""

    def __init__(self, command, serves_http=False):
        # Bound but not listening, these sockets keep the ports free for the program alone.
        self.holders = [hold_port() for _ in range(1 + serves_http)]
        self.port, self.http_port = (self.holders[at].getsockname()[1] for at in (-1, 0))
        ports = [str(holder.getsockname()[1]) for holder in self.holders]
        # What it prints must not come between the rows.
        self.process = subprocess.Popen(
            command + ports, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for holder in self.holders:
            holder.close()

    def connect(self, port=None):
        """Returns a new connection. Until the program listens, it is refused, and tried again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", port or self.port), 0.1)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return client
            except (ConnectionRefusedError, TimeoutError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failure("no connection: the program does not listen") from None
                time.sleep(0.01)

    def run(self, row):
        """Runs a row. If the connection breaks because the program has ended, says so."""
        try:
            row(self)
        except EndFailure:
            raise
        except (Failure, OSError) as failure:
            # A program that is ending has closed its connections already. One that has not ended
            # goes to sleep, or never does.
            deadline = time.monotonic() + PATIENCE / 10
            while self.process.poll() is None:
                if self.is_asleep() or time.monotonic() > deadline:
                    break
            if self.process.poll() is None:
                raise failure from None
            raise Failure("the program has ended") from None

    @contextlib.contextmanager
    def suspended(self):
        """Stops the program as Ctrl-Z does, in its sleep. What happens meanwhile is there then."""
        deadline = time.monotonic() + PATIENCE
        while self.states() != {"S"} and time.monotonic() < deadline:
            time.sleep(0.001)
        self.process.send_signal(signal.SIGSTOP)
        while not self.states() <= {"T"}:
            time.sleep(0.001)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def use_up_descriptors(self):
        """Lets it open no more descriptors than it has now (setrlimit(2), RLIMIT_NOFILE)."""
        pid = self.process.pid
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        lowest_free = next(number for number in itertools.count() if number not in used)
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, hard))

    def threads(self):
        """Returns how many threads it has."""
        return len(self.tasks("stat"))

    def tasks(self, name):
        """Returns the text of /proc/PID/task/*/NAME for each thread that has not ended."""
        texts = []
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/{name}"):
            try:
                with open(path, encoding="utf-8") as file:
                    texts.append(file.read())
            except OSError:
                pass  # It has ended meanwhile.
        return texts

    def sleeps(self):
        """Returns how often its threads have gone to sleep."""
        lines = "".join(self.tasks("status")).splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))

    def cpu(self):
        """Returns the processor time of its threads, in clock ticks (proc(5), stat)."""
        fields = [text.rpartition(")")[2].split() for text in self.tasks("stat")]
        return sum(int(field[11]) + int(field[12]) for field in fields)

    def states(self):
        """Returns the states of its threads (proc(5), stat): S for one that sleeps."""
        return {text.rpartition(")")[2].split()[0] for text in self.tasks("stat")}

    def is_asleep(self, seconds=ASLEEP):
        """Returns whether no thread runs for that time: none has anything to do."""
        before = self.sleeps(), self.cpu()
        for _ in range(10):
            if not self.states() <= set("SZ"):
                return False
            time.sleep(seconds / 10)
        return (self.sleeps(), self.cpu()) == before


def send(client, data):
    """Sends all of `data`, which may take longer than a short recv()."""
    client.settimeout(PATIENCE)
    client.sendall(data)
    client.settimeout(0.1)


def receive(server, client, asleep=ASLEEP):
    """Returns bytes that have arrived, or none at the end of the stream."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return client.recv(1 << 20)
        except TimeoutError:
            is_last_try = server.is_asleep(asleep) or time.monotonic() > deadline
        except ConnectionError:
            raise Failure("the connection is reset") from None
        if is_last_try:
            try:
                return client.recv(1 << 20)
            except TimeoutError:
                raise Failure("no reply comes") from None


def expect(server, client, reply, asleep=ASLEEP):
    """Reads `reply` from the connection, and nothing else."""
    count = 0
    while count < len(reply):
        data = receive(server, client, asleep)
        if not data:
            raise Failure("the connection ends before the reply does")
        if data != reply[count : count + len(data)]:
            raise Failure(f"the reply is {data!r}" if len(reply) < 99 else "the reply is wrong")
        count += len(data)


def expect_end(server, client, asleep=ASLEEP):
    """Reads the end of the stream, and nothing before it."""
    if data := receive(server, client, asleep):
        raise Failure(f"more comes than the reply: {data[:20]!r}")


def echo(server, client, line=b"Hello world"):
    send(client, line + b"\n")
    expect(server, client, PREFIX + line + b"\n")


def fill(server, client, line):
    """Sends copies of `line` until the program takes no more. Returns how many bytes were sent."""
    client.setblocking(False)
    sent, cpu, sleeps = 0, server.cpu(), server.sleeps()
    copies = line * 1000
    while sent < FILL_MAX:
        try:
            sent += client.send(copies[sent % len(line) :])
            cpu, sleeps = server.cpu(), server.sleeps()
        except BlockingIOError:
            # It sleeps; or it has run for a while, or woken up many times, and has taken nothing.
            if server.is_asleep() or server.cpu() > cpu + 20 or server.sleeps() > sleeps + 50:
                break
    client.settimeout(0.1)
    return sent


# ---- the rows


def line(server):
    """A line is answered."""
    echo(server, server.connect())


def last_line(server):
    """The end of the stream ends the last line, and its reply still arrives."""
    client = server.connect()
    send(client, b"Hello world")
    client.shutdown(socket.SHUT_WR)
    expect(server, client, PREFIX + b"Hello world")
    expect_end(server, client)


def reset(server):
    """A client that resets its connection does not end the server."""
    client = server.connect()
    send(client, b"Hello world\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    echo(server, server.connect())


def joined(server):
    """Two lines in one send get two replies."""
    client = server.connect()
    send(client, b"one\ntwo\n")
    expect(server, client, PREFIX + b"one\n" + PREFIX + b"two\n")


def cut(server):
    """A line that comes in many pieces gets one reply."""
    client = server.connect()
    echo(server, client, b"x" * 3000)
    for byte in b"Hello world\n":
        send(client, bytes([byte]))
    expect(server, client, PREFIX + b"Hello world\n")


def silent(server):
    """A silent client does not keep others waiting."""
    first = server.connect()
    echo(server, server.connect())
    echo(server, first)


def crowd(server):
    """Fifty clients are connected at a time, and each of them is answered."""
    clients = [server.connect() for _ in range(CROWD)]
    for number, client in enumerate(clients):
        send(client, b"%d\n" % number)
    for number, client in enumerate(clients):
        expect(server, client, PREFIX + b"%d\n" % number)


def narrow(server):
    """Returns a connection with small buffers, which are soon full."""
    client = socket.socket()
    server.connect().close()  # Now the program listens.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.port))
    return client


def slow_reader(server):
    """A client that does not read its replies does not keep others waiting."""
    first = narrow(server)
    fill(server, first, b"x" * 99 + b"\n")
    echo(server, server.connect())


def late_reader(server):
    """A client that reads late gets every reply, whole."""
    client = narrow(server)
    sent = fill(server, client, b"x" * 99 + b"\n")
    expect(server, client, (PREFIX + b"x" * 99 + b"\n") * (sent // 100))


# ---- the rows of the exercises


def gives_up(server):
    """A client that is silent for half a second is closed, and others are served then."""
    silent = server.connect()
    client = server.connect()
    send(client, b"Hello world\n")
    expect(server, client, PREFIX + b"Hello world\n", asleep=1.5)
    expect_end(server, silent, asleep=1.5)


def line_bound(server):
    """A line may have 65,536 bytes. One that is longer ends the connection."""
    client = server.connect()
    echo(server, client, b"x" * 65_536)
    echo(server, client, b"x" * 65_536)
    try:
        send(client, b"x" * 65_537)
        expect_end(server, client)
    except ConnectionError:
        pass
    except Failure as failure:
        if "reset" not in str(failure):
            raise
    echo(server, server.connect())


def thread_bound(server):
    """Twenty clients are served at a time. More wait in the backlog, and their turn comes."""
    first = [server.connect() for _ in range(20)]
    for client in first:
        echo(server, client)
    others = [server.connect() for _ in range(10)]
    for client in others:
        send(client, b"Hello world\n")
    while not server.is_asleep():
        pass
    if server.threads() > 21:
        raise Failure(f"{server.threads()} threads for {len(first + others)} clients")
    for client in first:
        client.close()
    for client in others:
        expect(server, client, PREFIX + b"Hello world\n")


def rests(server):
    """While no client sends, the program sleeps more often than it runs."""
    client = server.connect()
    echo(server, client)
    cpu, sleeps = server.cpu(), server.sleeps()
    deadline = time.monotonic() + PATIENCE
    while server.sleeps() < sleeps + 20 and not server.is_asleep():
        if server.cpu() >= cpu + 20 or time.monotonic() > deadline:
            raise Failure("it runs all the time, and has nothing to do")
    echo(server, client)


def beyond_1024(server):
    """Descriptors above 1,023 are served like all others."""
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        echo(server, client)


def client_bound(server):
    """Twenty clients are served at a time. Others wait in the backlog, and the program sleeps."""
    first = [server.connect() for _ in range(20)]
    for client in first:
        echo(server, client)
    others = [server.connect() for _ in range(10)]
    for client in others:
        send(client, b"Hello world\n")
    cpu = server.cpu()
    while not server.is_asleep():
        if server.cpu() >= cpu + 20:
            raise Failure("it runs all the time, and has nothing to do")
    for leaving, client in zip(first, others):
        client.setblocking(False)
        try:
            client.recv(1)
            raise Failure("a client more is served")
        except BlockingIOError:
            client.settimeout(0.1)
        leaving.close()
        expect(server, client, PREFIX + b"Hello world\n")


def evicts(server):
    """A twenty-first client is served, and the one that was silent for longest is closed."""
    clients = [server.connect() for _ in range(20)]
    for client in clients + clients[:1]:
        echo(server, client)
    echo(server, server.connect())
    longest_silent = clients.pop(1)
    try:
        expect_end(server, longest_silent)
    except Failure:
        raise Failure("twenty-one clients are connected") from None
    for client in clients:
        echo(server, client)


def burst(server):
    """Many lines that arrive at once are all answered."""
    line = b"x" * 127 + b"\n"
    client = server.connect()
    echo(server, client)
    with server.suspended():
        send(client, line * 250)
    expect(server, client, (PREFIX + line) * 250)


def stops_reading(server):
    """A client that never reads can send only what the kernels' buffers hold, and little more."""
    sent = fill(server, narrow(server), b"x" * 99 + b"\n")
    if sent >= FILL_MAX:
        raise Failure(f"it has taken {sent >> 20} MiB for a client that does not read")


def closes_unread(server):
    """A client that takes no output for half a second is closed, and others are served."""
    client = narrow(server)
    line = b"x" * 99 + b"\n"
    try:
        sent = fill(server, client, line)
        while not server.is_asleep(1.5):
            pass
        expect(server, client, (PREFIX + line) * (sent // 100))
    except ConnectionError:
        pass
    except Failure as failure:
        if "connection" not in str(failure):
            raise
    else:
        raise Failure("it is still served")
    echo(server, server.connect())


def ends_busy(server):
    """A client whose time is over while it sends is closed, and others are served."""
    for _ in range(10):
        client = server.connect()
        echo(server, client)
        with server.suspended():
            client.settimeout(PATIENCE)
            client.sendall(b"x" * 32_000)
            time.sleep(1)  # Now its half second is over.
            client.setblocking(False)
            try:
                client.recv(1)
                continue  # It was over before the program was suspended.
            except BlockingIOError:
                client.settimeout(0.1)
            except ConnectionError:
                continue
        break
    try:
        expect_end(server, client)
    except Failure as failure:
        if "reset" not in str(failure):
            raise
    while not server.is_asleep():
        pass  # A new client would get the slot before the program looks into it.
    echo(server, server.connect())


def send_on(server, client, data):
    """Sends `data`, and a little more when the program has done all that it does then."""
    try:
        send(client, data)
        while not server.is_asleep():
            pass
        send(client, b"x")
    except ConnectionError:
        raise Failure("the connection is reset") from None


def last_words(server):
    """A line that is too long gets a last reply, and then the end of the stream."""
    client = server.connect()
    send_on(server, client, b"x" * 100_000)
    expect(server, client, b"error -> the line is too long\n")
    expect_end(server, client)


def quits(server):
    """The line "quit" is the last one that is answered. Then the stream ends."""
    client = server.connect()
    send_on(server, client, b"one\nquit\n" + b"x" * 50_000)
    expect(server, client, PREFIX + b"one\n" + PREFIX + b"quit\n")
    expect_end(server, client)


def talks(server):
    """A client that sends a line every tenth of a second is served for longer than the limit."""
    client = server.connect()
    end = time.monotonic() + 2 * LIMIT
    try:
        while time.monotonic() < end:
            echo(server, client)
            time.sleep(0.1)
    except (Failure, ConnectionError):
        raise Failure("it is closed between two of its lines") from None


def drips(server):
    """A client that sends a byte every tenth of a second, and no line, is closed at the limit."""
    client = server.connect()
    end = time.monotonic() + 2 * LIMIT
    try:
        # A program that is late is not at its limit yet, and is given more time.
        while time.monotonic() < end or not server.is_asleep():
            client.send(b"x")
            with contextlib.suppress(TimeoutError):
                if not client.recv(1):
                    return
    except ConnectionError:
        return
    raise Failure("it is still served")


def says_why(server):
    """A client whose time is over gets a last line, and then the end of the stream."""
    client = server.connect()
    send(client, b"Hello")
    expect(server, client, b"error -> too slow\n", asleep=LIMIT + 1)
    expect_end(server, client)


# ---- the rows about datagrams


def datagram_client(server, host, port=0):
    """Returns a socket for datagrams at 127.0.0.`host`, where no program is."""
    echo(server, server.connect())  # Now the program has all of its sockets.
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((f"127.0.0.{host}", port))
    client.settimeout(0.1)
    return client


def send_datagram(server, client, data):
    client.sendto(data, ("127.0.0.1", server.port))


def expect_datagram(server, client, data):
    """Waits for the reply to a datagram."""
    reply = receive(server, client)
    if reply != PREFIX + data:
        raise Failure(f"the reply is {reply[:40]!r}")


def received_already(client):
    """Returns the datagrams that have arrived."""
    client.setblocking(False)
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(client.recv(1 << 16))
    client.settimeout(0.1)
    return datagrams


def datagrams(server):
    """A datagram of any size gets one reply, also an empty one, and whatever other clients do."""
    client = datagram_client(server, 2)
    for data in b"Hello world", b"", b"two\nlines", b"x" * 65_499, b"":
        send_datagram(server, client, data)
        expect_datagram(server, client, data)
    for _ in range(20):
        with datagram_client(server, 2) as leaving:
            send_datagram(server, leaving, b"I leave")
    send_datagram(server, client, b"x" * 65_507)  # Its reply would be too long.
    send_datagram(server, client, b"Hello again")
    expect_datagram(server, client, b"Hello again")


def loop(server):
    """A datagram from another echo server, at another address, is not answered."""
    other, client = datagram_client(server, 3, server.port), datagram_client(server, 2)
    send_datagram(server, other, b"Hello world")
    answered = 0
    while answered < 100:
        send_datagram(server, client, b"?")
        expect_datagram(server, client, b"?")  # Now what was sent before it has been handled.
        replies = received_already(other)
        if not replies:
            break
        answered += len(replies)
        for reply in replies:
            send_datagram(server, other, PREFIX + reply)  # It answers, as any echo server does.
    if answered:
        raise Failure(f"it has answered another echo server {answered} times")


def rate_bound(server):
    """An address gets ten replies a second, and others are not concerned."""
    flooding, client = datagram_client(server, 2), datagram_client(server, 4)
    with server.suspended():
        for _ in range(100):
            send_datagram(server, flooding, b"flood")
        send_datagram(server, client, b"Hello world")
        started = time.monotonic()
    expect_datagram(server, client, b"Hello world")
    replies = len(received_already(flooding))
    # A slow program may take seconds, and each of them begins with ten more.
    if replies > 10 * (2 + int(time.monotonic() - started)):
        raise Failure(f"{replies} of 100 datagrams are answered")
    deadline = time.monotonic() + PATIENCE
    while not received_already(flooding):
        if time.monotonic() > deadline:
            raise Failure("the address is never answered again")
        send_datagram(server, flooding, b"again")
        time.sleep(0.2)


# ---- the rows about HTTP, with which the program gets a second port


def http_client(server, request):
    client = server.connect(server.http_port)
    send(client, request)
    return client


def response(server, client, received=b""):
    """Reads one response. Returns its status line, and what follows behind the body."""

    def more(part):
        data = receive(server, client)
        if not data:
            raise Failure(f"the connection ends before the {part} does")
        return data

    while b"\r\n\r\n" not in received:
        received += more("head of a response")
    head, _, rest = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: *(\d+) *(\r|$)", head, re.IGNORECASE)
    if not length:
        raise Failure("a response says no Content-Length")
    while len(rest) < int(length[1]):
        rest += more("body of a response")
    return head.partition(b"\r\n")[0].decode(), rest[int(length[1]) :]


def expect_response(server, client, status, received=b""):
    """Reads one response with this status. Returns what follows."""
    line, rest = response(server, client, received)
    if line.split()[1:2] != [status]:
        raise Failure(f"the response is {line}")
    return rest


def expect_last_response(server, client, status):
    """Reads one response with this status, and the end of the stream."""
    if rest := expect_response(server, client, status):
        raise Failure(f"the body has more bytes than its Content-Length: {rest[:20]!r}")
    expect_end(server, client)


def http(server):
    """A request gets one response, which ends where it says, whatever else the client sends."""
    expect_last_response(server, http_client(server, b"GET / HTTP/1.0\r\n\r\n"), "200")
    client = http_client(server, b"")
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n":
        send(client, bytes([byte]))
    expect_last_response(server, client, "200")
    expect_last_response(server, http_client(server, b"nonsense\r\n\r\n"), "400")
    client = http_client(server, b"POST / HTTP/1.0\r\nContent-Length: 100000\r\n\r\n")
    send_on(server, client, b"x" * 99_999)
    expect_last_response(server, client, "501")


def two_lengths(server):
    """A head that does not say clearly how long the body is gets the status 400."""
    for fields in (
        b"Content-Length: 0\r\nContent-Length: 24",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: +5",
        b"Content-Length:",
    ):
        client = http_client(server, b"GET / HTTP/1.0\r\n" + fields + b"\r\n\r\n")
        line, _ = response(server, client)
        if line.split()[1:2] != ["400"]:
            raise Failure(f"{' and '.join(fields.decode().splitlines())}: {line}")


def slow_head(server):
    """A client that sends its head a byte at a time is closed, although it is never silent."""
    client = http_client(server, b"GET / HTTP/1.0\r\n")
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            client.send(b"x")
            with contextlib.suppress(TimeoutError):
                if not client.recv(1):
                    return
    except ConnectionError:
        return
    raise Failure("it is still served")


def keeps_alive(server):
    """A client may keep its connection for further requests, and their bodies are no requests."""
    kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n"
    hidden = b"GET /hidden HTTP/1.0\r\n\r\n"
    with_body = kept + b"Content-Length: %d\r\n\r\n" % len(hidden)
    client = http_client(server, kept + b"\r\n")
    expect_response(server, client, "200")
    send(client, with_body + hidden + kept + b"\r\n")
    rest = expect_response(server, client, "200")
    rest = expect_response(server, client, "200", rest)
    for piece in with_body, hidden[:9]:
        send(client, piece)
        while not server.is_asleep():
            pass
    send(client, hidden[9:] + b"GET / HTTP/1.0\r\n\r\n")
    rest = expect_response(server, client, "200", rest)
    if expect_response(server, client, "200", rest):
        raise Failure("there are more responses than requests")
    expect_end(server, client)


HTTP_ROWS = [http, two_lengths, slow_head, keeps_alive]


# ---- the rows about crowds and ends


def full(server):
    """At most a hundred clients are served at a time. Others wait, and the program sleeps."""
    clients = [server.connect() for _ in range(120)]
    for client in clients:
        send(client, b"Hello world\n")
    cpu, deadline = server.cpu(), time.monotonic() + PATIENCE
    while not server.is_asleep() and time.monotonic() < deadline:
        if server.cpu() >= cpu + 20:
            raise Failure("it runs all the time, and has nothing to do")
    served = select.select(clients, [], [], 0)[0]
    if len(served) > 100:
        raise Failure(f"{len(served)} clients are served at a time")
    waiting = [client for client in clients if client not in served]
    for leaving, client in zip(served, waiting):
        leaving.close()
        expect(server, client, PREFIX + b"Hello world\n")


def no_descriptor(server):
    """A client for which no descriptor is left is served when another leaves."""
    first = server.connect()
    echo(server, first)
    server.use_up_descriptors()
    client = server.connect()
    send(client, b"Hello world\n")
    cpu, sleeps = server.cpu(), server.sleeps()
    # It may try again from time to time.
    while server.sleeps() < sleeps + 5 and not server.is_asleep():
        if server.cpu() >= cpu + 20:
            raise Failure("it runs all the time, and has nothing to do")
    first.close()
    expect(server, client, PREFIX + b"Hello world\n")


def stops(server):
    """On SIGTERM, clients in the backlog are answered, too. Then the program ends, in order."""
    clients = [server.connect()]
    echo(server, clients[0])
    with server.suspended():
        clients += [server.connect() for _ in range(20)]
        for client in clients:
            send(client, b"Hello world\n")
        server.process.terminate()
    try:
        for client in clients:
            expect(server, client, PREFIX + b"Hello world\n", asleep=1.5)
            expect_end(server, client, asleep=1.5)
        code = server.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise EndFailure("it does not end") from None
    except Failure as failure:
        raise EndFailure(str(failure)) from None
    if code:
        raise EndFailure(f"its exit code is {code}")


def turns_away(server):
    """A client for which there is no room is told so. Those that are served stay."""
    served = []
    for _ in range(120):
        client = server.connect()
        send(client, b"Hello world\n")
        data = receive(server, client)
        if data == PREFIX + b"Hello world\n":
            served.append(client)
        elif data == b"error -> the server is full\n":
            expect_end(server, client)
        else:
            raise Failure(f"the reply is {data!r}")
    if len(served) > 100:
        raise Failure(f"{len(served)} clients are served at a time")
    served.pop().close()
    for client in served:
        echo(server, client)
    deadline = time.monotonic() + PATIENCE
    while not server.is_asleep() and time.monotonic() < deadline:
        pass  # Now there is room.
    echo(server, server.connect())


# Starts a program, given as the other arguments, with 1,020 as its lowest free descriptor. So few
# clients are needed to pass 1,023.
OCCUPY_DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for number in range(3, 1020):
    os.dup2(0, number)
os.execvp(sys.argv[1], sys.argv[1:])
"""


ROWS = [line, last_line, reset, joined, cut, silent, crowd, slow_reader, late_reader]
# The chapter that explains what a failing row shows.
CHAPTERS = [1, 1, 1, 2, 2, 3, 3, 3, 2]
EXERCISES = [
    *(gives_up, line_bound, thread_bound, rests, beyond_1024),
    *(client_bound, client_bound, evicts, closes_unread),
    *(quits, says_why, rate_bound, keeps_alive, turns_away),
]
# Rows that show what a mistake does. For "ends-busy", connections may last for half a second.
SPECIAL = {
    "burst": (burst, 7),
    "ends-busy": (ends_busy, 8),
    "stops-reading": (stops_reading, 9),
    "last-words": (last_words, 10),
    "talks": (talks, 11),
    "drips": (drips, 11),
    "datagrams": (datagrams, 12),
    "loop": (loop, 12),
    "http": (http, 13),
    "two-lengths": (two_lengths, 13),
    "slow-head": (slow_head, 13),
    "full": (full, 14),
    "no-descriptor": (no_descriptor, 14),
    "stops": (stops, 14),
}


def name(row):
    """Returns the name of a row as it is printed."""
    return row.__name__.replace("_", "-")


def start(program):
    """Returns the command for a program and its arguments. One in Rust is built first."""
    if program[0].endswith(".py"):
        return [*PYTHON, *program]
    in_rust = re.fullmatch(r"(?:.*/)?(program|broken|solution)s?/(\d\d)_\w+\.rs", program[0])
    if not in_rust:
        return program
    folder, number = in_rust.groups()
    example = f"book-{number}" if folder == "program" else f"book-{number}-{folder}"
    print(f"cargo run --example {example} --", *program[1:], "PORT", file=sys.stderr)
    subprocess.run(["cargo", "build", "--quiet", "--example", example], check=True)
    return ["cargo", "run", "--quiet", "--example", example, "--", *program[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exercise", type=int, choices=range(1, len(EXERCISES) + 1), metavar="N")
    parser.add_argument("--row", choices=SPECIAL, help="the first three rows and this one")
    parser.add_argument("--memory", type=int, metavar="MIB", help="its address space")
    parser.add_argument("--rows", action="store_true", help="say what each row checks")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.rows:
        for row in ROWS:
            print(f"{name(row):11}  {row.__doc__}")
        return
    if not arguments.program:
        parser.error("which program?")
    command = start(arguments.program)
    if arguments.memory:
        # The first two keep large maps of the C library out of the address space.
        limits = "export LC_ALL=C MALLOC_ARENA_MAX=1; ulimit -s 8192; "
        limits += f"ulimit -v {arguments.memory << 10}"
        command = ["sh", "-c", f'{limits}; exec "$@"', "sh", *command]

    rows = list(zip(ROWS, CHAPTERS))
    if arguments.exercise:
        rows = rows[:3] + [(EXERCISES[arguments.exercise - 1], arguments.exercise)]
    if arguments.row:
        rows = rows[:3] + [SPECIAL[arguments.row]]
    print(f"1..{len(rows)}")
    serves_http = any(row in HTTP_ROWS for row, _ in rows)

    def run(row):
        special = [*PYTHON, "-c", OCCUPY_DESCRIPTORS] if row is beyond_1024 else []
        try:
            with Server(special + command, serves_http) as server:
                server.run(row)
        except (Failure, OSError) as failure:
            return failure
        return None

    is_good = True
    # Most rows wait most of the time, so several run at once.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = pool.map(run, [row for row, _ in rows])
        for number, ((row, chapter), failure) in enumerate(zip(rows, results), 1):
            if failure:
                print(f"not ok {number} {name(row)}: {failure} (chapter {chapter})", flush=True)
                is_good = False
            else:
                print(f"ok {number} {name(row)}", flush=True)
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
