"""From `--device` to a `tf.distribute` strategy."""

import logging

import tensorflow as tf

from pyimagesearch.errors import UserError


def get_strategy(device: str, tpu: str | None = None) -> tf.distribute.Strategy:
    """Return the strategy that uses the devices asked for.

    Args:
        device: "gpu" for every visible GPU, or the CPU where there is none; "tpu" for a TPU.
        tpu: the TPU's name, or "local" for the one of this machine.

    Returns:
        A strategy; `num_replicas_in_sync` is the number of accelerators.

    Raises:
        UserError: no TPU answers.
    """
    strategy = _tpu_strategy(tpu) if device == "tpu" else _gpu_strategy()
    logging.info("number of accelerators: %d", strategy.num_replicas_in_sync)
    return strategy


def _gpu_strategy() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        logging.info("no GPU is visible: using the CPU")
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])


def _tpu_strategy(tpu: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, RuntimeError, ImportError, tf.errors.OpError) as error:
        flag = f"--tpu {tpu}" if tpu else "--device tpu"
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{flag}: no TPU found; name yours with --tpu, or use --device gpu ({reason})") from error
    return tf.distribute.TPUStrategy(resolver)
