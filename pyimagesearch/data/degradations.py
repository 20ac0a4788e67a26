"""What happens to photographs before they are small: blur, reduction, noise and JPEG, drawn at random or as told.

The random model is that of Real-ESRGAN (Wang et al., arXiv 2107.10833), milder: it makes what phones and web sites
write, not ruined thumbnails.
"""

import contextlib
import dataclasses

import cv2
import numpy as np
from PIL import Image

from pyimagesearch.metrics import to_uint8

JPEG_UNIT = 16
"""The side in pixels of what JPEG encodes together where colours have half the resolution."""

REDUCTIONS = ("area", "bilinear", "bicubic")
"""How images become smaller; all of them antialias."""

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Model:
    """How often each degradation occurs, from 0 to 1, and the range that its strength is drawn from, uniformly.

    `sigma` of blur is in pixels of the result; `sigma` of noise and `gain` are those of `add_noise`.
    """

    clean: float = 0.2  # of crops and images: nothing but the reduction that the record has
    blur: float = 0.3
    blur_sigma: Range = (0.1, 0.75)
    anisotropic: float = 0.4  # of blurs
    twice: float = 0.2  # reduced, with noise and JPEG, in two rounds
    sharpening: float = 0.2
    sharpening_amount: Range = (0.1, 0.5)
    gaussian_noise: float = 0.3
    noise_sigma: Range = (0.5, 6.0)
    poisson_noise: float = 0.15
    noise_gain: Range = (0.01, 0.15)
    grey_noise: float = 0.4  # of noises
    jpeg: float = 0.85
    jpeg_quality: Range = (40, 97)
    subsampled: float = 0.7  # of JPEGs: colours at half the resolution


PHOTO = Model()
"""What the kind "photo" draws from."""


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Degradations of a low-resolution image in the order in which they occur, each of a set strength; 0 is none.

    `blur` is the standard deviation of a Gaussian in pixels, `noise` that of Gaussian noise in levels, `jpeg` a quality
    from 1 to 100.
    """

    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0

    def __str__(self) -> str:
        """Name what is done, such as "blur 1, JPEG 75"."""
        named = {"blur": self.blur, "noise": self.noise, "JPEG": self.jpeg}
        return ", ".join(f"{name} {strength:g}" for name, strength in named.items() if strength) or "clean"

    def apply(self, lr: np.ndarray, *seed: int) -> np.ndarray:
        """Return a degraded image, uint8 RGB [h, w, 3] as it is given; the seed settles the noise."""
        if self.blur:
            lr = blur(lr, self.blur)
        if self.noise:
            lr = add_noise(lr, self.noise, np.random.default_rng(seed))
        return jpeg(lr, self.jpeg) if self.jpeg else lr


_STRONGEST = Fixed(blur=20, noise=100, jpeg=100)


def parse(text: str) -> Fixed:
    """Read degradations such as "jpeg:75,noise:5,blur:1.0", in any order; "clean" is none.

    Raises:
        ValueError: an unknown degradation, one that is there twice, or a strength that does not fit.
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
    """Reduce an image as a photograph is that has been taken, edited, stored and published.

    First it is reduced by area to twice the result's size, which costs little and keeps all that the result can show.
    There it is blurred, then in one or two rounds reduced, sharpened, made noisy and stored as JPEG; each of these at
    random. The same generator in the same state gives the same result.

    Args:
        hr: uint8 RGB [scale * h, scale * w, 3].
        scale: how many times smaller the result is.
        rng: what draws everything.
        model: how often and how much.

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
    """Return so many results of `degrade`, uint8 RGB [count, h, w, 3], each a function of its number and the seed."""
    return np.stack([degrade(hr, scale, np.random.default_rng((*seed, number)), model) for number in range(count)])


def _random_blur(image: np.ndarray, unit: int, rng: np.random.Generator, model: Model) -> np.ndarray:
    """Blur an image, uint8 [H, W, 3], of which `unit` pixels become one of the result."""
    if rng.random() >= model.blur:
        return image
    sigma, other_sigma = unit * rng.uniform(*model.blur_sigma, 2)
    if rng.random() >= model.anisotropic:
        return blur(image, sigma)
    return cv2.filter2D(image, -1, gaussian_kernel(sigma, other_sigma, rng.uniform(0, np.pi)))


def _random_round(image: np.ndarray, height: int, width: int, rng: np.random.Generator, model: Model) -> np.ndarray:
    """Reduce an image [H, W, 3] to [height, width, 3] and do to it what is done at that size."""
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
    """Blur an image, uint8 [H, W, 3], by a Gaussian of `sigma` pixels."""
    return cv2.GaussianBlur(image, (0, 0), sigma)


def gaussian_kernel(sigma: float, other_sigma: float, angle: float) -> np.ndarray:
    """Return a Gaussian whose axes differ: Real-ESRGAN, arXiv 2107.10833, equations 2 and 3.

    Args:
        sigma: the standard deviation along the first axis, in pixels, above 0.
        other_sigma: that along the second.
        angle: from the columns' direction to the first axis, in radians.

    Returns:
        float32 [K, K] with the sum 1; K is odd, and the kernel reaches three standard deviations.
    """
    radius = int(np.ceil(3 * max(sigma, other_sigma)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-((along / sigma) ** 2 + (across / other_sigma) ** 2) / 2)
    return (kernel / kernel.sum()).astype(np.float32)


def reduce(image: np.ndarray, height: int, width: int, method: str) -> np.ndarray:
    """Reduce an image, uint8 [H, W, 3], to [height, width, 3] by one of `REDUCTIONS`."""
    if (height, width) == image.shape[:2]:
        return image
    if method == "area":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[method.upper()]))


def sharpen(image: np.ndarray, amount: float, sigma: float = 1.0) -> np.ndarray:
    """Sharpen an image, uint8 [H, W, 3]: add so many times its difference from itself blurred (unsharp masking)."""
    return cv2.addWeighted(image, 1 + amount, blur(image, sigma), -amount, 0)


def add_noise(
    image: np.ndarray, sigma: float, rng: np.random.Generator, gain: float = 0.0, grey: bool = False
) -> np.ndarray:
    """Add the noise of a sensor: Gaussian, and Poisson of a gain in the usual Gaussian approximation.

    The variance at a value x is sigma² + gain x: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting
    for single-image raw-data", IEEE Transactions on Image Processing 17 (10), 2008.

    Args:
        image: uint8 [H, W, 3].
        sigma: the standard deviation of the Gaussian part, in levels.
        rng: what draws the noise.
        gain: levels for each particle of light that is counted.
        grey: whether the three channels have the same noise.

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
        quality: from 1 to 100, as libjpeg counts.
        subsampled: whether colours are stored at half the resolution (4:2:0).
        offset: where in the grid of JPEG's blocks the image begins, in rows and columns below `JPEG_UNIT`.

    Returns:
        uint8 RGB [H, W, 3].
    """
    top, left = offset
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    whole = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REFLECT_101)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(whole, cv2.COLOR_RGB2BGR), options)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)[top:, left:]
