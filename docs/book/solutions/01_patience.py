import signal
import socket
import sys

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
        # Now a recv() fails with TimeoutError, which is an OSError, after half a second of silence.
        client.settimeout(0.5)
        try:
            # recv() blocks until bytes arrive; empty bytes mean that the peer has closed.
            # Until then all other clients wait in the backlog.
            while data := client.recv(1024):
                # sendall() repeats send() until the kernel has taken every byte.
                client.sendall(b"echo -> " + data)
        except OSError:
            pass  # This client's connection failed; serve the next one.
