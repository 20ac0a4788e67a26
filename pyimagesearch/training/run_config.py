"""The settings of a run. They are written beside its models and compared when the run is resumed."""

import argparse
import contextlib
import dataclasses
import json
import math
import typing
import zlib
from typing import Any

import tensorflow as tf

from pyimagesearch.config import Config, Paths
from pyimagesearch.errors import UserError
from pyimagesearch.files import read_json_object, write_text
from pyimagesearch.training.checkpoints import find_checkpoints

CONFIG = "config.json"
STAGES = ("pretrain", "finetune")

FACTS = {
    "global_batch_size",
    "precision",
    "vgg_weights",
    "init_generator",
    "init_srgan",
    "init_discriminator",
    "init_stage",
    "records",
}
"""The settings in the file that are not fields of `Config`."""

_HINTS = typing.get_type_hints(Config)

# Settings that change neither the weights nor the order of the data.
_FREE = {
    "shard_size",
    "record_size",
    "infer_batch_size",
    "infer_hr_size",
    "checkpoint_every",
    "validate_every",
    "train_batch_size",  # only the global batch size counts
}


def describe(config: Config, **facts: Any) -> dict[str, Any]:
    """Return all settings that determine the result of a run, for JSON.

    Args:
        config: the configuration.
        **facts: the other settings, by the names in `FACTS`.
    """
    return {**json.loads(json.dumps(dataclasses.asdict(config))), **facts}


def read(path: str) -> Config:
    """Read the configuration of an earlier run from the file that `begin` wrote.

    Args:
        path: the path of the file, or its `gs://` address.

    Raises:
        UserError: the file does not exist, is damaged, or has a setting that is unknown or out of range.
    """
    missing = f"{path}: no such file; give the {CONFIG} of an earlier run"
    damaged = f"{path}: damaged, or not a {CONFIG}; give the one of an earlier run"
    stored = read_json_object(path, missing, damaged)
    fields = {field.name: field for field in dataclasses.fields(Config)}
    if unknown := sorted(stored.keys() - fields.keys() - FACTS):
        raise UserError(f"{path}: unknown settings: {', '.join(map(repr, unknown))}; remove them")
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    settings = {name: value for name, value in settings.items() if name in fields}
    for name, value in settings.items():
        if not _fits(fields[name], value):
            raise UserError(f"{path}: {name} cannot be {json.dumps(stored[name])}; correct it")
    return Config(**settings)


def _fits(field: dataclasses.Field, value: Any) -> bool:
    """Return whether a value is valid for a field of `Config`: its flag, if it has one, would accept the value."""
    kind = tuple if typing.get_origin(_HINTS[field.name]) is tuple else _HINTS[field.name]
    choices, read = (field.metadata.get(name) for name in ("choices", "read"))
    if isinstance(value, bool) != (kind is bool):
        return False
    value = float(value) if isinstance(value, int) and isinstance(0.5, kind) else value
    if choices or not isinstance(value, kind):
        return isinstance(value, kind) and value in choices
    if value is None or isinstance(value, bool | str):
        return True
    if not read:
        return 0 < value < math.inf
    values = value if field.metadata["many"] else [value]
    with contextlib.suppress(argparse.ArgumentTypeError, ValueError, IndexError):
        return all(read(str(one[0] if isinstance(one, tuple) else one)) == one for one in values)
    return False


def checksum(run: dict[str, Any]) -> int:
    """Return a checksum of 31 bits of the settings that change the result of a run.

    Args:
        run: the settings, from `describe`.
    """
    relevant = {name: value for name, value in run.items() if name not in _FREE}
    return zlib.crc32(json.dumps(relevant, sort_keys=True).encode()) >> 1


def begun(paths: Paths) -> list[str]:
    """Return the stages that have checkpoints, in order.

    Args:
        paths: the folders of the outputs.
    """
    return [stage for stage in STAGES if find_checkpoints(paths.checkpoints(stage))]


def begin(paths: Paths, run: dict[str, Any], fresh: bool, writes: bool = True) -> None:
    """Begin a run in `paths.outputs`, or resume the run there.

    Args:
        paths: the folders of models and checkpoints.
        run: the settings, from `describe`.
        fresh: whether to remove the checkpoints of an earlier run.
        writes: whether this worker writes and removes files.

    Raises:
        UserError: an earlier run there has other settings, or TensorFlow cannot restore checkpoints from such a folder.
    """
    if set(paths.outputs) & set("*?[]\\"):
        raise UserError(
            f"{paths.outputs}: TensorFlow cannot restore checkpoints from a folder with * ? [ ] or \\ in its name; "
            "rename it"
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
    write_text(paths.model(CONFIG), json.dumps(run, indent=2))


def _compare(paths: Paths, run: dict[str, Any], stages: list[str]) -> None:
    path = paths.model(CONFIG)
    lost = f"{path}: missing or damaged, but checkpoints exist; start over"
    earlier = read_json_object(path, lost, lost)
    # Earlier versions had fewer fields. They trained as the defaults of the new fields do.
    earlier = describe(Config()) | earlier
    free = _FREE | {f"{stage}_epochs" for stage in _extensible(earlier, stages)}
    differences = [
        f"{name} {earlier.get(name)}, now {run.get(name)}"
        for name in sorted(earlier.keys() | run.keys())
        if name not in free and earlier.get(name) != run.get(name)
    ]
    if differences:
        raise UserError(
            f"{paths.outputs}: the run there has other settings ({'; '.join(differences)}); "
            "use the same settings, choose another output folder, or start over"
        )


def _extensible(earlier: dict[str, Any], stages: list[str]) -> list[str]:
    """Return the stages whose length may still change: later ones, and the current one if its schedule is constant."""
    present = "finetune" if "finetune" in stages else "pretrain"
    later = STAGES[STAGES.index(present) :]
    return [stage for stage in later if stage not in stages or _is_uniform(earlier, stage)]


def _is_uniform(earlier: dict[str, Any], stage: str) -> bool:
    return earlier.get(f"{stage}_schedule") == "constant" and not earlier.get(f"{stage}_crops")
