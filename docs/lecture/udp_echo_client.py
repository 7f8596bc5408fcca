import socket
import sys

host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 2000

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# UDP may lose datagrams, so we must not wait for ever.
sock.settimeout(5)
# sendto() sends one datagram without any handshake.
sock.sendto(b"Hello world", (host, port))
try:
    # One recvfrom() is enough here, because a datagram arrives whole or not at all.
    reply, sender = sock.recvfrom(65535)
except TimeoutError:
    sys.exit("No reply came within 5 seconds.")
sock.close()
print(reply.decode())
