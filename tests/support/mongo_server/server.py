"""Sockets, the wire protocol and the journal."""

import fcntl
import os
import re
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import bson
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry

from tests.support.mongo_server.commands import STATELESS, WRITES, Commands

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1, 2


class _Regex(TypeDecoder):
    bson_type = bson.Regex

    def transform_bson(self, value: bson.Regex) -> re.Pattern:
        return value.try_compile()


CODEC = CodecOptions(type_registry=TypeRegistry([_Regex()]))


def decode_message(operation: int, body: bytes) -> tuple[dict[str, Any], bool]:
    """The command in a message, and whether its sender waits for a reply."""
    if operation == OP_QUERY:
        start = body.index(b"\0", 4) + 1 + 8
        command = bson.decode(body[start : start + struct.unpack_from("<i", body, start)[0]], CODEC)
        return command, True
    if operation != OP_MSG:
        raise ConnectionError(f"Message of operation code {operation}; only OP_MSG and OP_QUERY are known")
    (flags,) = struct.unpack_from("<I", body)
    end = len(body) - (4 if flags & CHECKSUM_PRESENT else 0)
    command, sequences, position = {}, {}, 4
    while position < end:
        kind = body[position]
        (size,) = struct.unpack_from("<i", body, position + 1)
        section = body[position + 1 : position + 1 + size]
        if kind == 0:
            command = bson.decode(section, CODEC)
        else:
            name_end = section.index(b"\0", 4)
            sequences[section[4:name_end].decode()] = bson.decode_all(section[name_end + 1 :], CODEC)
        position += 1 + size
    return command | sequences, not flags & MORE_TO_COME


def encode_reply(operation: int, request: int, reply: dict[str, Any]) -> bytes:
    """The reply to a message of an operation code, as bytes."""
    if operation == OP_QUERY:
        code, body = OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(reply)
    else:
        code, body = OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(reply)
    return struct.pack("<iiii", 16 + len(body), 0, request, code) + body


class Journal:
    """The write commands, one BSON document after another, each on the disk before it is acknowledged."""

    def __init__(self, path: Path) -> None:
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{path} is in use by another server") from None

    def replay(self) -> Iterator[dict[str, Any]]:
        """All complete commands; the rest of a broken last one is cut off."""
        good = 0
        with os.fdopen(os.dup(self.file.fileno()), "rb") as reader:
            while len(head := reader.read(4)) == 4:
                record = head + reader.read(struct.unpack("<i", head)[0] - 4)
                try:
                    command = bson.decode(record, CODEC)
                except bson.errors.InvalidBSON:
                    break
                yield command
                good += len(record)
        self.file.truncate(good)
        self.file.seek(good)

    def append(self, command: dict[str, Any]) -> None:
        """Write a command, which then outlives this process, though not the machine."""
        record = memoryview(bson.encode(command))
        while record:
            record = record[self.file.write(record) :]


class Server(socketserver.ThreadingTCPServer):
    """The server on 127.0.0.1, a thread for each connection, its data that of the journal."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, data: Path) -> None:
        self.lock = threading.Lock()
        self.commands = Commands()
        self.journal = Journal(data)
        for command in self.journal.replay():
            self.commands.run(command)
        super().__init__(("127.0.0.1", port), Handler)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run a command; one that failed is kept in the journal as well, for what it did before it failed."""
        name = next(iter(command))
        if name in STATELESS:
            return self.commands.run(command)
        with self.lock:
            reply = self.commands.run(command)
            if name in WRITES:
                self.journal.append(command)
        return reply


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    disable_nagle_algorithm = True
    server: Server
    rfile: BinaryIO

    def handle(self) -> None:
        try:
            while len(head := self.rfile.read(16)) == 16:
                length, request, _, operation = struct.unpack("<iiii", head)
                command, waits = decode_message(operation, self.rfile.read(length - 16))
                reply = self.server.answer(command)
                if waits:
                    self.wfile.write(encode_reply(operation, request, reply))
        except ConnectionError:
            return
