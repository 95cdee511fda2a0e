"""A small MongoDB server for the tests: the real wire protocol in front of mongomock-ng, durable through a journal.

Any process can talk to it with pymongo, as to a real standalone server, so jobflow-remote's daemon, its command line
and its job processes are tested as they are. What it does not know it refuses with an error; it never ignores an option
that changes an answer. It is slow (no index is used for a look-up) and keeps everything in memory.

``python -m tests.support.mongo_server --port 0 --data FILE`` prints the port once it is ready.
"""
