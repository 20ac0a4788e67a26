"""The sizes of results."""

from typing import NamedTuple


class OutputSize(NamedTuple):
    """The size of results. Without any value, it is the size that the generator computes.

    Attributes:
        scale: the size relative to the input.
        width: the width in pixels. The height keeps the aspect ratio, unless it is given, too.
        height: the height in pixels. The width keeps the aspect ratio, unless it is given, too.
        long_side: the longer side in pixels. The other side keeps the aspect ratio.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    long_side: int | None = None

    def of(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """Return the height and width of the result for an input.

        Args:
            height: the height of the input in pixels.
            width: the width of the input in pixels.
            scale: the scaling factor of the generator.
        """
        if self.width and self.height:
            return self.height, self.width
        if self.long_side:
            scale = self.long_side / max(height, width)
        elif self.width:
            scale = self.width / width
        elif self.height:
            scale = self.height / height
        else:
            scale = self.scale or scale
        return max(1, round(scale * height)), max(1, round(scale * width))


NATURAL = OutputSize()
"""The size that the generator computes."""
