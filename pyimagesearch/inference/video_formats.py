"""File name endings and encodings of videos. This module does not need PyAV, which is optional."""

import dataclasses
import importlib.util
import os
from typing import Any

from PIL import Image

CODECS = ("h264", "hevc", "ffv1")
"""The codecs of results. ffv1 is lossless."""

VIDEO_ENDINGS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm"),
    *(".wmv", ".y4m"),
)
"""The file name endings of videos."""

ANIMATED_ENDINGS = (".apng", ".gif", ".png", ".webp")
"""The file name endings of images that can be animated."""

RESULT_ENDINGS = (".mp4", ".mkv", ".mov")
"""The file name endings of upscaled videos."""

NO_PYAV = "videos are read by PyAV, which is not installed; install it with pip install -r requirements-video.txt"
"""The error message if PyAV is missing."""


@dataclasses.dataclass(frozen=True)
class VideoSettings:
    """The encoding of results. `crf` is the quality of h264 and hevc: 0 is the best, 51 the worst."""

    codec: str = "h264"
    crf: int = 17

    @property
    def ending(self) -> str:
        """The file name ending of results. FFV1 is written to .mkv because .mp4 does not support it."""
        return ".mkv" if self.codec == "ffv1" else ".mp4"

    @property
    def described(self) -> dict[str, Any]:
        """The settings that change the result."""
        return {"codec": self.codec} if self.codec == "ffv1" else dataclasses.asdict(self)


def is_available() -> bool:
    """Return whether PyAV, which reads and writes videos, is installed."""
    return importlib.util.find_spec("av") is not None


def is_animated(path: str) -> bool:
    """Return whether a file is an image of several frames. Return False if it cannot be read."""
    if not path.lower().endswith(ANIMATED_ENDINGS) or not os.path.isfile(path):
        return False
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # errors are reported when the file is read
        return False
