"""Upscale images and videos that users have sent, within limits, and report the progress."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pyimagesearch.config import SHIPPED_GENERATORS
from pyimagesearch.data.image_io import read_image, read_size
from pyimagesearch.errors import UserError
from pyimagesearch.inference import batch, jobs, previews
from pyimagesearch.inference.generators import needed_for
from pyimagesearch.inference.jobs import Job
from pyimagesearch.inference.previews import Difference, Pair
from pyimagesearch.inference.sessions import Session
from pyimagesearch.inference.upscaling import Upscaler, upscale_image

MAX_FILES = 20
"""The largest number of images that are upscaled in one computation."""

Tell = Callable[[float], None]
"""Is called with the part of a computation that is done, from 0 to 1."""

Load = Callable[[tuple[str, ...], float | None], Upscaler]
"""Returns the upscaler of one generator, or of two and `alpha`, as `upscaling.load_upscaler` does."""


class Result(NamedTuple):
    """An upscaled image: the path of the file, and previews of before and after."""

    path: str
    pair: Pair


class Outcome(NamedTuple):
    """The results of a computation, and one line for each file that has none."""

    results: list[Result]
    failures: list[str]


class _Work:
    """A computation of a known size. It reports its progress, and ends when the user stops it."""

    def __init__(self, session: Session, pixels: int, tell: Tell) -> None:
        self._session, self._pixels, self._tell = session, max(1, pixels), tell
        self._done = 0

    def count(self, pixels: float) -> None:
        """Note that so many more pixels of the input are done."""
        self._session.check()
        self._done += pixels
        self._tell(min(1, self._done / self._pixels))


class _Watched(Upscaler):
    """An upscaler whose tiles are counted by a `_Work`."""

    def __init__(self, upscale: Upscaler, work: _Work) -> None:
        self.scale, self._upscaler, self._work = upscale.scale, upscale, work

    def __call__(self, lr: np.ndarray, progress: Callable[[float], None] | None = None) -> np.ndarray:
        self._work.count(0)
        return self._upscaler(lr, self._work.count)


class Service:
    """Upscales images and videos for sessions.

    Attributes:
        generators: the paths of the generators, by name.
    """

    def __init__(self, strategy: tf.distribute.Strategy, load: Load, max_pixels: int, own: str | None = None) -> None:
        """Offer the generators that come with the project.

        Args:
            strategy: the devices that compute.
            load: is called for each computation. It should remember the last upscalers.
            max_pixels: the largest number of pixels of an image or of a frame.
            own: the path of one more generator.
        """
        self._strategy, self._load, self._max_pixels = strategy, load, max_pixels
        self.generators = ({os.path.basename(own): own} if own else {}) | SHIPPED_GENERATORS

    def check_image(self, source: str) -> int:
        """Return the number of pixels of an image.

        Raises:
            UserError: it is not an image, or has too many pixels.
        """
        with _told(source):
            return self._check_pixels(*read_size(source))

    def upscale_images(
        self, session: Session, sources: Sequence[str], name: str, alpha: float, form: str, tell: Tell
    ) -> Outcome:
        """Upscale images, and make previews of before and after.

        Args:
            session: the user.
            sources: paths of images.
            name: one of `generators`.
            alpha: for the generator "srgan": its part in the interpolation with "pretrained", from 0 to 1.
            form: one of `image_io.FORMATS`.
            tell: see `Tell`.

        Raises:
            UserError: there is no file, or there are too many.
            StopRequest: the user has stopped the computation or has left.
        """
        if not 0 < len(sources) <= MAX_FILES:
            raise UserError(f"choose 1 to {MAX_FILES} images" if sources else "choose an image first")
        with session.computation() as folder, self._strategy.scope():
            planned, pixels, failures = self._plan(sources, folder, form)
            upscale = self._watched(name, alpha, _Work(session, pixels, tell))
            done: list[Job] = []
            for source, reason in batch.run(planned, upscale, done=done.append):
                failures.append(f"{os.path.basename(source)}: {_without(folder, reason)}")
            return Outcome([_result(job) for job in done], failures)

    def _plan(self, sources: Sequence[str], folder: str, form: str) -> tuple[list[Job], int, list[str]]:
        """Return jobs for the images, the number of their pixels, and a line for each file that is refused."""
        planned, pixels, failures = [], 0, []
        for number, source in enumerate(sources):
            try:
                pixels += self.check_image(source)
                planned += jobs.Plan([source], os.path.join(folder, str(number)), form)
            except UserError as error:
                failures.append(str(error))
        return planned, pixels, failures

    def upscale_video(self, session: Session, source: str, name: str, tell: Tell) -> str:
        """Upscale a video or an animated image.

        Args:
            session: the user.
            source: the path of the video.
            name: one of `generators`.
            tell: see `Tell`.

        Returns:
            The path of the result.

        Raises:
            UserError: it is not a video, its frames have too many pixels, or PyAV is not installed.
            StopRequest: the user has stopped the computation or has left.
        """
        with session.computation() as folder, self._strategy.scope(), _told(source):
            (job,) = jobs.Plan([source], folder, "png", animated=True)
            if not job.is_video:
                raise UserError("is not a video; upscale it as an image")
            upscale = self._watched(name, 1, _Work(session, self._check_video(source), tell))
            for failure in batch.run([job], upscale):
                raise UserError(_without(folder, failure.reason))
            return job.target

    def show_invented(self, session: Session, source: str, tell: Tell) -> tuple[Pair, Difference]:
        """Show what SRGAN draws that the pretrained generator does not draw.

        Args:
            session: the user.
            source: the path of an image.
            tell: see `Tell`.

        Returns:
            Previews of the result of SRGAN and of the heat map of the difference, and how large it is.

        Raises:
            UserError: it cannot be read, or has too many pixels.
            StopRequest: the user has stopped the computation or has left.
        """
        pixels = self.check_image(source)
        with session.computation() as folder, self._strategy.scope(), _told(source):
            work, image = _Work(session, 2 * pixels, tell), read_image(source)
            results = [upscale_image(image, self._watched("srgan", alpha, work)) for alpha in (1, 0)]
            return previews.write_heat_map(folder, *results)

    def _watched(self, name: str, alpha: float, work: _Work) -> Upscaler:
        paths = [self.generators[name]], None
        if name == "srgan":
            paths = needed_for(SHIPPED_GENERATORS["pretrained"], SHIPPED_GENERATORS["srgan"], alpha)
        work.count(0)  # shows the progress while the generator is loaded
        return _Watched(self._load(tuple(paths[0]), paths[1]), work)

    def _check_video(self, source: str) -> int:
        """Return the number of pixels of all frames."""
        from pyimagesearch.inference.video_reading import open_video  # which needs PyAV

        video = open_video(source)
        return video.count * self._check_pixels(video.first.image.height, video.first.image.width)

    def _check_pixels(self, height: int, width: int) -> int:
        if height * width > self._max_pixels:
            raise UserError(f"{width}x{height} pixels are more than the limit of {self._max_pixels:,}; make it smaller")
        return height * width


@contextlib.contextmanager
def _told(source: str) -> Iterator[None]:
    """Turn all errors into a UserError of one line that names the file without its folder."""
    try:
        if not os.path.exists(source):
            raise UserError("was removed meanwhile; add it again")
        yield
    except Exception as error:
        reason = batch.why(error).removeprefix(f"{source}: ")
        raise UserError(f"{os.path.basename(source)}: {reason}") from error


def _without(folder: str, text: str) -> str:
    """Return a text in which paths below a folder are only names."""
    return re.sub(re.escape(folder) + r"(/\d+)?/", "", text)


def _result(job: Job) -> Result:
    before, after = read_image(job.source), read_image(job.target, limited=False)
    folder = os.path.join(os.path.dirname(job.target), "previews")
    return Result(job.target, previews.write_before_and_after(folder, before, after))
