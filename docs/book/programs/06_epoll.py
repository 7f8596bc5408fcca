import select
import signal
import socket
import sys

PREFIX = b"echo -> "


def answer(received):
    """Returns the replies to all whole lines in `received`, and the bytes that are left."""
    *lines, rest = received.split(b"\n")
    return b"".join(PREFIX + line + b"\n" for line in lines), rest


class Client:
    """A connection, and all that serve() kept in variables while it waited."""

    def __init__(self, sock):
        self.sock = sock
        self.received = b""
        self.output = b""
        self.at_end = False
        self.reported = select.EPOLLIN

    def interest(self):
        """Returns what the kernel shall report: room for the output that waits, or input."""
        return select.EPOLLOUT if self.output else select.EPOLLIN

    def step(self):
        """Does what can be done now. BlockingIOError means: nothing can, ask again later."""
        if not self.output:
            data = self.sock.recv(1024)
            self.output, self.received = answer(self.received + data)
            if not data:
                # The end of the stream ends the last line.
                self.at_end = True
                self.output = PREFIX + self.received if self.received else b""
        if self.output:
            # What the kernel does not take stays for the next step.
            count = self.sock.send(self.output)
            self.output = self.output[count:]


def accept():
    """Accepts one client, if one waits for it."""
    try:
        sock, address = server.accept()
    except OSError:
        return  # None waits (BlockingIOError), it has gone, or no descriptor is free (chapter 14).
    sock.setblocking(False)
    clients[sock.fileno()] = Client(sock)
    epoll.register(sock, select.EPOLLIN)


def drive(client):
    """Lets one client go a step further, and closes it after its last one."""
    try:
        client.step()
    except BlockingIOError:
        pass
    except OSError:
        client.output, client.at_end = b"", True  # Its connection failed.
    if client.at_end and not client.output:
        del clients[client.sock.fileno()]
        client.sock.close()  # With it, the kernel forgets our interest.
    elif client.interest() != client.reported:
        client.reported = client.interest()
        epoll.modify(client.sock, client.reported)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback.
port = sys.argv[1] if len(sys.argv) > 1 else "2000"
# socket() asks the kernel for a TCP endpoint.
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
# SO_REUSEADDR lets us restart while old connections are still in TIME_WAIT.
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    # bind() gives the socket its address, and listen() lets the kernel queue clients (the backlog).
    server.bind(("127.0.0.1", int(port)))
    server.listen()
except (OSError, ValueError, OverflowError) as error:
    sys.exit(f"Port {port} cannot be served: {error}")
server.setblocking(False)
clients = {}
epoll = select.epoll()
epoll.register(server, select.EPOLLIN)
while True:
    # The only place where the program sleeps: until one of them is ready.
    for descriptor, _ in epoll.poll():
        if descriptor == server.fileno():
            accept()
        else:
            drive(clients[descriptor])
