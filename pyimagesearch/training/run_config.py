"""What a run was told: written beside its models, compared when it goes on."""

import contextlib
import dataclasses
import json
import zlib
from typing import Any

import tensorflow as tf

from pyimagesearch.config import Config, Paths
from pyimagesearch.errors import UserError
from pyimagesearch.files import written_whole
from pyimagesearch.training.checkpoints import find_checkpoints

CONFIG = "config.json"
STAGES = ("pretrain", "finetune")

# These shape neither the weights nor the order of the data.
_FREE = {
    "shard_size",
    "record_size",
    "infer_batch_size",
    "infer_hr_size",
    "checkpoint_every",
    "validate_every",
    "train_batch_size",  # the batch of all replicas together counts
}


def describe(config: Config, **facts: Any) -> dict[str, Any]:
    """Return everything that settles a run's result, for JSON: the configuration and further `facts`."""
    return {**json.loads(json.dumps(dataclasses.asdict(config))), **facts}


def checksum(run: dict[str, Any]) -> int:
    """Return a number of 31 bits that tells what shapes this run from what shapes others."""
    shaping = {name: value for name, value in run.items() if name not in _FREE}
    return zlib.crc32(json.dumps(shaping, sort_keys=True).encode()) >> 1


def begun(paths: Paths) -> list[str]:
    """Return the stages that have checkpoints."""
    return [stage for stage in STAGES if find_checkpoints(paths.checkpoints(stage))]


def begin(paths: Paths, run: dict[str, Any], fresh: bool, writes: bool = True) -> None:
    """Go on with the run in `paths.outputs`, or begin one there.

    Args:
        paths: where models and checkpoints are.
        run: from `describe`.
        fresh: whether to remove the checkpoints of an earlier run.
        writes: whether this worker is the one that writes and removes.

    Raises:
        UserError: an earlier run there was told something else, or checkpoints could not be restored from there.
    """
    if set(paths.outputs) & set("*?[]\\"):
        raise UserError(
            f"--outputs {paths.outputs}: TensorFlow restores nothing from names with * ? [ ] or \\; rename it"
        )
    stages = begun(paths)
    if stages and not fresh:
        _compare(paths, run, stages)
    if not writes:
        return
    if fresh:
        for folder in (*map(paths.checkpoints, STAGES), *map(paths.logs, STAGES)):
            if tf.io.gfile.exists(folder):
                tf.io.gfile.rmtree(folder)
        if tf.io.gfile.exists(paths.history):
            tf.io.gfile.remove(paths.history)
    with written_whole(paths.model(CONFIG)) as aside, tf.io.gfile.GFile(aside, "w") as file:
        json.dump(run, file, indent=2)


def _compare(paths: Paths, run: dict[str, Any], stages: list[str]) -> None:
    path = paths.model(CONFIG)
    earlier = None
    with contextlib.suppress(tf.errors.NotFoundError, ValueError), tf.io.gfile.GFile(path) as file:
        earlier = json.load(file)
    if not isinstance(earlier, dict):
        raise UserError(f"{path}: missing or damaged, but there are checkpoints; start over with --fresh")
    # Earlier versions had fewer fields, and did what the defaults of the new ones do.
    earlier = describe(Config()) | earlier
    free = _FREE | {f"{stage}_epochs" for stage in _extensible(earlier, stages)}
    differences = [
        f"{name} {earlier.get(name)}, now {run.get(name)}"
        for name in sorted(earlier.keys() | run.keys())
        if name not in free and earlier.get(name) != run.get(name)
    ]
    if differences:
        raise UserError(
            f"{paths.outputs}: the run there was told otherwise ({'; '.join(differences)}); "
            "repeat its flags, choose another --outputs, or start over with --fresh"
        )


def _extensible(earlier: dict[str, Any], stages: list[str]) -> list[str]:
    """Return the stages that may still become longer or shorter: later ones, and the present one if it is uniform."""
    present = "finetune" if "finetune" in stages else "pretrain"
    later = STAGES[STAGES.index(present) :]
    return [stage for stage in later if stage not in stages or _is_uniform(earlier, stage)]


def _is_uniform(earlier: dict[str, Any], stage: str) -> bool:
    return earlier.get(f"{stage}_schedule") == "constant" and not earlier.get(f"{stage}_crops")
