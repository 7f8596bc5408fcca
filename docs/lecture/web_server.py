import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
body = b"<!DOCTYPE html><html><head><title>Hello</title></head>"
body += b"<body><p>Hello world!</p></body></html>\n"
# Two common mistakes: header lines need CRLF, and Content-Length must count the body's bytes.
head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen()
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
        except ConnectionError:
            pass  # This browser's connection failed; serve the next one.
