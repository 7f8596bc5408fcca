"""Echo over TCP or UDP on Python's asyncio, as its documentation has it: a peer of the measurement.

    asyncio_echo.py tcp | udp PORT
"""
import asyncio
import sys


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Socket(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


async def serve(protocol, port):
    loop = asyncio.get_running_loop()
    if protocol == "tcp":
        await loop.create_server(Connection, "127.0.0.1", port, backlog=4096)
    else:
        await loop.create_datagram_endpoint(Socket, local_addr=("127.0.0.1", port))
    await asyncio.Event().wait()


asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
