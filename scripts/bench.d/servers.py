"""The servers: how each is started, and how one response is checked."""
import os
import re
import socket
import subprocess
import tempfile
import time

from peers import PEERS, SOURCES
from processes import Failed, pinned, start
from workloads import BODY, GET

OURS = "reactor"


class Server:
    """A running server, which listens on `ports`. `tracer` is put before its command line.

    Ours serves all protocols at once, or only `protocol` with `options`. A peer serves `protocol`.
    """

    def __init__(self, name, protocol, binary, folder, cpu, tracer=(), options=()):
        self.name = name
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=folder)
        os.chmod(folder, 0o755)  # h2o and lighttpd may drop root privileges
        self.log = os.path.join(folder, "log")
        if name == OURS:
            protocols = (protocol,) if options else ("tcp", "udp", "http")
            command = [binary, *options]
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
            command, port = configure(PEERS[name], protocol, folder)
            self.start(pinned(cpu, [*tracer, *command]), folder, subprocess.DEVNULL)
            self.wait_until_bound(protocol, port)
            self.ports = {protocol: port}

    def start(self, command, folder, output):
        environment = {key: value for key, value in os.environ.items() if key != "RUST_LOG"}
        with open(self.log, "w") as log:
            self.child = start(command, stdout=output, stderr=log, cwd=folder, env=environment)

    def wait_until_bound(self, protocol, port):
        """Waits until the kernel lists a socket at `port`, which for TCP means that it listens."""
        table = "/proc/net/udp" if protocol == "udp" else "/proc/net/tcp"
        # /proc/net/tcp has established connections, too; their remote address is not 0.0.0.0.
        row = f" 0100007F:{port:04X} 00000000:0000 "
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and self.child.poll() is None:
            with open(table) as file:
                if row in file.read():
                    return
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


def configure(peer, protocol, folder):
    """Writes a peer's configuration into `folder`. Returns its command line and its port."""
    # Peers do not print which port they got for port 0. So take a port that is free now. If it is
    # taken a moment later, the start fails.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"dir": folder, "port": port, "protocol": protocol, "sources": SOURCES}
    names["conf"] = os.path.join(folder, "conf")
    with open(names["conf"], "w") as file:
        text = peer.configuration.format(**names)
        file.write(re.sub("^ {8}", "", text, flags=re.MULTILINE))
    with open(os.path.join(folder, "plaintext"), "wb") as file:
        file.write(BODY)
    arguments = [part.format(**names) for part in peer.command[1:]]
    return [peer.program(), *arguments], port
