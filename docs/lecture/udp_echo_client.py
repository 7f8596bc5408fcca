import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback.
host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = sys.argv[2] if len(sys.argv) > 2 else "2000"

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# UDP may lose datagrams, so we must not wait for ever.
sock.settimeout(5)
try:
    # connect() sends nothing: it names the peer, so that datagrams from others are not ours, and
    # the kernel tells us if no server has that port (ICMP).
    sock.connect((host, int(port)))
    # send() sends one datagram without any handshake.
    sock.send(b"Hello world")
    # One recv() is enough here, because a datagram arrives whole or not at all.
    reply = sock.recv(65535)
except TimeoutError:
    sys.exit(f"No reply came from {host}:{port} within 5 seconds.")
except (OSError, ValueError, OverflowError) as error:
    # No server has that port, or the host or the port does not exist.
    sys.exit(f"The exchange with {host}:{port} failed: {error}")
sock.close()
print(reply.decode(errors="replace"))
