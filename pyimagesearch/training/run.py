"""A run of both stages: what it needs is looked up and compared with what it was before, then it is trained."""

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
from pyimagesearch.data_preprocess import load_dataset, load_test_pairs
from pyimagesearch.errors import UserError
from pyimagesearch.inference import generators
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders, loop, run_config
from pyimagesearch.training.stages import Training
from pyimagesearch.vgg import VGG

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""What Keras calls each precision."""

Shards = Mapping[str, Sequence[str]]
"""The paths of the shards of each split."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run is told besides the numbers of its `Config`.

    Attributes:
        paths: where records are, and where everything that it makes goes.
        precision: a key of `POLICIES`, or "auto".
        vgg_weights: as `VGG.build` takes them.
        init_generator: the path of a generator to start from, whose network is trained.
        init_srgan: the path of an SRGAN generator that came of it, from which the second stage goes on.
        init_stage: the stage with which a given generator starts, one of `run_config.STAGES`.
        fresh: whether to start over instead of going on.
    """

    paths: Paths
    precision: str = "auto"
    vgg_weights: str = "auto"
    init_generator: str | None = None
    init_srgan: str | None = None
    init_stage: str = "finetune"
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to be trained, under the present strategy.

    Attributes:
        training: what both stages share.
        vgg: from `VGG.build`, for the content loss.
        pretrain: whether the first stage is to be trained.
        given: whether it starts from a given generator, which has batch statistics that the first stage may keep.
    """

    training: Training
    vgg: keras.Model
    pretrain: bool
    given: bool

    def train(self) -> None:
        """Train the first stage, if that is to be, then the second one, and save the generator after each."""
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
        self.training.run("finetune", builders.gan_stage(config, generator, discriminator, self.vgg, losses))


@contextlib.contextmanager
def opened(
    config: Config, options: Options, strategy: tf.distribute.Strategy, cluster: devices.Cluster | None = None
) -> Iterator[Run]:
    """Open a run, new or begun, for the block, which is under its strategy.

    Args:
        config: its numbers; the network is that of a given generator.
        options: what else it is told.
        strategy: what it is trained on.
        cluster: the machines that train together, if they are several.

    Raises:
        UserError: records, weights or generators are missing or do not fit, or the run was begun with other settings.
    """
    builders.check_shift(config)
    begun = [] if options.fresh else run_config.begun(options.paths)
    start = find_start(options, bool(begun))
    config = builders.shaped_like(config, start) if start else config
    srgan = None if begun else find_srgan(options.init_srgan, config)
    precision = devices.choose_precision(options.precision, training=True)
    keras.config.set_dtype_policy(POLICIES[precision])
    shards = find_records(config, options.paths.records)
    options = dataclasses.replace(options, vgg_weights=VGG.settle(config.vgg_layer, options.vgg_weights))
    told = describe(config, options, precision, strategy.num_replicas_in_sync)
    with strategy.scope(), tfrecords.damage_named(shards["train"]), devices.lost_workers_named(cluster):
        complaint = "TF_CONFIG: the workers have other settings or records; give all the same"
        loop.agree(run_config.checksum(told), complaint)
        training = prepare(config, options, shards, cluster)
        run_config.begin(options.paths, told, options.fresh, training.writes)
        if start and not begun:
            training.start_from(start, srgan)
        vgg = VGG.build(config.vgg_layer, options.vgg_weights, before_activation=config.content_loss == "l1")
        pretrain = "finetune" not in begun and not (start and options.init_stage == "finetune")
        yield Run(training, vgg, pretrain, bool(start))


def find_start(options: Options, begun: bool) -> keras.Model | None:
    """Return the generator that the run starts from, or what is kept of it once the run has begun."""
    if not options.init_generator:
        return None
    return generators.load_generator(options.paths.pretrained_generator if begun else options.init_generator)


def find_srgan(init_srgan: str | None, config: Config) -> keras.Model | None:
    """Return the SRGAN generator that the second stage starts from, if one is given.

    Raises:
        UserError: it is not the network of `config`.
    """
    if not init_srgan:
        return None
    srgan = generators.load_generator(init_srgan)
    if builders.shaped_like(config, srgan) != config:
        raise UserError(f"{init_srgan}: another network than that of the generator to start from; give one of it")
    return srgan


def find_records(config: Config, records: str) -> Shards:
    """Return the shards of both splits, once it is known that they suit the configuration.

    Raises:
        UserError: there are none, or they are damaged, of another scale, for smaller crops, or have LR of their own
            that would be replaced.
    """
    tfrecords.check_crops(records, max((config.hr_shape[0], *config.pretrain_crops)))
    if config.degradation == "photo" and tfrecords.has_own_lr(records):
        raise UserError(
            f"{records}: has low-resolution images of its own, which the degradation {config.degradation} would "
            "replace; train with bicubic"
        )
    shards = {split: tfrecords.find_shards(records, split, config.scaling_factor) for split in ("train", "test")}
    logging.info("training shards found: %d", len(shards["train"]))
    return shards


def describe(config: Config, options: Options, precision: str, num_replicas: int) -> dict[str, object]:
    """Return everything that settles the run's result, for `run_config`."""
    return run_config.describe(
        config,
        global_batch_size=config.train_batch_size * num_replicas,
        precision=precision,
        vgg_weights=options.vgg_weights,
        init_generator=options.init_generator,
        init_srgan=options.init_srgan,
        init_stage=options.init_stage if options.init_generator else None,
        records=tfrecords.fingerprint(options.paths.records),
    )


def prepare(config: Config, options: Options, shards: Shards, cluster: devices.Cluster | None = None) -> Training:
    """Return what both stages share, under the present strategy."""
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
    """Return what loads the training batches of a replica.

    Raises:
        UserError: the batches of all replicas are larger than the data.
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
    load(batch_size=config.train_batch_size * num_replicas)
    return functools.partial(load, batch_size=config.train_batch_size)
