"""Stand for a process that the server forks: ``python -ISs client.py SOCKET ENTRY COMMAND ARGUMENT...``.

Imports nothing that is not built in, to start in milliseconds.
"""

import _signal
import _socket
import posix
import sys

FORWARDED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)


def main(path: str, *command: str) -> None:
    """Hand everything over, wait for the end, and end alike."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(path)
    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, lambda number, _: server.send(bytes([number])))
    words = [word.encode(errors="surrogateescape") for word in command]
    environment = [name + b"=" + value for name, value in posix.environ.items()]
    request = b"\0".join([b"%d" % posix.getpid(), posix.getcwdb(), b"%d" % len(words), *words, *environment])
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    server.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    server.sendall(request)
    status = server.recv(4)
    if not status:
        raise SystemExit("The server of warm commands ended")
    code = int.from_bytes(status, "big", signed=True)
    if code < 0:
        _signal.signal(-code, _signal.SIG_DFL) if -code != _signal.SIGKILL else None
        posix.kill(posix.getpid(), -code)
    raise SystemExit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
