"""Train a stage to its end, with checkpoints, validation, history and progress."""

import dataclasses
import functools
import logging
import zlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.config import Config, Paths
from pyimagesearch.files import written_whole
from pyimagesearch.training import builders, callbacks, loop
from pyimagesearch.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class Training:
    """The objects that both stages share.

    Attributes:
        config: the settings.
        paths: the folders of the outputs.
        vgg: from `VGG.build`, for the perceptual distance of the validation.
        snapshot: the generator that is validated and saved.
        load_batches: loads the batches of one replica; see `loop.fit`. It also takes `hr_crop_size` in pixels.
        test_pairs: batches of held-out images; see `callbacks.Validation`.
        writes: whether this worker writes files. It is true for one of several workers.
        jit_compile: whether to compile the training step with XLA.
    """

    config: Config
    paths: Paths
    vgg: keras.Model
    snapshot: builders.Snapshot
    load_batches: Callable[..., tf.data.Dataset]
    test_pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    writes: bool = True
    jit_compile: bool = False

    def start_from(self, pretrained: keras.Model, srgan: keras.Model | None = None) -> None:
        """Start from a given generator, and save it as the generator of the first stage.

        Args:
            pretrained: the generator. Its network is that of `config`.
            srgan: a generator of the same network that the second stage starts from, instead of `pretrained`.
        """
        self.snapshot.generator.set_weights(pretrained.get_weights())
        self._save(self.paths.pretrained_generator, self.snapshot.generator)
        logging.info("starting from the given generator, which is saved as %s", self.paths.pretrained_generator)
        if srgan:
            self.snapshot.generator.set_weights(srgan.get_weights())

    def save_discriminator(self, trained: keras.Model) -> None:
        """Save the discriminator after the second stage, in float32 and with layers of Keras only."""
        discriminator = builders.in_float32(builders.build_discriminator, self.config)
        discriminator.set_weights(trained.get_weights())
        self._save(self.paths.discriminator, discriminator)

    def run(self, name: str, model: keras.Model) -> keras.Model:
        """Train a stage to its end.

        Args:
            name: "pretrain" or "finetune".
            model: the compiled stage, from `builders`.

        Returns:
            The generator that was saved.
        """
        config = self.config
        pretrain = name == "pretrain"
        epochs = config.pretrain_epochs if pretrain else config.finetune_epochs
        title = "stage 1 of 2, pretraining" if pretrain else "stage 2 of 2, fine-tuning"
        logging.info("%s: %d epochs of %d steps", title, epochs, config.steps_per_epoch)
        loop.fit(
            model,
            self._phases(pretrain),
            epochs,
            config.steps_per_epoch,
            Checkpoints(self.paths.checkpoints(name), model, self.writes),
            config.checkpoint_every,
            self._callbacks(name, title),
            self.jit_compile,
        )
        generator = self.snapshot.take(model)
        path = self.paths.pretrained_generator if pretrain else self.paths.generator
        self._save(path, generator)
        logging.info("generator saved: %s (weights %s)", path, _fingerprint(generator))
        return generator

    def _phases(self, pretrain: bool) -> loop.Phases:
        sides = self.config.pretrain_phases if pretrain else [(0, self.config.hr_shape[0])]
        return [(first, functools.partial(self.load_batches, hr_crop_size=side)) for first, side in sides]

    def _callbacks(self, name: str, title: str) -> list[keras.callbacks.Callback]:
        config, paths = self.config, self.paths
        global_batch_size = config.train_batch_size * tf.distribute.get_strategy().num_replicas_in_sync
        validation = callbacks.Validation(self.snapshot.take, self.vgg, self.test_pairs, config.validate_every)
        hooks = [callbacks.Progress(title, global_batch_size), callbacks.LearningRates(), validation]
        if name == "finetune" and config.adversarial_weight:
            hooks.append(callbacks.DiscriminatorWatch(1 - config.label_smoothing, config.relativistic))
        if self.writes:
            history = callbacks.History(paths.history, paths.image("training_curves.png"), name)
            best_path = paths.best_pretrained_generator if name == "pretrain" else paths.best_generator
            save_best = functools.partial(self._save, best_path)
            rank = callbacks.by_psnr if name == "pretrain" else callbacks.by_looks
            best = callbacks.KeepBest(history, validation, rank, save_best)
            hooks += [best, history, callbacks.TensorBoard(paths.logs(name), validation)]
        return hooks

    def _save(self, path: str, network: keras.Model) -> None:
        if self.writes:
            with written_whole(path) as aside:
                network.save(aside)


def _fingerprint(network: keras.Model) -> str:
    """Return a checksum of the weights of a network: the CRC-32 in eight hexadecimal digits."""
    return f"{zlib.crc32(b''.join(weights.tobytes() for weights in network.get_weights())):08x}"
