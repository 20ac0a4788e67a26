"""Make records of many images on all cores. After an interruption, the same call resumes."""

import concurrent.futures
import contextlib
import csv
import dataclasses
import hashlib
import itertools
import json
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from pyimagesearch import cli
from pyimagesearch.config import Config
from pyimagesearch.data import tfrecords
from pyimagesearch.data.pairs import Pair, cut, spans
from pyimagesearch.data.sources import ImageSource, Skipped, Source
from pyimagesearch.errors import UserError
from pyimagesearch.files import attempt, check_space, is_local, read_text, unfinished, write_text, written_whole
from pyimagesearch.workers import KILLS, Pool, connected

SMALL = 500_000_000
"""Records of fewer bytes are made in one process by default, because further processes take seconds to start."""

SKIPPED = "skipped.csv"
_JOURNALS = "unfinished"  # the folder with a plan, and with the manifest entry of each complete shard


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard that is to be made.

    Attributes:
        root: the folder of the records, or its `gs://` address.
        split: "train" or "test".
        number: the number of the shard in its split.
        images: the images of the shard.
        scale: the scaling factor of HR relative to LR.
        piece_size: the longest HR side of a piece in pixels. None: records have whole images.
        crop_size: the side of the HR crops in pixels that will be drawn from the pieces.
        strict: whether an image that cannot be used is an error.
    """

    root: str
    split: str
    number: int
    images: ImageSource
    scale: int
    piece_size: int | None
    crop_size: int | None
    strict: bool

    @property
    def journal(self) -> str:
        """The path of the file that records that the shard is complete."""
        return os.path.join(self.root, _JOURNALS, f"{self.split}-{self.number}.json")

    def path(self, records: int) -> str:
        """Return the path of the shard, given the number of its records."""
        return os.path.join(self.root, self.split, tfrecords.shard_name(self.number, records))

    @property
    def size(self) -> int:
        """The expected size of the shard in bytes."""
        return sum(_record_bytes(size, self.scale, self.piece_size, self.crop_size) for size in self.images.sizes)


def _record_bytes(size: tuple[int, int], scale: int, piece_size: int | None, crop_size: int | None) -> int:
    """Return the number of bytes of the records of an image with this height and width."""
    lengths = [length // scale for length in size]
    if piece_size:
        overlap = crop_size // scale - 1
        lengths = [sum(end - start for start, end in spans(length, piece_size // scale, overlap)) for length in lengths]
    return math.prod(lengths) * 3 * (1 + scale**2)


def create(
    root: str,
    source: Source,
    config: Config,
    processes: int | None = None,
    strict: bool = False,
    address: str | None = None,
    **facts: Any,
) -> dict[str, int]:
    """Write the records of a source, or resume an interrupted call with the same arguments.

    Args:
        root: the folder to write to, or its `gs://` address.
        source: the images.
        config: the sizes of pieces, crops and shards.
        processes: the number of parallel processes. None: as many as there are cores, but one for less than `SMALL`.
        strict: whether an image that cannot be used is an error. Otherwise it is listed in skipped.csv.
        address: the cluster whose cores make the shards, in place of processes of this machine; see
            `workers.connected`.
        **facts: further entries of the manifest, for JSON.

    Returns:
        The number of records of each split, and as "skipped" the number of skipped images. Files that are not images
        by their name are listed in skipped.csv, but not counted.

    Raises:
        UserError: the folder already has records, or has unfinished records of other images or settings; the free disk
            space is too small; or with `strict`, an image cannot be used. Complete shards are kept for the next call.
    """
    if tfrecords.has_manifest(root):
        raise UserError(f"{root}: already has records; remove this folder or choose another one")
    if strict and source.skipped:
        raise UserError(f"{': '.join(source.skipped[0])}; repair or remove it, or do not use strict mode")
    shards = [*_plan("train", source.train, root, config, strict), *_plan("test", source.test, root, config, strict)]
    _begin(root, shards)
    missing = [shard for shard in shards if not _is_complete(shard)]
    if len(missing) < len(shards):
        logging.info("%d of %d shards are complete; making the other shards", len(shards) - len(missing), len(shards))
    needed = sum(shard.size for shard in missing)
    logging.info("about %.1f GB to write", needed / 1e9)
    if is_local(root):
        check_space(root, needed)
    with tqdm(total=sum(len(shard.images.sizes) for shard in missing), unit=" images", disable=None) as progress:
        for shard in _make_all(missing, min(processes or _processes_for(needed), len(missing)), address):
            progress.update(len(shard.images.sizes))
    return _finish(root, shards, source, config, facts)


def _plan(split: str, images: ImageSource, root: str, config: Config, strict: bool) -> Iterator[Shard]:
    """Yield the shards of a split. Each has whole images that make up about `config.shard_size` pieces."""
    scale = config.scaling_factor
    pieces = (config.longest_record, config.hr_shape[0]) if split == "train" else (None, None)
    enough = config.shard_size * _record_bytes((config.record_size, config.record_size), scale, None, None)
    first, number, size = 0, 0, 0
    for last, image_size in enumerate(images.sizes, start=1):
        size += _record_bytes(image_size, scale, *pieces)
        if size >= enough or last == len(images.sizes):
            yield Shard(root, split, number, images.part(first, last), scale, *pieces, strict)
            first, number, size = last, number + 1, 0


def _begin(root: str, shards: Sequence[Shard]) -> None:
    path = os.path.join(root, _JOURNALS, "plan")
    described = "\n".join(repr(dataclasses.replace(shard, root="", strict=False)) for shard in shards)
    plan = hashlib.sha256(described.encode()).hexdigest()
    if not tf.io.gfile.exists(path):
        write_text(path, plan)
    elif read_text(path) != plan:
        raise UserError(
            f"{root}: has unfinished records of other images or other settings; repeat the earlier command, "
            "remove this folder, or choose another one"
        )


def _is_complete(shard: Shard) -> bool:
    if not tf.io.gfile.exists(shard.journal):
        return False
    records, size = (json.loads(read_text(shard.journal))["manifest"][name] for name in ("records", "bytes"))
    path = shard.path(records)
    return not records or (tf.io.gfile.exists(path) and tf.io.gfile.stat(path).length == size)


def _processes_for(size: int) -> int:
    return 1 if size < SMALL else os.cpu_count() or 1


def _make_all(shards: Sequence[Shard], processes: int, address: str | None) -> Iterator[Shard]:
    """Make shards, and yield each shard when it is complete. The largest shards are made first, to balance the load."""
    shards = sorted(shards, key=lambda shard: shard.size, reverse=True)
    if address:
        yield from _make_on_cluster(shards, address)
        return
    if processes <= 1:
        yield from map(_make, shards)
        return
    # The processes are forked from a server that has imported all modules but has not computed anything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([cli.__name__, __name__])
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, prepare_worker)
    try:
        for done in concurrent.futures.as_completed([pool.submit(_make, shard) for shard in shards]):
            yield done.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process was ended, perhaps because the memory was full; the same command resumes; "
            "with fewer processes it needs less memory"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _make_on_cluster(shards: Sequence[Shard], address: str) -> Iterator[Shard]:
    if not shards:
        return
    with connected(address) as ray:
        pool = Pool(ray, _Worker, os.getcwd(), cores=1, with_gpus=False)
        for outcome in pool.run(shards, len(shards)):
            if outcome.given_up:
                raise UserError(
                    f"{outcome.task.root}: a worker was ended {KILLS} times while it made a shard, perhaps for lack of "
                    "memory; the same command resumes; use fewer workers or machines with more memory"
                )
            yield outcome.task


class _Worker:
    """Makes shards, in a process of its own on a node of a cluster."""

    def __init__(self, folder: str, cores: int) -> None:
        with contextlib.suppress(OSError):  # absolute paths do not need it
            os.chdir(folder)
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(cores)

    def start(self) -> str:
        return "one core each"

    def run(self, shard: Shard, number: int) -> None:
        with attempt(number):
            _make(shard)


def prepare_worker() -> None:
    """Prepare a child process: ignore Ctrl-C, end when the parent process ends, and use one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _make(shard: Shard) -> Shard:
    """Make a shard.

    The journal is written before the shard gets its name. A shard is complete if both exist and the size is correct.
    """
    skipped = []

    def usable() -> Iterator[Pair]:
        for image in shard.images:
            if isinstance(image, Pair):
                yield image
            elif shard.strict:
                raise UserError(f"{': '.join(image)}; repair or remove it, or do not use strict mode")
            else:
                skipped.append(image)

    made = cut(usable(), shard.piece_size, shard.crop_size) if shard.piece_size else usable()
    with unfinished(shard.path(0)) as aside:
        manifest = tfrecords.write_shard(aside, made)
        write_text(shard.journal, json.dumps({"manifest": manifest, "skipped": skipped}))
        if manifest["records"]:
            tf.io.gfile.rename(aside, shard.path(manifest["records"]), overwrite=True)
    return shard


def _finish(
    root: str, shards: Sequence[Shard], source: Source, config: Config, facts: dict[str, Any]
) -> dict[str, int]:
    """Write the manifest and the list of skipped images from the journals. Return the result of `create`."""
    skipped, splits = {shard.split: [] for shard in shards}, {shard.split: {} for shard in shards}
    for shard in shards:
        journal = json.loads(read_text(shard.journal))
        skipped[shard.split] += journal["skipped"]
        if records := journal["manifest"]["records"]:
            splits[shard.split][os.path.basename(shard.path(records))] = journal["manifest"]
    left_out = [*source.skipped, *itertools.chain.from_iterable(skipped.values())]
    if left_out or source.unread:
        _write_skipped(os.path.join(root, SKIPPED), [*left_out, *source.unread])
    counts = {split: sum(shard["records"] for shard in names.values()) for split, names in splits.items()}
    for split, count in counts.items():
        if not count:
            last = ": ".join(skipped[split][-1])
            raise UserError(f"{root}: no image of the {split} split can be used; see {SKIPPED} in this folder; {last}")
    settings = {name: getattr(config, name) for name in ("hr_shape", "shard_size", "seed")}
    settings["record_size"] = config.longest_record
    tfrecords.write_manifest(root, config.scaling_factor, splits, configuration=settings, **facts)
    tf.io.gfile.rmtree(os.path.join(root, _JOURNALS))
    return {**counts, "skipped": len(left_out)}


def _write_skipped(path: str, skipped: Iterable[Sequence[str]]) -> None:
    with written_whole(path) as aside, tf.io.gfile.GFile(aside, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Skipped._fields)
        writer.writerows(skipped)
