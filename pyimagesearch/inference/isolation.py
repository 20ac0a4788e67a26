"""Keep Gradio to the files of its users and to this machine."""

import os
import sys
from typing import Any

_LOCAL = ("127.0.0.1", "::1", "localhost")


def set_environment(root: str) -> None:
    """Set the environment variables of Gradio, which must not have been imported.

    Other variables of Gradio are removed, because some of them give access to the page or to files.

    Args:
        root: the folder of uploads and results.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = root
    os.environ["GRADIO_EXAMPLES_CACHE"] = os.path.join(root, "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def refuse_connections() -> None:
    """Let this program connect only to this machine, and look up no other names. It still accepts connections.

    Otherwise Gradio fetches a file from any address that a user sends. This cannot be undone.
    """

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        elif event == "socket.getaddrinfo":
            host = arguments[0]
        else:
            return
        if host not in _LOCAL:
            raise PermissionError(f"{host}: this program connects only to this machine")

    sys.addaudithook(check)
