import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback.
host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = sys.argv[2] if len(sys.argv) > 2 else "2000"

sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
sock.settimeout(5)
reply = b""
try:
    # connect() performs the TCP handshake with the server.
    sock.connect((host, int(port)))
    sock.sendall(b"Hello world")
    # shutdown() closes only our write side: the server reads end of file, and we can still read.
    sock.shutdown(socket.SHUT_WR)
    # One recv() is not enough: TCP is a stream and may deliver the reply in several parts.
    while data := sock.recv(1024):
        reply += data
except TimeoutError:
    sys.exit(f"The server at {host}:{port} was silent for 5 seconds.")
except (OSError, ValueError, OverflowError) as error:
    # The server refuses or resets the connection, or the host or the port does not exist.
    sys.exit(f"The exchange with {host}:{port} failed: {error}")
# close() gives the descriptor back to the kernel.
sock.close()
if not reply:
    sys.exit("The server closed the connection without a reply.")
print(reply.decode(errors="replace"))
