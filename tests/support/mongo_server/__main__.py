"""Start the server: ``python -m tests.support.mongo_server --port 0 --data FILE``."""

import argparse
from pathlib import Path

from tests.support.mongo_server.server import Server

parser = argparse.ArgumentParser(prog="python -m tests.support.mongo_server")
parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the port is printed")
parser.add_argument("--data", type=Path, required=True, help="the journal; read first where it exists")
arguments = parser.parse_args()

with Server(arguments.port, arguments.data) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
