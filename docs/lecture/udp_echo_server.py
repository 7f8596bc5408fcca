import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback.
port = sys.argv[1] if len(sys.argv) > 1 else "2000"

# SOCK_DGRAM asks for UDP: there are no connections, so there is no listen() or accept().
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    server.bind(("127.0.0.1", int(port)))
except (OSError, ValueError, OverflowError) as error:
    sys.exit(f"Port {port} cannot be served: {error}")

while True:
    try:
        # recvfrom() blocks until a datagram arrives, and returns it with the sender's address.
        # The kernel discards what is beyond the first 1024 bytes of that datagram.
        data, sender = server.recvfrom(1024)
        # sendto() names the recipient each time, because the socket is not connected to a peer.
        server.sendto(b"echo -> " + data, sender)
    except OSError:
        pass  # This reply cannot be sent (a sender may have port 0); serve the next one.
