# A WebSocket client over asyncio (RFC 6455), for trials with hundreds of sockets: texts out and in, pings answered, closing told.
import asyncio
import json
import struct


class Closed(Exception):
    """The peer ended the socket; `code` is its status, 1006 without one."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


class Refused(Exception):
    def __init__(self, status):
        super().__init__(f"the upgrade is answered {status}")
        self.status = status


class WebSocket:
    @classmethod
    async def open(cls, port, path, headers=None):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] + [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            raise Closed(1006) from None
        status = int(head.split()[1])
        if status != 101:
            self.close()
            raise Refused(status)
        return self

    def send(self, message):
        self._frame(0x81, json.dumps(message).encode())

    def _frame(self, opcode, payload):
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", opcode, 0x80 | 127, size)
        self.writer.write(head + bytes(4) + payload)   # masked with zeros

    async def receive(self):
        """The next message's value."""
        while True:
            try:
                opcode, size = await self.reader.readexactly(2)
                if size & 0x7F == 126:
                    size = struct.unpack("!H", await self.reader.readexactly(2))[0]
                elif size & 0x7F == 127:
                    size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
                payload = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                raise Closed(1006) from None
            if opcode & 0xF == 8:
                raise Closed(struct.unpack("!H", payload[:2])[0] if len(payload) > 1 else 1006)
            if opcode & 0xF == 9:
                self._frame(0x8A, payload)
            elif opcode & 0xF == 1:
                return json.loads(payload)

    def close(self):
        self.writer.close()
