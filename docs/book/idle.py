"""Shows what idle clients cost a server: python3 idle.py COUNT PROGRAM [ARGUMENT ...]

Starts the program as check.py does, connects COUNT clients that send nothing, and prints what the
kernel says of the program. Then each client sends one line. Linux only: the numbers are in /proc.
"""

import resource
import sys

from check import PREFIX, Server, echo, expect, send, start


def field(server, name):
    """Returns a number from /proc/PID/status, where memory is in KiB."""
    with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def limit(name, value):
    """Sets a limit of this process and of the server, which inherits it (setrlimit(2), ulimit)."""
    resource.setrlimit(name, (value, resource.getrlimit(name)[1]))


count = int(sys.argv[1])
command = start(sys.argv[2:])
limit(resource.RLIMIT_NOFILE, count + 100)
limit(resource.RLIMIT_STACK, 8 << 20)
with Server(command) as server:
    clients = [server.connect() for _ in range(count)]
    # A server that has answered the last client has accepted all of them.
    echo(server, clients[-1])
    sleeps = server.sleeps()
    print(f"idle clients    {count:>9,}")
    print(f"threads         {server.threads():>9,}")
    print(f"address space   {field(server, 'VmSize') // 1024:>9,} MiB")
    print(f"memory          {field(server, 'VmRSS') // 1024:>9,} MiB")
    for client in clients:
        send(client, b"Hello world\n")
    for client in clients:
        expect(server, client, PREFIX + b"Hello world\n")
    print("a line from each:")
    print(f"sleeps          {server.sleeps() - sleeps:>9,}")
