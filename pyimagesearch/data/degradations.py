"""Degradations of low-resolution images: blur, reduction, noise and JPEG, at random or with fixed strengths.

The random model is a milder form of the one of Real-ESRGAN (Wang et al., arXiv 2107.10833). It imitates photographs as
phones and web sites store them.
"""

import contextlib
import dataclasses

import cv2
import numpy as np
from PIL import Image

from pyimagesearch.metrics import to_uint8

JPEG_UNIT = 16
"""The side in pixels of a coding unit of JPEG with colours at half the resolution (4:2:0)."""

REDUCTIONS = ("area", "bilinear", "bicubic")
"""The methods of reduction. All of them are antialiased."""

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Model:
    """The probability of each degradation in 0..1, and the range of its strength, which is drawn uniformly.

    The unit of `blur_sigma` is pixels of the result. The units of `noise_sigma` and `noise_gain` are those of
    `add_noise`.
    """

    clean: float = 0.2  # of images: only the reduction of the record
    blur: float = 0.3
    blur_sigma: Range = (0.1, 0.75)
    anisotropic: float = 0.4  # of blurred images: blur with two standard deviations
    twice: float = 0.2  # reduction, noise and JPEG in two rounds
    sharpening: float = 0.2
    sharpening_amount: Range = (0.1, 0.5)
    gaussian_noise: float = 0.3
    noise_sigma: Range = (0.5, 6.0)
    poisson_noise: float = 0.15
    noise_gain: Range = (0.01, 0.15)
    grey_noise: float = 0.4  # of noisy images: the same noise in all channels
    jpeg: float = 0.85
    jpeg_quality: Range = (40, 97)
    subsampled: float = 0.7  # of JPEG images: colours at half the resolution


PHOTO = Model()
"""The model of the degradation "photo"."""


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Degradations of a low-resolution image with fixed strengths, in the order in which they are applied.

    Attributes:
        blur: the standard deviation of a Gaussian blur in pixels. 0: no blur.
        noise: the standard deviation of Gaussian noise in levels of 0..255. 0: no noise.
        jpeg: the JPEG quality from 1 to 100. 0: no JPEG.
    """

    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0

    def __str__(self) -> str:
        """Return a description such as "blur 1, JPEG 75"."""
        named = {"blur": self.blur, "noise": self.noise, "JPEG": self.jpeg}
        return ", ".join(f"{name} {strength:g}" for name, strength in named.items() if strength) or "clean"

    def apply(self, lr: np.ndarray, *seed: int) -> np.ndarray:
        """Degrade an image.

        Args:
            lr: uint8 RGB [h, w, 3].
            *seed: integers that determine the noise.

        Returns:
            As `lr`.
        """
        if self.blur:
            lr = blur(lr, self.blur)
        if self.noise:
            lr = add_noise(lr, self.noise, np.random.default_rng(seed))
        return jpeg(lr, self.jpeg) if self.jpeg else lr


_STRONGEST = Fixed(blur=20, noise=100, jpeg=100)


def parse(text: str) -> Fixed:
    """Read degradations from text such as "jpeg:75,noise:5,blur:1.0", in any order, or from "clean".

    Args:
        text: degradations `NAME:STRENGTH` that are separated by commas.

    Raises:
        ValueError: a degradation is unknown or repeated, or its strength is out of range.
    """
    strengths = {}
    for part in text.split(",") if text != "clean" else ():
        name, _, strength = part.partition(":")
        if name not in Fixed.__dataclass_fields__ or name in strengths:
            raise ValueError(f"{part!r} in {text!r}; give each of blur, noise and jpeg once, such as jpeg:75,noise:5")
        strengths[name] = _strength(name, strength)
    return Fixed(**strengths)


def _strength(name: str, text: str) -> float:
    strongest = getattr(_STRONGEST, name)
    with contextlib.suppress(ValueError):
        strength = int(text) if name == "jpeg" else float(text)
        if 0 < strength <= strongest:
            return strength
    kind = "a whole number from 1" if name == "jpeg" else "a number above 0 and up"
    raise ValueError(f"{name}:{text} is not {kind} to {strongest}")


def degrade(hr: np.ndarray, scale: int, rng: np.random.Generator, model: Model = PHOTO) -> np.ndarray:
    """Make a low-resolution image with random degradations, as of a photograph that was edited, stored and published.

    First it is reduced by area to twice the result's size, which costs little and keeps all that the result can show.
    There it is blurred, then in one or two rounds reduced, sharpened, made noisy and stored as JPEG; each of these at
    random. The same generator in the same state gives the same result.

    Args:
        hr: uint8 RGB [scale * h, scale * w, 3].
        scale: the factor of the reduction.
        rng: the random generator.
        model: the probabilities and strengths.

    Returns:
        uint8 RGB [h, w, 3].
    """
    height, width = (side // scale for side in hr.shape[:2])
    image = _random_blur(reduce(hr, 2 * height, 2 * width, "area"), 2, rng, model)
    if rng.random() < model.twice:
        larger = rng.uniform(1, 2)
        image = _random_round(image, round(larger * height), round(larger * width), rng, model)
    return _random_round(image, height, width, rng, model)


def degrade_often(hr: np.ndarray, scale: int, count: int, *seed: int, model: Model = PHOTO) -> np.ndarray:
    """Return several results of `degrade`.

    Args:
        hr: uint8 RGB [S*h, S*w, 3].
        scale: the scaling factor S.
        count: the number of results.
        *seed: integers that determine the results.
        model: the probabilities and strengths.

    Returns:
        uint8 RGB [count, h, w, 3].
    """
    return np.stack([degrade(hr, scale, np.random.default_rng((*seed, number)), model) for number in range(count)])


def _random_blur(image: np.ndarray, unit: int, rng: np.random.Generator, model: Model) -> np.ndarray:
    """Blur an image, uint8 [H, W, 3], which will be reduced by the factor `unit`."""
    if rng.random() >= model.blur:
        return image
    sigma, other_sigma = unit * rng.uniform(*model.blur_sigma, 2)
    if rng.random() >= model.anisotropic:
        return blur(image, sigma)
    return cv2.filter2D(image, -1, gaussian_kernel(sigma, other_sigma, rng.uniform(0, np.pi)))


def _random_round(image: np.ndarray, height: int, width: int, rng: np.random.Generator, model: Model) -> np.ndarray:
    """Reduce an image [H, W, 3] to [height, width, 3], then apply sharpening, noise and JPEG at random."""
    image = reduce(image, height, width, REDUCTIONS[rng.integers(len(REDUCTIONS))])
    if rng.random() < model.sharpening:
        image = sharpen(image, rng.uniform(*model.sharpening_amount))
    sigma = rng.uniform(*model.noise_sigma) if rng.random() < model.gaussian_noise else 0
    gain = rng.uniform(*model.noise_gain) if rng.random() < model.poisson_noise else 0
    if sigma or gain:
        image = add_noise(image, sigma, rng, gain, grey=rng.random() < model.grey_noise)
    if rng.random() < model.jpeg:
        quality, offset = round(rng.uniform(*model.jpeg_quality)), rng.integers(JPEG_UNIT, size=2)
        image = jpeg(image, quality, subsampled=rng.random() < model.subsampled, offset=tuple(map(int, offset)))
    return image


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur an image, uint8 [H, W, 3], with a Gaussian whose standard deviation is `sigma` pixels.

    Args:
        image: uint8 [H, W, 3].
        sigma: in pixels, above 0.

    Returns:
        As `image`.
    """
    return cv2.GaussianBlur(image, (0, 0), sigma)


def gaussian_kernel(sigma: float, other_sigma: float, angle: float) -> np.ndarray:
    """Return an anisotropic Gaussian kernel (Real-ESRGAN, arXiv 2107.10833, equations 2 and 3).

    Args:
        sigma: the standard deviation along the first axis, in pixels, above 0.
        other_sigma: the standard deviation along the second axis, in pixels, above 0.
        angle: the angle from the horizontal direction to the first axis, in radians.

    Returns:
        float32 [K, K] with the sum 1. K is odd, and the kernel extends to three standard deviations.
    """
    radius = int(np.ceil(3 * max(sigma, other_sigma)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-((along / sigma) ** 2 + (across / other_sigma) ** 2) / 2)
    return (kernel / kernel.sum()).astype(np.float32)


def reduce(image: np.ndarray, height: int, width: int, method: str) -> np.ndarray:
    """Reduce an image, uint8 [H, W, 3], to uint8 [height, width, 3] with one of `REDUCTIONS`.

    Args:
        image: uint8 [H, W, 3].
        height: the height of the result in pixels.
        width: the width of the result in pixels.
        method: one of `REDUCTIONS`.
    """
    if (height, width) == image.shape[:2]:
        return image
    if method == "area":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[method.upper()]))


def sharpen(image: np.ndarray, amount: float, sigma: float = 1.0) -> np.ndarray:
    """Sharpen an image with unsharp masking.

    Args:
        image: uint8 [H, W, 3].
        amount: the factor of the difference between the image and its blurred copy, which is added.
        sigma: the standard deviation of the blur in pixels.
    """
    return cv2.addWeighted(image, 1 + amount, blur(image, sigma), -amount, 0)


def add_noise(
    image: np.ndarray, sigma: float, rng: np.random.Generator, gain: float = 0.0, grey: bool = False
) -> np.ndarray:
    """Add the noise of an image sensor: Gaussian noise, and Poisson noise in its Gaussian approximation.

    The variance at a value x is sigma² + gain x; see Foi et al., "Practical Poissonian-Gaussian noise modeling and
    fitting for single-image raw-data", IEEE Transactions on Image Processing 17 (10), 2008.

    Args:
        image: uint8 [H, W, 3].
        sigma: the standard deviation of the Gaussian part, in levels of 0..255.
        rng: the random generator.
        gain: the gain of the Poisson part, in levels for each photon.
        grey: whether all three channels get the same noise.

    Returns:
        uint8 [H, W, 3].
    """
    levels = image.mean(axis=-1, keepdims=True, dtype=np.float32) if grey else image  # [H, W, 1] or [H, W, 3]
    noise = rng.standard_normal(levels.shape, np.float32)
    noise *= np.sqrt(np.float32(sigma**2) + np.float32(gain) * levels) if gain else np.float32(sigma)
    return to_uint8(image + noise)


def jpeg(image: np.ndarray, quality: int, subsampled: bool = True, offset: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Store an image as JPEG and read it again.

    Args:
        image: uint8 RGB [H, W, 3].
        quality: the quality of libjpeg, from 1 to 100.
        subsampled: whether colours are stored at half the resolution (4:2:0).
        offset: the position of the image in the grid of JPEG blocks, in rows and columns, each below `JPEG_UNIT`.

    Returns:
        uint8 RGB [H, W, 3].
    """
    top, left = offset
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    whole = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REFLECT_101)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(whole, cv2.COLOR_RGB2BGR), options)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)[top:, left:]
