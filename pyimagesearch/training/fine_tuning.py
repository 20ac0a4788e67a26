"""Fine-tune the generators that come with the project on a folder of photographs, within a given time."""

import csv
import dataclasses
import logging
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.config import SHIPPED_DISCRIMINATOR, SHIPPED_GENERATORS, Config, Paths
from pyimagesearch.data import creation, photographs, tfrecords
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import scores
from pyimagesearch.evaluation.scores import Score
from pyimagesearch.files import save_figure
from pyimagesearch.inference import generators, upscaling
from pyimagesearch.training import run, run_config
from pyimagesearch.utils import comparison_grid

_TRIAL = {"steps_per_epoch": 4, "finetune_epochs": 2, "discriminator_warmup": 0}  # the first epoch compiles


def fine_tune(
    folder: str, minutes: float, config: Config, options: run.Options, strategy: tf.distribute.Strategy
) -> None:
    """Make records of a folder, fine-tune the generators of the project, and compare before and after.

    The log says whether it helped. The image `before_and_after.png` shows held-out photographs. The same call resumes
    an interrupted one.

    Args:
        folder: the folder of the photographs. A tenth of them is held out.
        minutes: the time of the training in minutes.
        config: the settings. The number of epochs follows from the time.
        options: the other settings.
        strategy: the distribution strategy.

    Raises:
        UserError: see `make_records` and `run.opened`.
    """
    make_records(folder, options.paths.records, config)
    options = start_from_shipped(options)
    config = fit_to_time(config, options, strategy, minutes)
    with run.opened(config, options, strategy) as opened:
        opened.train()
        logging.info("%s", compare(options, opened))


def make_records(folder: str, records: str, config: Config) -> None:
    """Make records of a folder of photographs, unless they exist. A tenth of the photographs is held out.

    Args:
        folder: the folder of the photographs.
        records: the folder of the records.
        config: the settings.

    Raises:
        UserError: the photographs cannot be used, see `photographs.folder` and `creation.create`; or there are records
            of another folder.
    """
    origin = {"images": os.path.realpath(folder)}
    if tfrecords.has_manifest(records):
        if tfrecords.origin(records) != origin:
            raise UserError(f"{records}: has records of another folder; choose other folders for records and outputs")
        return
    source = photographs.folder(folder, 0.1, config.scaling_factor, config.least_photograph, config.seed)
    creation.create(records, source, config, origin=origin)


def start_from_shipped(options: run.Options) -> run.Options:
    """Return settings of a run that starts from the generators and the discriminator of the project.

    Args:
        options: the settings. With an initial generator they are returned as they are.
    """
    if options.init_generator:
        return options
    pretrained, srgan = (SHIPPED_GENERATORS[name] for name in ("pretrained", "srgan"))
    discriminator = options.init_discriminator or SHIPPED_DISCRIMINATOR
    return dataclasses.replace(options, init_generator=pretrained, init_srgan=srgan, init_discriminator=discriminator)


def fit_to_time(config: Config, options: run.Options, strategy: tf.distribute.Strategy, minutes: float) -> Config:
    """Return the settings with a number of epochs of the second stage that takes about the given time.

    The speed is measured with a few training steps, whose results are deleted. A run that has been started before keeps
    its length.

    Args:
        config: the settings.
        options: the other settings.
        strategy: the distribution strategy.
        minutes: the time of the training in minutes.
    """
    if run_config.begun(options.paths) and not options.fresh:
        earlier = run_config.read(options.paths.model(run_config.CONFIG))
        return dataclasses.replace(config, finetune_epochs=earlier.finetune_epochs)
    logging.info("measuring the speed of this machine")
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(options.paths.records, folder)
        trial = dataclasses.replace(config, **_TRIAL)
        with run.opened(trial, dataclasses.replace(options, paths=paths), strategy) as opened:
            opened.train()
        with open(paths.history, encoding="utf-8") as file:
            *_, last = csv.DictReader(file)
    images = config.train_batch_size * strategy.num_replicas_in_sync * config.steps_per_epoch
    epochs = epochs_within(minutes, images / float(last["images_per_second"]))
    logging.info("training for %d epochs, about %g minutes", epochs, minutes)
    return dataclasses.replace(config, finetune_epochs=epochs)


def epochs_within(minutes: float, seconds_per_epoch: float) -> int:
    """Return the number of epochs that take about the given time in minutes, at least 1."""
    return max(1, round(60 * minutes / seconds_per_epoch))


def compare(options: run.Options, opened: run.Run) -> str:
    """Compare the generator before and after on held-out photographs, and write the image `before_and_after.png`.

    Args:
        options: the settings of the run, with an initial generator.
        opened: the finished run.

    Returns:
        A sentence that says whether the fine-tuning helped.
    """
    training = opened.training
    lr, hr = (np.concatenate(images) for images in zip(*training.test_pairs, strict=True))
    paths = {"Before": options.init_srgan or options.init_generator, "After": options.paths.generator}
    results = {title: _upscale(generators.load_generator(path), lr) for title, path in paths.items()}
    distance = scores.perceptual_distance(training.vgg)
    measured = {title: scores.score_all(lr, hr, sr, distance) for title, sr in results.items()}
    captions = {title: [_caption(score) for score in rows[:_ROWS]] for title, rows in measured.items()}
    columns = {"Low resolution": lr, **results, "High resolution": hr}
    grid = comparison_grid({title: images[:_ROWS] for title, images in columns.items()}, captions)
    save_figure(grid, options.paths.image("before_and_after.png"))
    return verdict(*map(scores.mean_score, measured.values()), len(lr))


_ROWS = 6  # of the image of before and after


def _upscale(generator: keras.Model, lr: np.ndarray) -> np.ndarray:
    upscale = upscaling.Upscaler(generator)
    return np.stack([upscale(image) for image in lr])


def _caption(score: Score) -> str:
    return f"{score.psnr_y:.2f} dB, distance {score.perceptual_distance:.3f}"


def verdict(before: Score, after: Score, images: int) -> str:
    """Return a sentence that says whether a fine-tuning helped: whether the perceptual distance is smaller.

    Args:
        before: the mean score before.
        after: the mean score after.
        images: the number of held-out images.
    """
    change = after.perceptual_distance / before.perceptual_distance - 1
    helped = "helped" if change < 0 else "did not help"
    return (
        f"the fine-tuning {helped}: on {images} held-out images the perceptual distance changed from "
        f"{before.perceptual_distance:.3f} to {after.perceptual_distance:.3f} ({change:+.1%}) and the PSNR from "
        f"{before.psnr_y:.2f} to {after.psnr_y:.2f} dB"
    )
