// npm `ws` as our peer: `client URL v1|v2` or `server DIR|plain`.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";
import { createRequire } from "node:module";

// Where the packages are installed is told from outside: nothing is installed beside the sources.
const { WebSocket, WebSocketServer } = createRequire(`${process.env.PEERS_NODE}/`)("ws");

const ONE_WAY = 0, REQUEST = 1, RESPONSE = 2, HELLO = 8, WELCOME = 9, GOODBYE = 10, PING = 11, PONG = 12;
const MAX_FRAME = 16 + 65535 + 16 * 1024 * 1024;
const SIZES = [0, 1, 109, 110, 111, 1000, 4096, 4097, 65519, 65520, 65521, 300_000, 1_048_576];

function frame(version, kind, id, payload = Buffer.alloc(0), bizType = 0) {
  const header = Buffer.alloc(16);
  header[0] = version;
  header[2] = kind;
  header[3] = bizType;
  header.writeUInt32BE(id, 4);
  header.writeUInt32BE(payload.length, 10);
  return Buffer.concat([header, payload]);
}

function parse(data) {
  const extLen = data.readUInt16BE(8);
  const length = data.readUInt32BE(10);
  check(data[1] === 0, "nothing was agreed that would allow compression");
  check(data.length === 16 + extLen + length, "exactly one frame");
  return { version: data[0], kind: data[2], bizType: data[3], id: data.readUInt32BE(4), payload: data.subarray(16 + extLen) };
}

function tlv(tag, value) {
  const head = Buffer.from([tag, 0, 0]);
  head.writeUInt16BE(value.length, 1);
  return Buffer.concat([head, value]);
}

function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function payloadOf(size) {
  const payload = Buffer.alloc(size);
  for (let i = 0; i < size; i += 1) payload[i] = (i * 31 + 7) & 0xff;
  return payload;
}

async function client(url, version) {
  let exchanges = 0;
  // Once with compression offered, which a server may decline, and once in fragments.
  for (const fragments of [false, true]) {
    const socket = new WebSocket(url, [`msgtrans.v${version}`], { rejectUnauthorized: false, perMessageDeflate: !fragments });
    const arrived = [];
    let wake = () => {};
    socket.on("message", (data, isBinary) => {
      check(isBinary, "a text message");
      arrived.push(data);
      wake();
    });
    await once(socket, "open");
    check(socket.protocol === `msgtrans.v${version}`, `subprotocol ${socket.protocol}`);
    check(socket.extensions === "", `extensions ${socket.extensions}`);
    const next = async () => {
      while (arrived.length === 0) await new Promise((resolve) => { wake = resolve; });
      return parse(arrived.shift());
    };
    if (version === 2) {
      socket.send(frame(2, HELLO, 0, tlv(1, u32(MAX_FRAME))));
      check((await next()).kind === WELCOME, "no welcome");
      socket.send(frame(2, PING, 5, Buffer.from("life")));
      const pong = await next();
      check(pong.kind === PONG && pong.payload.toString() === "life", "no pong");
    }
    socket.ping("websocket's own");
    const [echoed] = await once(socket, "pong");
    check(echoed.toString() === "websocket's own", "another pong");
    for (const [index, size] of SIZES.entries()) {
      const payload = payloadOf(size);
      for (const [kind, answer] of [[ONE_WAY, ONE_WAY], [REQUEST, RESPONSE]]) {
        const data = frame(version, kind, index + 1, payload, 9);
        if (fragments) {
          const cut = Math.ceil(data.length / 3);
          for (let at = 0; at < data.length; at += cut) socket.send(data.subarray(at, at + cut), { fin: at + cut >= data.length });
        } else {
          socket.send(data);
        }
        const got = await next();
        check(got.version === version && got.kind === answer && got.id === index + 1, `another answer: ${got.kind} ${got.id}`);
        check(got.payload.equals(payload), `${got.payload.length} bytes came back instead of ${size}`);
        exchanges += 1;
      }
    }
    socket.close(1000);
    const [code] = await once(socket, "close");
    check(code === 1000, `close code ${code}`);
  }
  console.log(exchanges);
}

function server(folder) {
  const secure = () => createSecure({ cert: readFileSync(`${folder}/cert.pem`), key: readFileSync(`${folder}/key.pem`) });
  const http = folder === "plain" ? createPlain() : secure();
  const choose = (offered) => ["msgtrans.v2", "msgtrans.v1"].find((name) => offered.has(name)) ?? false;
  const sockets = new WebSocketServer({ server: http, handleProtocols: choose, perMessageDeflate: true });
  sockets.on("connection", (socket) => {
    socket.on("message", (data) => {
      const { version, kind, id, bizType, payload } = parse(data);
      const session = Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]);
      if (kind === HELLO) socket.send(frame(2, WELCOME, 0, Buffer.concat([tlv(1, u32(MAX_FRAME)), tlv(7, session)])));
      if (kind === ONE_WAY) socket.send(frame(version, ONE_WAY, id, payload, bizType));
      if (kind === REQUEST) socket.send(frame(version, RESPONSE, id, payload, bizType));
      if (kind === PING) socket.send(frame(version, PONG, id, payload));
      if (kind === GOODBYE) socket.close(1000);
    });
  });
  http.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${http.address().port}`));
}

const [role, where, wire] = process.argv.slice(2);
if (role === "client") await client(where, Number(wire.slice(1)));
else server(where);
