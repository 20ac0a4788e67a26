"""Keras callbacks for progress, validation, tables, curves, TensorBoard and warnings.

All callbacks share the logs of an epoch. Therefore callbacks that add values come before callbacks that write them.
"""

import csv
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pyimagesearch import metrics, utils
from pyimagesearch.evaluation import scores
from pyimagesearch.files import save_figure, written_whole
from pyimagesearch.inference import upscaling

Logs = dict[str, float]


class Progress(keras.callbacks.Callback):
    """Shows a progress bar at a terminal, and otherwise logs a line for each epoch.

    Both show the images per second and the remaining time of the stage. Adds `images_per_second` to the logs.
    """

    def __init__(self, title: str, global_batch_size: int) -> None:
        """Create the callback.

        Args:
            title: the title of the stage.
            global_batch_size: the number of images in a step, on all accelerators.
        """
        super().__init__()
        self.title = title
        self.global_batch_size = global_batch_size

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.taken = 0
        self.left = self.params["epochs"] * self.params["steps"] - logs["step"]
        self.began = time.monotonic()
        self.bar = tqdm(
            desc=self.title,
            total=self.params["epochs"] * self.params["steps"] * self.global_batch_size,
            initial=logs["step"] * self.global_batch_size,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
        )
        self.redirection = logging_redirect_tqdm()
        self.redirection.__enter__()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch_steps = 0
        self.epoch_began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.epoch_steps += 1
        self.taken += 1
        self.left -= 1
        if logs and not self.bar.disable:
            self.bar.set_postfix_str(f"{_text(logs)}, {self._time_left()} left", refresh=False)
        self.bar.update(self.global_batch_size)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs["images_per_second"] = self.epoch_steps * self.global_batch_size / (time.monotonic() - self.epoch_began)
        if self.bar.disable:
            logging.info(
                "%s: epoch %d of %d, %s, %.0f images/s, %s left",
                self.title,
                epoch + 1,
                self.params["epochs"],
                _text(logs),
                logs["images_per_second"],
                self._time_left(),
            )

    def _time_left(self) -> str:
        return tqdm.format_interval((time.monotonic() - self.began) / self.taken * self.left)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.redirection.__exit__(None, None, None)
        self.bar.close()


def _text(logs: Logs) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name.endswith("_loss"))


class LearningRates(keras.callbacks.Callback):
    """Adds the learning rates of the optimizers to the logs, as `g_rate` and `d_rate`."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for name in ("g", "d"):
            if optimizer := getattr(self.model, f"{name}_optimizer", None):
                logs[f"{name}_rate"] = float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class Validation(keras.callbacks.Callback):
    """Measures the generator on held-out images every few epochs and at the end, with `evaluation.scores`.

    Adds to the logs the means over the images of PSNR on Y, `val_psnr` in dB, SSIM on Y, `val_ssim`,
    `val_perceptual_distance` and `val_detail`. Also adds `val_grid`, which is measured on all images together because
    it is unreliable on a single small crop.

    Attributes:
        sr: the results, uint8 [N, H, W, 3], for later callbacks; None in epochs without validation.
    """

    def __init__(
        self,
        take: Callable[[keras.Model], keras.Model],
        vgg: keras.Model,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        every: int,
    ) -> None:
        """Create the callback.

        Args:
            take: a function that returns the generator to measure, given the model in training. It always returns the
                same object.
            vgg: from `VGG.build`.
            pairs: batches of LR [B, h, w, 3] and HR [B, S*h, S*w, 3], uint8.
            every: number of epochs from one validation to the next.
        """
        super().__init__()
        self.take = take
        self.distance = scores.perceptual_distance(vgg)
        self.pairs = pairs
        self.every = every
        self.generate = None
        self.sr = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.sr = None
        if (epoch + 1) % self.every and epoch + 1 < self.params["epochs"]:
            return
        self.generator = self.take(self.model)
        self.generate = self.generate or _compile(self.generator)
        self.sr = np.concatenate([metrics.to_uint8(self.generate(lr)) for lr, _ in self.pairs])
        measured = self._measure()
        logs.update(measured)
        logging.info(
            "validation: PSNR %.2f dB, SSIM %.4f (Y, %d images), perceptual distance %.4f, grid %.2f, detail %.2f",
            *(measured["val_psnr"], measured["val_ssim"], len(self.sr)),
            *(measured["val_perceptual_distance"], measured["val_grid"], measured["val_detail"]),
        )

    def _measure(self) -> Logs:
        """Return the measures of `sr` for the logs."""
        lr, hr = (np.concatenate(images) for images in zip(*self.pairs, strict=True))
        mean = scores.mean_score(scores.score_all(lr, hr, self.sr, self.distance))
        return {
            "val_psnr": mean.psnr_y,
            "val_ssim": mean.ssim_y,
            "val_perceptual_distance": mean.perceptual_distance,
            "val_grid": metrics.grid(self.sr, hr.shape[1] // lr.shape[1]),
            "val_detail": mean.detail,
        }


def _compile(generator: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from uint8 [B, h, w, 3] to float32 [B, S*h, S*w, 3] that uses all replicas of this machine."""
    strategy = tf.distribute.get_strategy()
    replicas = len(strategy.extended.worker_devices) if tf.distribute.has_strategy() else 1

    def on_replica(lr: tf.Tensor) -> tf.Tensor:
        return generator(tf.cast(lr, tf.float32), training=False)

    @tf.function(autograph=False)
    def compute(lr: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return strategy.experimental_local_results(strategy.run(on_replica, args=(lr,)))

    def generate(lr: np.ndarray) -> np.ndarray:
        filled = np.concatenate([lr, lr[:1].repeat(-len(lr) % replicas, axis=0)])  # all parts have the same size
        parts = iter(np.split(filled, replicas))
        shares = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(parts)))
        return np.concatenate([sr.numpy() for sr in compute(shares)])[: len(lr)]

    return generate


COLUMNS = (
    *("stage", "epoch", "step"),
    *("pixel_loss", "g_loss", "content_loss", "adversarial_loss"),
    *("l1_loss", "reduced_loss", "grid_loss"),
    *("d_loss", "d_real", "d_fake", "d_right"),
    *("content_share", "adversarial_share", "l1_share", "reduced_share", "grid_share"),
    *("g_rate", "d_rate", "images_per_second"),
    *("val_psnr", "val_ssim", "val_perceptual_distance", "val_grid", "val_detail"),
)
"""The columns of the table that `History` writes."""


class History(keras.callbacks.Callback):
    """Writes a CSV table of all epochs of both stages, and draws its curves after each validation."""

    def __init__(self, path: str, curves_path: str, stage: str) -> None:
        """Create the callback.

        Args:
            path: the path of the CSV file, or a `gs://` address. Rows of other stages are kept.
            curves_path: the path of the PNG file with the curves.
            stage: "pretrain" or "finetune".
        """
        super().__init__()
        self.path = path
        self.curves_path = curves_path
        self.stage = stage
        self.rows = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.rows = [
            row for row in read_history(self.path) if row["stage"] != self.stage or row["step"] <= logs["step"]
        ]
        with written_whole(self.path) as aside, tf.io.gfile.GFile(aside, "w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        step = (epoch + 1) * self.params["steps"]
        self.rows.append({"stage": self.stage, "epoch": epoch + 1, "step": step, **logs})
        with tf.io.gfile.GFile(self.path, "a") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(self.rows[-1])
        if "val_psnr" in logs:
            save_figure(utils.training_curves(self.rows), self.curves_path)

    def validated(self) -> list[Logs]:
        """Return the rows of this stage that have a validation."""
        return [row for row in self.rows if row["stage"] == self.stage and "val_psnr" in row]


def read_history(path: str) -> list[dict[str, Any]]:
    """Read a table that `History` wrote.

    Args:
        path: the path of the CSV file, or a `gs://` address. It need not exist.

    Returns:
        The rows as dictionaries with numbers, without empty cells. Damaged lines are skipped with a warning.
    """
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        lines = [line for line in file.read().splitlines(keepends=True) if line.endswith("\n")]
    rows = []
    for cells in csv.DictReader(lines):
        try:
            numbers = {name: float(cells[name]) for name in COLUMNS[1:] if cells[name]}
            rows.append({"stage": cells["stage"], **numbers, "epoch": int(cells["epoch"]), "step": int(cells["step"])})
        except (KeyError, TypeError, ValueError):
            logging.warning("%s: a damaged line is skipped: %s", path, ",".join(map(str, cells.values())))
    return rows


Rank = Callable[[Logs], tuple[float, ...]]
"""The sort key of validations; the best validation has the smallest key."""


def by_psnr(logs: Logs) -> tuple[float, ...]:
    """Sort by PSNR, the highest first.

    Args:
        logs: the logs of an epoch with a validation.
    """
    return (-logs["val_psnr"],)


def by_looks(logs: Logs) -> tuple[float, ...]:
    """Sort by perceptual distance, the smallest first. Results with a grid come last, the weakest grid first.

    The perceptual distance alone would prefer a grid: dots of 4 levels on every fourth pixel reduce it by 0.02 on Set5.

    Args:
        logs: the logs of an epoch with a validation.
    """
    has_grid = logs["val_grid"] > metrics.NO_GRID
    return has_grid, logs["val_grid"] if has_grid else logs["val_perceptual_distance"]


class KeepBest(keras.callbacks.Callback):
    """Saves the generator if its validation is better than all earlier validations of the stage."""

    def __init__(self, history: History, validation: Validation, rank: Rank, save: Callable) -> None:
        """Create the callback.

        Args:
            history: the table of earlier epochs.
            validation: the callback that measures the generator.
            rank: the sort key: `by_psnr` or `by_looks`.
            save: a function that saves a generator.
        """
        super().__init__()
        self.history = history
        self.validation = validation
        self.rank = rank
        self.save = save

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if "val_psnr" not in logs:
            return
        before = map(self.rank, self.history.validated())
        if all(self.rank(logs) < rank for rank in before):
            self.save(self.validation.generator)


class TensorBoard(keras.callbacks.Callback):
    """Writes all logs for TensorBoard, and the first held-out images after each validation."""

    IMAGES = 3

    def __init__(self, folder: str, validation: Validation) -> None:
        super().__init__()
        self.folder = folder
        self.validation = validation

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.writer = tf.summary.create_file_writer(self.folder)
        self.pairs = [np.concatenate(images)[: self.IMAGES] for images in zip(*self.validation.pairs, strict=True)]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        with self.writer.as_default(step=(epoch + 1) * self.params["steps"]):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
            if self.validation.sr is not None:
                lr, hr = self.pairs
                columns = (upscaling.bicubic(lr, hr.shape[1] // lr.shape[1]), self.validation.sr[: len(hr)], hr)
                tf.summary.image("bicubic, generator, ground truth", np.concatenate(columns, axis=2), self.IMAGES)
        self.writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.writer.close()


class DiscriminatorWatch(keras.callbacks.Callback):
    """Warns once if the discriminator has won or lost for many steps: its gradient is then useless."""

    LONG = 500  # steps
    MARGIN = 0.05

    def __init__(self, real_label: float = 1.0, relativistic: bool = False) -> None:
        """Create the callback.

        Args:
            real_label: the label of photographs, in 0..1.
            relativistic: whether the discriminator compares pairs of images.
        """
        super().__init__()
        self.real_label = real_label
        self.relativistic = relativistic

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.won = self.lost = 0
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        steps = self.params["steps"]
        won, lost = self._judge(logs)
        self.won = self.won + steps if won else 0
        self.lost = self.lost + steps if lost else 0
        if self.warned or max(self.won, self.lost) < self.LONG:
            return
        self.warned = True
        logging.warning(
            "the discriminator has %s for %d steps (D(real) %.2f, D(fake) %.2f, %.0f %% of pairs right): %s",
            "won" if self.won else "lost",
            max(self.won, self.lost),
            *(logs["d_real"], logs["d_fake"], 100 * logs["d_right"]),
            "try a label smoothing of 0.1 or a lower learning rate of the second stage"
            if self.won
            else "try a larger batch, more steps of the discriminator or more pretraining",
        )

    def _judge(self, logs: Logs) -> tuple[bool, bool]:
        """Return whether the discriminator has won in this epoch, and whether it has lost."""
        if self.relativistic:
            return False, logs["d_right"] < 0.5 + self.MARGIN
        won = logs["d_real"] > self.real_label - self.MARGIN and logs["d_fake"] < self.MARGIN
        return won, logs["d_real"] - logs["d_fake"] < self.MARGIN
