import socket
import sys

sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
sock.connect(("127.0.0.1", int(sys.argv[1])))
# From now on no call on this socket waits: it does what it can at once.
sock.setblocking(False)
output = b"x" * 8_388_608
count = sock.send(output)
print(f"{count} of {len(output)} bytes")
