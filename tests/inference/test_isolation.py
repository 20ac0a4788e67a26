import os
import pathlib
import socket
import subprocess
import sys

from pyimagesearch.inference import isolation

ROOT = pathlib.Path(__file__).parents[2]
CONNECT = """
import asyncio, socket, sys
sys.path.insert(0, "ROOT")
from pyimagesearch.inference.isolation import refuse_connections
refuse_connections()
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
socket.socketpair()

async def connect():
    with socket.socket() as other:
        other.setblocking(False)
        await asyncio.get_running_loop().sock_connect(other, ("192.0.2.1", 80))

attempts = [
    lambda: socket.create_connection(("192.0.2.1", 80), 1),
    lambda: socket.getaddrinfo("name.invalid", 80),
    lambda: asyncio.run(connect()),
]
for attempt in attempts:
    try:
        attempt()
    except PermissionError as error:
        print(error)
""".replace("ROOT", str(ROOT))


def test_only_this_machine_is_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", CONNECT, str(server.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        server.settimeout(5)
        server.accept()[0].close()
    assert done.stderr == "" and done.stdout.count("this program connects only to this machine") == 3


def test_gradio_gets_no_variables_but_those_that_are_set_here(monkeypatch):
    monkeypatch.setattr(os, "environ", {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "true", "HOME": "/root"})
    isolation.set_environment("/somewhere")
    assert os.environ == {
        "HOME": "/root",
        "GRADIO_TEMP_DIR": "/somewhere",
        "GRADIO_EXAMPLES_CACHE": "/somewhere/examples",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
