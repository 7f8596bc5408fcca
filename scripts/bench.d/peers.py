"""The peers: the servers that are measured beside ours.

A peer is an installed tool, or a small program in the folder `peers`. Such a program is built here,
outside of the sources. Nothing is installed: what cannot be started is named and left out.
"""
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from processes import Failed, log, output_of, tool

# The peer that the others are compared with, by protocol.
REFERENCES = {"http": "nginx", "tcp": "libuv", "udp": "libuv"}

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")

RUST = "--rust-peers"

# The programs that are no installed tools, by name. `build` adds to them.
built = {"python": sys.executable}


@dataclass(frozen=True)
class Peer:
    protocols: tuple
    """What it serves, out of http, tcp and udp. Each run starts it for one of them."""
    command: tuple
    """A tool or a program of `built`, and its arguments."""
    configuration: str = ""
    """The text of the file {conf}."""
    needs: str = ""
    """What its program is built from, if it is not an installed tool."""
    only_closing: bool = False
    """It differs from another peer only in how it accepts connections."""

    def program(self):
        """Returns the path of its program, or None."""
        return built.get(self.command[0]) or tool(self.command[0])

    def serves(self, workload):
        is_of_use = workload.closes or not self.only_closing
        return workload.protocol in self.protocols and is_of_use


NGINX = ("nginx", "-p", "{dir}", "-e", "{dir}/error.log", "-c", "{conf}")
NGINX_CONFIGURATION = """
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
        """

# Over HTTP, each serves the same 13 bytes at /plaintext from one process. None logs requests or
# closes a persistent connection. nginx and haproxy have the bytes in their configuration; lighttpd
# and h2o read a file in {dir}. "{{" stands for a brace.
PEERS = {
    "nginx": Peer(("http",), NGINX, NGINX_CONFIGURATION),
    # As ours, it learns of a connection when its first bytes have come (TCP_DEFER_ACCEPT).
    "nginx-deferred": Peer(
        ("http",),
        NGINX,
        NGINX_CONFIGURATION.replace("backlog=", "deferred backlog="),
        only_closing=True,
    ),
    "haproxy": Peer(
        ("http",),
        ("haproxy", "-db", "-q", "-f", "{conf}"),
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
    "lighttpd": Peer(
        ("http",),
        ("lighttpd", "-D", "-f", "{conf}"),
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
    "h2o": Peer(
        ("http",),
        ("h2o", "-m", "worker", "-c", "{conf}"),
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
    "hyper": Peer(("http",), ("bench-peers", "hyper", "{port}"), needs=RUST),
    "libuv": Peer(
        ("tcp", "udp"),
        ("uv_echo", "{protocol}", "{port}"),
        needs="a C compiler and libuv1-dev",
    ),
    "tokio": Peer(("tcp", "udp"), ("bench-peers", "tokio-{protocol}", "{port}"), needs=RUST),
    "quinn-udp": Peer(("udp",), ("bench-peers", "quinn-udp", "{port}"), needs=RUST),
    "asyncio": Peer(
        ("tcp", "udp"),
        ("python", "{sources}/asyncio_echo.py", "{protocol}", "{port}"),
    ),
}


def build(folder, cargo_target):
    """Builds the programs of the peers, the Rust ones only if there is a `cargo_target` for them.

    Without a C compiler or without libuv, there is no peer on libuv. But Rust peers were asked for,
    so it is a failure if they cannot be built.
    """
    program = os.path.join(folder, "uv_echo")
    source = os.path.join(SOURCES, "uv_echo.c")
    if tool("cc") and run("cc", "-O2", "-o", program, source, "-luv", stderr=subprocess.DEVNULL):
        built["uv_echo"] = program
    if not cargo_target:
        return
    log("building the peers on tokio, hyper and quinn-udp")
    # Outside of the sources, so that cargo writes nothing into them.
    package = os.path.join(folder, "bench-peers")
    shutil.copytree(SOURCES, package)
    manifest = os.path.join(package, "Cargo.toml")
    where = ["--manifest-path", manifest, "--target-dir", cargo_target]
    if not run("cargo", "build", "--release", "--locked", *where):
        raise Failed("the peers of --rust-peers cannot be built")
    built["bench-peers"] = os.path.join(cargo_target, "release", "bench-peers")


def run(*command, **options):
    """Runs a tool, and returns whether it succeeded."""
    command = [tool(command[0]), *command[1:]]
    return subprocess.run(command, stdin=subprocess.DEVNULL, **options).returncode == 0


def missing(unwanted):
    """Returns the peers that cannot be started, each with what it needs, but not `unwanted`."""
    named = []
    for name, peer in PEERS.items():
        if not peer.program() and name not in unwanted:
            named.append(name + (f" (needs {peer.needs})" if peer.needs else ""))
    return named


def version(name):
    """Returns the version of a peer, such as "nginx 1.22.1", or an empty string."""
    program = PEERS[name].command[0]
    if program == "python" or name == "nginx-deferred":
        return ""  # it is listed anyway
    if program == "bench-peers":
        with open(os.path.join(SOURCES, "Cargo.lock")) as file:
            found = re.search(rf'name = "{name}"\nversion = "(.*)"', file.read())
        return f"{name} {found[1]}"
    # uv_echo takes no options, and answers any with its version.
    found = re.search(r"\d+\.\d+(\.\d+)?", output_of(PEERS[name].program(), "-v"))
    return f"{name} {found[0]}" if found else ""
