"""The servers that are compared: the program, nginx and lighttpd, each on a port of its own."""
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 10
HELLO = b"Hello, World!"  # the page at /plaintext, on each server

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type text/plain; lingering_timeout 100ms;
    client_body_temp_path {dir}/1; proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3;
    uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5;
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200 "page"; }}
        location = /echo {{ return 200 "echo"; }}
        location = /plaintext {{ return 200 "Hello, World!"; }}
    }}
}}
"""
LIGHTTPD = """
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{dir}/www"
server.errorlog = "{dir}/error.log"
index-file.names = ("index")
mimetype.assign = ("" => "text/plain")
"""
OTHERS = {
    "nginx": (NGINX, "nginx -p {dir} -e {dir}/error.log -c {conf}"),
    "lighttpd": (LIGHTTPD, "lighttpd -D -f {conf}"),
}
children = []


def start(command, **options):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    children.append(child)
    return child


def stop_all():
    for child in children:
        child.terminate()
        child.wait()


def start_ours():
    """Starts the program, and returns its port."""
    binary = Path(os.environ.get("REACTOR", ROOT / "target/release/reactor"))
    if "REACTOR" not in os.environ:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    command = [str(binary), "--http", "127.0.0.1:0", "--log", "error"]
    child = start(command, stdout=subprocess.PIPE, text=True)
    line = child.stdout.readline()
    if not line.startswith("http "):
        sys.exit(f"http-differential: {binary} does not serve HTTP")
    return int(line.rpartition(":")[2])


def start_other(name, folder):
    """Starts another server, and returns its port, or None if it is not installed."""
    text, command = OTHERS[name]
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if not path:
        print(f"http-differential: {name} is not installed: skipped", file=sys.stderr)
        return None
    folder = Path(folder) / name
    (folder / "www").mkdir(parents=True)
    for page in ("index", "echo"):
        (folder / "www" / page).write_bytes(page.encode())
    (folder / "www/plaintext").write_bytes(HELLO)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"dir": folder, "port": port, "conf": folder / "conf"}
    names["conf"].write_text(text.format(**names))
    child = start([path, *command.format(**names).split()[1:]], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            time.sleep(0.02)
    sys.exit(f"http-differential: {name} does not start")
