"""PyPI `websockets` as our peer: `client URL v1|v2` or `server DIR|plain`."""

import asyncio
import ssl
import sys

import websockets
from frames import Conversation, PING, PONG, WELCOME, answer, frame, hello, parse


def subprotocol(version):
    return websockets.Subprotocol(f"msgtrans.v{version}")


async def client(url, version):
    context = None
    if url.startswith("wss:"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    conversation = Conversation(version)
    # Once with compression offered, which a server may decline, and once in fragments.
    for compression, fragments in (("deflate", False), (None, True)):
        async with websockets.connect(
            url, ssl=context, subprotocols=[subprotocol(version)], compression=compression, max_size=None
        ) as socket:
            assert socket.subprotocol == f"msgtrans.v{version}", socket.subprotocol
            assert not socket.response.headers.get("Sec-WebSocket-Extensions")
            if version == 2:
                await socket.send(hello())
                assert parse(await socket.recv())[1] == WELCOME
                await socket.send(frame(2, PING, 5, b"life"))
                assert parse(await socket.recv())[1:6:4] == (PONG, b"life")
            await asyncio.wait_for(await socket.ping(b"websocket's own"), 10)
            for data, kind, number, body in conversation.steps():
                if fragments:
                    cut = max(1, len(data) // 3)
                    await socket.send([data[at : at + cut] for at in range(0, len(data), cut)])
                else:
                    await socket.send(data)
                conversation.check(await socket.recv(), kind, number, body)
            await socket.close()
            assert socket.close_code == 1000, socket.close_code
    print(conversation.exchanges)


async def server(folder):
    context = None
    if folder != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")

    async def serve(socket):
        async for data in socket:
            frames = answer(data)
            if frames is None:
                break
            for reply in frames:
                await socket.send(reply)

    offered = [subprotocol(2), subprotocol(1)]
    async with websockets.serve(
        serve, "127.0.0.1", 0, ssl=context, subprotocols=offered, max_size=None
    ) as listening:
        host, port = listening.sockets[0].getsockname()
        print(f"{host}:{port}", flush=True)
        await listening.serve_forever()


role, where, *rest = sys.argv[1:]
asyncio.run(client(where, int(rest[0][1:])) if role == "client" else server(where))
