"""PyPI `aioquic` as our peer: `client HOST:PORT v1|v2` or `server DIR`."""

import asyncio
import ssl
import struct
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived
from frames import Conversation, PING, PONG, WELCOME, answer, frame, frame_len, hello, parse


def configuration(is_client, versions):
    return QuicConfiguration(is_client=is_client, alpn_protocols=[f"msgtrans/{version}" for version in versions])


def wrap(version, data):
    """Version 1 puts every frame behind its length."""
    return struct.pack(">I", len(data)) + data if version == 1 else data


class Frames:
    """Whole frames out of the bytes of the one stream."""

    def __init__(self, version):
        self.version = version
        self.data = b""

    def feed(self, data):
        self.data += data
        frames = []
        while True:
            prefix = 4 if self.version == 1 else 0
            length = frame_len(self.data[prefix : prefix + 16])
            if length is None or len(self.data) < prefix + length:
                return frames
            if prefix:
                assert struct.unpack_from(">I", self.data)[0] == length, "a length that is not the frame's"
            frames.append(self.data[prefix : prefix + length])
            self.data = self.data[prefix + length :]


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.arrived = asyncio.Queue()
        self.version = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.version = int(event.alpn_protocol[-1])
            self.frames = Frames(self.version)
        if isinstance(event, StreamDataReceived):
            for data in self.frames.feed(event.data):
                self.arrived.put_nowait(data)

    async def exchange(self, stream, data):
        self._quic.send_stream_data(stream, wrap(self.version, data))
        self.transmit()
        return await asyncio.wait_for(self.arrived.get(), 30)


async def client(address, version):
    host, port = address.rsplit(":", 1)
    config = configuration(True, [version])
    config.verify_mode = ssl.CERT_NONE
    conversation = Conversation(version)
    async with connect(host, int(port), configuration=config, create_protocol=Client) as connection:
        await connection.wait_connected()
        stream = connection._quic.get_next_available_stream_id()
        if version == 2:
            assert parse(await connection.exchange(stream, hello()))[1] == WELCOME
            pong = parse(await connection.exchange(stream, frame(2, PING, 5, b"life")))
            assert (pong[1], pong[5]) == (PONG, b"life")
        for data, kind, number, body in conversation.steps():
            conversation.check(await connection.exchange(stream, data), kind, number, body)
    print(conversation.exchanges)


class Server(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.frames = Frames(int(event.alpn_protocol[-1]))
        if isinstance(event, ConnectionTerminated):
            return
        if isinstance(event, StreamDataReceived):
            for data in self.frames.feed(event.data):
                replies = answer(data)
                if replies is None:
                    self._quic.send_stream_data(event.stream_id, b"", end_stream=True)
                    break
                for reply in replies:
                    self._quic.send_stream_data(event.stream_id, wrap(self.frames.version, reply))
            self.transmit()


async def server(folder):
    config = configuration(False, [2, 1])
    config.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    listening = await serve("127.0.0.1", 0, configuration=config, create_protocol=Server)
    host, port = listening._transport.get_extra_info("sockname")[:2]
    print(f"{host}:{port}", flush=True)
    await asyncio.Event().wait()


role, where, *rest = sys.argv[1:]
asyncio.run(client(where, int(rest[0][1:])) if role == "client" else server(where))
