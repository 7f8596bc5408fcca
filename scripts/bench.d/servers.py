"""The servers: how each is started, and how one response is checked."""
import os
import re
import socket
import subprocess
import tempfile
import time

from processes import Failed, pinned, start, tool
from workloads import BODY, GET

OURS = "reactor"

# Each serves the same 13 bytes at /plaintext from one process. None logs requests or closes a
# persistent connection. nginx and haproxy have the bytes in their configuration; lighttpd and h2o
# read a file in {dir}. "{{" stands for a brace.
PEERS = {
    "nginx": (
        ["nginx", "-p", "{dir}", "-e", "{dir}/error.log", "-c", "{conf}"],
        """
        daemon off; master_process off; worker_processes 1;
        pid {dir}/nginx.pid; error_log {dir}/error.log error;
        events {{ worker_connections 4096; multi_accept on; }}
        http {{
            access_log off; server_tokens off; tcp_nodelay on;
            keepalive_requests 1000000000; keepalive_timeout 600s;
            client_body_temp_path {dir}/1; proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3;
            uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5;
            server {{
                listen 127.0.0.1:{port} backlog=4096;
                default_type text/plain;
                location = /plaintext {{ return 200 "Hello, World!"; }}
            }}
        }}
        """,
    ),
    "haproxy": (
        ["haproxy", "-db", "-q", "-f", "{conf}"],
        """
        global
            nbthread 1
            maxconn 2000
        defaults
            mode http
            timeout client 600s
            timeout http-keep-alive 600s
            timeout http-request 600s
        frontend plaintext
            bind 127.0.0.1:{port} backlog 4096
            http-request return status 200 content-type text/plain string "Hello, World!"
        """,
    ),
    "lighttpd": (
        ["lighttpd", "-D", "-f", "{conf}"],
        """
        server.bind = "127.0.0.1"
        server.port = {port}
        server.document-root = "{dir}"
        server.errorlog = "{dir}/error.log"
        server.max-worker = 0
        server.max-connections = 2000
        server.max-fds = 4096
        server.listen-backlog = 4096
        server.max-keep-alive-requests = 1000000000
        server.max-keep-alive-idle = 600
        mimetype.assign = ("" => "text/plain")
        """,
    ),
    "h2o": (
        ["h2o", "-m", "worker", "-c", "{conf}"],
        """
        num-threads: 1
        max-connections: 2000
        http1-request-timeout: 600
        error-log: {dir}/error.log
        listen:
          host: 127.0.0.1
          port: {port}
        hosts:
          default:
            paths:
              "/":
                file.dir: {dir}
                file.mime.setdefaulttype: text/plain
        """,
    ),
}


class Server:
    """A running server, which listens on `ports`. `tracer` is put before its command line."""

    def __init__(self, name, binary, folder, cpu, tracer=()):
        self.name = name
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=folder)
        os.chmod(folder, 0o755)  # h2o and lighttpd may drop root privileges
        self.log = os.path.join(folder, "log")
        if name == OURS:
            protocols = ("tcp", "udp", "http")
            command = [binary]
            for protocol in protocols:
                command += [f"--{protocol}", "127.0.0.1:0"]
            self.start(pinned(cpu, [*tracer, *command]), folder, subprocess.PIPE)
            # When all listen, it prints a line for each in this order. Each ends with an address.
            lines = [self.child.stdout.readline() for _ in protocols]
            ports = [line.strip().rpartition(":")[2] for line in lines]
            if not all(ports):
                raise Failed(f"the server does not start: {self.log_end()}")
            self.ports = dict(zip(protocols, map(int, ports)))
        else:
            command, port = configure(name, folder)
            self.start(pinned(cpu, [*tracer, *command]), folder, subprocess.DEVNULL)
            self.wait_until_listening(port)
            self.ports = {"http": port}

    def start(self, command, folder, output):
        environment = {key: value for key, value in os.environ.items() if key != "RUST_LOG"}
        with open(self.log, "w") as log:
            self.child = start(command, stdout=output, stderr=log, cwd=folder, env=environment)

    def wait_until_listening(self, port):
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise Failed(f"the server does not listen: {self.log_end()}")

    def log_end(self):
        with open(self.log) as log:
            return log.read()[-300:].strip()

    def check(self, workload):
        """Checks one response byte by byte, which the load generators do not."""
        address = ("127.0.0.1", self.ports[workload.protocol])
        if workload.protocol == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(5)
                peer.sendto(workload.message, address)
                is_correct = peer.recv(65536) == workload.message
        else:
            with socket.create_connection(address, 5) as peer:
                peer.sendall(workload.message or GET + b"Connection: close\r\n\r\n")
                if workload.protocol == "tcp":
                    peer.shutdown(socket.SHUT_WR)
                response = b"".join(iter(lambda: peer.recv(65536), b""))
            if workload.protocol == "tcp":
                is_correct = response == workload.message
            else:
                head, _, body = response.partition(b"\r\n\r\n")
                is_correct = re.match(rb"HTTP/1\.[01] 200 ", head) and body == BODY
        if not is_correct:
            raise Failed("the response is not the expected one")


def configure(name, folder):
    """Writes a peer's configuration into `folder`. Returns its command line and its port."""
    command, text = PEERS[name]
    # These servers do not print which port they got for port 0. So take a port that is free now. If
    # it is taken a moment later, the start fails.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"dir": folder, "port": port, "conf": os.path.join(folder, "conf")}
    with open(names["conf"], "w") as file:
        file.write(re.sub("^ {8}", "", text.format(**names), flags=re.MULTILINE))
    with open(os.path.join(folder, "plaintext"), "wb") as file:
        file.write(BODY)
    return [tool(command[0])] + [part.format(**names) for part in command[1:]], port
