"""MsgTrans frames as the wire format describes them, written without a look at the Rust code."""

import struct

HEADER = struct.Struct(">BBBBIHIH")
ONE_WAY, REQUEST, RESPONSE = 0, 1, 2
HELLO, WELCOME, GOODBYE, PING, PONG = 8, 9, 10, 11, 12
MAX_FRAME = 16 + 65535 + 16 * 1024 * 1024

# Around every boundary of a WebSocket length with our 16 bytes in front, and well above a packet of any network.
SIZES = [0, 1, 109, 110, 111, 1000, 4096, 4097, 65519, 65520, 65521, 300_000, 1_048_576]


def frame(version, kind, message_id, payload=b"", biz_type=0, ext_header=b""):
    return HEADER.pack(version, 0, kind, biz_type, message_id, len(ext_header), len(payload), 0) + ext_header + payload


def parse(data):
    """One whole frame: version, kind, biz_type, id, extended header, payload."""
    version, compression, kind, biz_type, message_id, ext_len, length, _flags = HEADER.unpack_from(data)
    assert compression == 0, "nothing was agreed that would allow compression"
    assert len(data) == 16 + ext_len + length, "exactly one frame"
    return version, kind, biz_type, message_id, data[16 : 16 + ext_len], data[16 + ext_len :]


def frame_len(data):
    """Bytes of the frame that begins here, or None while its header is incomplete."""
    if len(data) < 16:
        return None
    ext_len, length = struct.unpack_from(">HI", data, 8)
    return 16 + ext_len + length


def tlv(tag, value):
    return struct.pack(">BH", tag, len(value)) + value


def hello():
    fields = tlv(1, struct.pack(">I", MAX_FRAME)) + tlv(6, b"independent peer")
    return frame(2, HELLO, 0, fields)


def welcome():
    fields = tlv(1, struct.pack(">I", MAX_FRAME)) + tlv(7, struct.pack(">Q", 1))
    return frame(2, WELCOME, 0, fields)


def payload(size):
    return bytes((i * 31 + 7) & 0xFF for i in range(size))


def answer(data):
    """What an echoing server writes for one frame of its peer; None where the peer says goodbye."""
    version, kind, biz_type, message_id, ext_header, body = parse(data)
    if kind == HELLO:
        return [welcome()]
    if kind == ONE_WAY:
        return [frame(version, ONE_WAY, message_id, body, biz_type, ext_header)]
    if kind == REQUEST:
        return [frame(version, RESPONSE, message_id, body, biz_type)]
    if kind == PING:
        return [frame(version, PONG, message_id, body)]
    if kind == GOODBYE:
        return None
    return []


class Conversation:
    """A client's part: what it sends, and what must come back."""

    def __init__(self, version):
        self.version = version
        self.exchanges = 0

    def steps(self):
        """Frames to send, each with the kind of its answer."""
        for number, size in enumerate(SIZES, start=1):
            body = payload(size)
            yield frame(self.version, ONE_WAY, number, body, biz_type=9), ONE_WAY, number, body
            yield frame(self.version, REQUEST, number, body, biz_type=7), RESPONSE, number, body

    def check(self, data, kind, number, body):
        got = parse(data)
        assert got[0] == self.version and got[1] == kind and got[3] == number, got[:4]
        assert got[5] == body, f"{len(got[5])} bytes came back instead of {len(body)}"
        self.exchanges += 1
