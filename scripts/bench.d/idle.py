"""Idle connections, in plain Python.

    idle.py PORT COUNT SOURCE   COUNT connections to PORT, from the loopback address SOURCE

Prints a line when all are open, and keeps them until it is ended by a signal.
"""
import resource
import signal
import socket
import sys

# From <linux/in.h>. The port is chosen by connect(2): so it need not be free for all peers.
IP_BIND_ADDRESS_NO_PORT = 24


def main():
    port, count, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    peers = []
    for _ in range(count):
        peer = socket.socket()
        peer.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        peer.bind((source, 0))
        peer.connect(("127.0.0.1", port))
        peers.append(peer)
    print("open", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
