"""Which files are videos, and how results are written; known without PyAV, which is optional."""

import dataclasses
import importlib.util
import os
from typing import Any

from PIL import Image

CODECS = ("h264", "hevc", "ffv1")
"""How results can be encoded; ffv1 is without loss."""

VIDEO_ENDINGS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm"),
    *(".wmv", ".y4m"),
)
"""What the names of videos end with, in a folder."""

ANIMATED_ENDINGS = (".apng", ".gif", ".png", ".webp")
"""What the names of images end with that can be animated."""

RESULT_ENDINGS = (".mp4", ".mkv", ".mov")
"""What the names of the results of videos can end with."""

NO_PYAV = "videos are read by PyAV, which is not installed; install it with pip install -r requirements-video.txt"
"""The error message if PyAV is missing."""


@dataclasses.dataclass(frozen=True)
class VideoSettings:
    """How results are encoded: `crf` is the quality of h264 and hevc, 0 the best and 51 the worst."""

    codec: str = "h264"
    crf: int = 17

    @property
    def ending(self) -> str:
        """What the names of results end with: browsers do not play FFV1, and .mp4 does not hold it."""
        return ".mkv" if self.codec == "ffv1" else ".mp4"

    @property
    def described(self) -> dict[str, Any]:
        """What results depend on."""
        return {"codec": self.codec} if self.codec == "ffv1" else dataclasses.asdict(self)


def is_available() -> bool:
    """Return whether PyAV is installed, without which no video is read."""
    return importlib.util.find_spec("av") is not None


def is_animated(path: str) -> bool:
    """Return whether a file is an image of more than one frame; a file that cannot be read is not."""
    if not path.lower().endswith(ANIMATED_ENDINGS) or not os.path.isfile(path):
        return False
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # what is wrong with it is told when it is read
        return False
