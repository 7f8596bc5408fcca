import signal
import socket
import sys

PREFIX = b"echo -> "


def answer(received):
    """Returns the replies to all whole lines in `received`, and the bytes that are left."""
    *lines, rest = received.split(b"\n")
    return b"".join(PREFIX + line + b"\n" for line in lines), rest


def send_whole(client, output):
    """Sends all of `output`: send() may take only a part, and returns how much."""
    while output:
        count = client.send(output)
        output = output[count:]


def serve(client):
    """Serves one client until it has sent its last byte."""
    received = b""
    # A recv() returns what is there: a part of a line, or several lines.
    while data := client.recv(1024):
        output, received = answer(received + data)
        send_whole(client, output)
    # The end of the stream ends the last line.
    if received:
        send_whole(client, PREFIX + received)


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
while True:
    # accept() blocks until a client has connected, and returns a new socket for it.
    client, address = server.accept()
    with client:
        try:
            serve(client)
        except OSError:
            pass  # This client's connection failed; serve the next one.
