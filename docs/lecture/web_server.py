import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback.
port = sys.argv[1] if len(sys.argv) > 1 else "8080"
body = b"<!DOCTYPE html><html><head><title>Hello</title></head>"
body += b"<body><p>Hello world!</p></body></html>\n"
# Two common mistakes: header lines need CRLF, and Content-Length must count the body's bytes.
head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    server.bind(("127.0.0.1", int(port)))
    server.listen()
except (OSError, ValueError, OverflowError) as error:
    sys.exit(f"Port {port} cannot be served: {error}")
while True:
    client, address = server.accept()
    with client:
        try:
            request = b""
            # recv() may return only a part, so we read up to the empty line that ends the head.
            while b"\r\n\r\n" not in request and (data := client.recv(1024)):
                request += data
            if b"\r\n\r\n" in request:
                client.sendall(head.encode() + body)
        except OSError:
            pass  # This browser's connection failed; serve the next one.
