import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2000

# SOCK_DGRAM asks for UDP: there are no connections, so there is no listen() or accept().
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", port))

while True:
    # recvfrom() blocks until a datagram arrives, and returns it with the sender's address.
    # The kernel discards what is beyond the first 1024 bytes of that datagram.
    data, sender = server.recvfrom(1024)
    # sendto() names the recipient each time, because the socket is not connected to a peer.
    server.sendto(b"echo -> " + data, sender)
