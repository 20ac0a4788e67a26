#!/usr/bin/env python3
"""Upscale images and videos in a browser, as inference.py does on the command line.

Examples:
    python app.py                                         # open http://127.0.0.1:7860
    python app.py --model outputs/models/generator.keras  # offer a generator of your own, too
    python app.py --host 0.0.0.0 --max-upload 20          # for everyone in the network

It needs pip install -r requirements-app.txt, and for videos pip install -r requirements-video.txt.
"""

import argparse
import functools
import importlib.util
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
from pyimagesearch import devices, readers
from pyimagesearch.errors import UserError
from pyimagesearch.inference import isolation, sessions, upscaling
from pyimagesearch.inference.service import Service

KEPT = 4
"""How many upscalers stay in memory."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine (%(default)s)")
    add("--port", type=readers.port, default=7860, help="port to listen at (%(default)s)")
    add("--model", metavar="PATH", help="a generator to offer besides those that come with the project")
    add("--max-upload", type=readers.positive_int, default=100, metavar="MB", help="largest upload (%(default)s)")
    add(
        "--max-pixels",
        type=readers.positive_int,
        default=16,
        metavar="N",
        help="largest image or video frame, in millions of pixels (%(default)s)",
    )
    add("--max-queue", type=readers.positive_int, default=20, metavar="N", help="how many users can wait (%(default)s)")
    return parser.parse_args(argv)


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until the program is stopped."""
    args = parse_args(argv)
    if not importlib.util.find_spec("gradio"):
        raise UserError("Gradio is not installed; install it with pip install -r requirements-app.txt")
    strategy = devices.get_strategy("gpu", None)
    load = functools.lru_cache(KEPT)(upscaling.load_upscaler)
    if args.model:
        with strategy.scope():
            load((args.model,), None)
    with sessions.temporary_root() as root:
        isolation.set_environment(root)
        from pyimagesearch.inference import page  # which needs Gradio and the environment

        service = Service(strategy, load, args.max_pixels * 10**6, args.model)
        shown = page.Page(service, sessions.Sessions(root))
        address = shown.serve(args.host, args.port, args.max_upload * 2**20, args.max_queue)
        isolation.refuse_connections()
        logging.info("open %s in a browser; Ctrl-C stops the program", address)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed then, too
    sys.exit(main())
