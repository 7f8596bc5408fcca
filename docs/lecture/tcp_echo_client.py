import socket
import sys

host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 2000

sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
sock.settimeout(5)
# connect() performs the TCP handshake with the server.
sock.connect((host, port))
sock.sendall(b"Hello world")
# shutdown() closes only our write side: the server reads end of file, and we can still read.
sock.shutdown(socket.SHUT_WR)

# One recv() is not enough: TCP is a stream and may deliver the reply in several parts.
reply = b""
while data := sock.recv(1024):
    reply += data

# close() gives the descriptor back to the kernel.
sock.close()
print(reply.decode())
