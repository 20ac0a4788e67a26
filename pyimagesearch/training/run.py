"""A run of both stages: check its settings and its data, then train."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from pyimagesearch import devices, layers
from pyimagesearch.config import Config, Paths
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import check_batch_size, load_dataset, load_test_pairs
from pyimagesearch.errors import UserError
from pyimagesearch.inference import generators
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders, loop, run_config
from pyimagesearch.training.stages import Training
from pyimagesearch.vgg import VGG

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""The dtype policy of Keras for each precision."""

Shards = Mapping[str, Sequence[str]]
"""The paths of the shards of each split."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings of a run that are not fields of `Config`.

    Attributes:
        paths: the folders of the records and of all outputs.
        precision: a key of `POLICIES`, or "auto".
        vgg_weights: see `VGG.build`.
        init_generator: the path of a generator to start from. Its network is used.
        init_srgan: the path of an SRGAN generator that was trained from `init_generator`. The second stage starts from
            it.
        init_discriminator: the path of the discriminator that the second stage starts with.
        init_stage: the first stage of a training with `init_generator`, one of `run_config.STAGES`.
        fresh: whether to delete earlier checkpoints and start over.
    """

    paths: Paths
    precision: str = "auto"
    vgg_weights: str = "auto"
    init_generator: str | None = None
    init_srgan: str | None = None
    init_discriminator: str | None = None
    init_stage: str = "finetune"
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready for training under the current strategy.

    Attributes:
        training: the objects that both stages share.
        vgg: from `VGG.build`, for the content loss.
        pretrain: whether to train the first stage.
        given: whether the run starts from a given generator. The first stage can then keep its batch normalization
            statistics.
        discriminator: the discriminator that the second stage starts with, or None for a new one.
    """

    training: Training
    vgg: keras.Model
    pretrain: bool
    given: bool
    discriminator: keras.Model | None = None

    def train(self) -> None:
        """Train the first stage if `pretrain`, then the second one, and save the generator after each stage."""
        config, snapshot = self.training.config, self.training.snapshot
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        losses, chosen = Losses(num_replicas), layers.choose(num_replicas, on_cpu=devices.is_cpu())

        generator = builders.build_generator(config, **chosen)
        generator.set_weights(snapshot.generator.get_weights())
        if self.pretrain:
            freeze_batch_norm = self.given and config.freeze_batch_norm
            stage = builders.pretraining_stage(config, generator, losses, freeze_batch_norm)
            self.training.run("pretrain", stage)
            generator.set_weights(snapshot.generator.get_weights())
        discriminator = builders.build_discriminator(config, chosen["norm"])
        if self.discriminator:
            discriminator.set_weights(self.discriminator.get_weights())
        self.training.run("finetune", builders.gan_stage(config, generator, discriminator, self.vgg, losses))
        if config.adversarial_weight:
            self.training.save_discriminator(discriminator)


@contextlib.contextmanager
def opened(
    config: Config, options: Options, strategy: tf.distribute.Strategy, cluster: devices.Cluster | None = None
) -> Iterator[Run]:
    """Yield a run, a new one or one to resume, under its strategy.

    Args:
        config: the settings. The settings of the network are replaced by those of a given generator.
        options: the other settings.
        strategy: the distribution strategy.
        cluster: the workers, if there are several.

    Raises:
        UserError: records, weights or generators are missing or do not match the settings, or the run was started with
            other settings.
    """
    builders.check_shift(config)
    begun = [] if options.fresh else run_config.begun(options.paths)
    start = find_start(options, bool(begun))
    config = builders.shaped_like(config, start) if start else config
    srgan = None if begun else find_srgan(options.init_srgan, config)
    discriminator = None if begun else find_discriminator(options.init_discriminator, config)
    precision = devices.choose_precision(options.precision, training=True)
    keras.config.set_dtype_policy(POLICIES[precision])
    shards = find_records(config, options.paths.records)
    options = dataclasses.replace(options, vgg_weights=VGG.resolve_weights(config.vgg_layer, options.vgg_weights))
    settings = describe(config, options, precision, strategy.num_replicas_in_sync)
    with strategy.scope(), tfrecords.damage_named(shards["train"]), devices.lost_workers_named(cluster):
        complaint = "TF_CONFIG: the workers have different settings or records; give all of them the same"
        loop.agree(run_config.checksum(settings), complaint)
        training = prepare(config, options, shards, cluster)
        run_config.begin(options.paths, settings, options.fresh, training.writes)
        if start and not begun:
            training.start_from(start, srgan)
        vgg = VGG.build(config.vgg_layer, options.vgg_weights, before_activation=config.content_loss == "l1")
        pretrain = "finetune" not in begun and not (start and options.init_stage == "finetune")
        yield Run(training, vgg, pretrain, bool(start), discriminator)


def find_start(options: Options, begun: bool) -> keras.Model | None:
    """Return the generator that the run starts from, or its saved copy if the run has been started before.

    Args:
        options: the settings of the run.
        begun: whether the run has checkpoints.
    """
    if not options.init_generator:
        return None
    return generators.load_generator(options.paths.pretrained_generator if begun else options.init_generator)


def find_srgan(init_srgan: str | None, config: Config) -> keras.Model | None:
    """Return the SRGAN generator that the second stage starts from, or None.

    Args:
        init_srgan: the path of the generator, or None.
        config: the configuration.

    Raises:
        UserError: its network is not that of `config`.
    """
    if not init_srgan:
        return None
    srgan = generators.load_generator(init_srgan)
    if builders.shaped_like(config, srgan) != config:
        raise UserError(
            f"{init_srgan}: its network differs from that of the initial generator; "
            "give an SRGAN generator that was trained from it"
        )
    return srgan


def find_discriminator(init_discriminator: str | None, config: Config) -> keras.Model | None:
    """Return the discriminator that the second stage starts with, or None.

    Args:
        init_discriminator: the path of the discriminator, or None.
        config: the configuration.

    Raises:
        UserError: its network is not that of `config`.
    """
    if not init_discriminator:
        return None
    expected = [weights.shape for weights in builders.build_discriminator(config).weights]
    discriminator = generators.load_network(init_discriminator, "discriminator", lambda network: network.weights)
    if [weights.shape for weights in discriminator.weights] != expected:
        raise UserError(
            f"{init_discriminator}: its network differs from the discriminator of the settings; "
            "give the settings that it was trained with"
        )
    return discriminator


def find_records(config: Config, records: str) -> Shards:
    """Find the shards of both splits and check that they match the configuration.

    Args:
        config: the configuration.
        records: the folder of the records, or its `gs://` address.

    Returns:
        The paths of the shards by split, "train" and "test".

    Raises:
        UserError: the shards are missing, damaged, of another scaling factor or for smaller crops; or they have given
            low-resolution images that the degradation would replace.
    """
    tfrecords.check_crops(records, max((config.hr_shape[0], *config.pretrain_crops)))
    if config.degradation == "photo" and tfrecords.has_own_lr(records):
        raise UserError(
            f"{records}: has given low-resolution images, which the degradation {config.degradation} would "
            "replace; choose the degradation bicubic"
        )
    shards = {split: tfrecords.find_shards(records, split, config.scaling_factor) for split in ("train", "test")}
    logging.info("training shards found: %d", len(shards["train"]))
    return shards


def describe(config: Config, options: Options, precision: str, num_replicas: int) -> dict[str, object]:
    """Return all settings that determine the result of a run, for `run_config`.

    Args:
        config: the configuration.
        options: the other settings.
        precision: the precision of the computation.
        num_replicas: the number of replicas that train in sync.
    """
    return run_config.describe(
        config,
        global_batch_size=config.train_batch_size * num_replicas,
        precision=precision,
        vgg_weights=options.vgg_weights,
        init_generator=options.init_generator,
        init_srgan=options.init_srgan,
        init_discriminator=options.init_discriminator,
        init_stage=options.init_stage if options.init_generator else None,
        records=tfrecords.fingerprint(options.paths.records),
    )


def prepare(config: Config, options: Options, shards: Shards, cluster: devices.Cluster | None = None) -> Training:
    """Return the objects that both stages share, under the current strategy.

    Args:
        config: the configuration.
        options: the other settings.
        shards: from `find_records`.
        cluster: the workers, if there are several.
    """
    strategy = tf.distribute.get_strategy()
    return Training(
        config,
        options.paths,
        VGG.build(config.vgg_layer, options.vgg_weights),
        builders.Snapshot(config),
        prepare_batches(config, shards["train"], strategy.num_replicas_in_sync),
        load_test_pairs(
            shards["test"], config.infer_batch_size, config.infer_hr_size, config.scaling_factor, config.degradation
        ),
        writes=cluster is None or cluster.index == 0,
        jit_compile=devices.compiles_well(strategy),
    )


def prepare_batches(config: Config, shards: Sequence[str], num_replicas: int) -> Callable[..., tf.data.Dataset]:
    """Return a function that loads the training batches of a replica; see `loop.LoadBatches`.

    Args:
        config: the configuration.
        shards: the paths of the training shards.
        num_replicas: the number of replicas that train in sync.

    Raises:
        UserError: the records have fewer crops than the global batch.
    """
    load = functools.partial(
        load_dataset,
        shards,
        train=True,
        scale=config.scaling_factor,
        crops_per_record=config.crops_per_record,
        seed=config.seed,
        degradation=config.degradation,
    )
    check_batch_size(tfrecords.locate_records(shards), config.train_batch_size * num_replicas, config.crops_per_record)
    return functools.partial(load, batch_size=config.train_batch_size)
