"""Encode results, with the audio, the subtitles and the metadata of the source."""

import contextlib
import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from av.video.reformatter import Colorspace

from pyimagesearch.files import printable
from pyimagesearch.inference.video_formats import VideoSettings
from pyimagesearch.inference.video_reading import EXACT, FULL, LIMITED, Animation, Frame, Video, is_hd, open_container

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "ffv1": "ffv1"}
_LOSSLESS = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
_BT709, _BT601, _UNSPECIFIED = 1, 6, 2  # in AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic
_ENDING_CODECS = {".mkv": ("aac", "subrip"), ".mp4": ("aac", "mov_text"), ".mov": ("aac", "mov_text")}
_PLAYED_IN_MP4 = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus", "mov_text"}
_TEXT = {"ass", "mov_text", "ssa", "subrip", "text", "webvtt"}
_OF_THE_FILE = {"brands", "compatible_brands", "duration", "encoder", "major_brand", "minor_version"}
_LAYOUTS = (
    "mono",
    "stereo",
    "3.0",
    "4.0",
    "5.0",
    "5.1",
    "6.1",
    "7.1",
)  # of AAC, in the order of the number of channels
_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
_DELAY = Fraction(1, 10)  # maximum in seconds of the audio before the start, which prepares the decoder
_QUICKTIME_PLACE = "com.apple.quicktime.location.ISO6709"


def options(settings: VideoSettings) -> dict[str, str]:
    """Return the options of the encoder."""
    if settings.codec == "ffv1":
        return dict(_LOSSLESS)
    quiet = {"x265-params": "log-level=error:info=0"} if settings.codec == "hevc" else {}
    return {"crf": str(settings.crf), **quiet}


class Writer:
    """A video file that is being written. Frames come in order. The other tracks come from the source."""

    def __init__(self, path: str, source: Video | Animation, settings: VideoSettings, with_tracks: bool = True) -> None:
        """Open a file for writing.

        Args:
            path: the path of the file. It ends with one of `video_formats.RESULT_ENDINGS`.
            source: the source of the frames.
            settings: the encoding of the frames.
            with_tracks: whether to copy the other tracks, the chapters and the metadata of the source.
        """
        matroska = path.lower().endswith(".mkv")
        told = {} if matroska else {"movflags": "+faststart"}
        self._container = av.open(f"file:{os.path.abspath(path)}", "w", _muxer(path), options=told)
        self._source, self._settings, self._with_tracks = source, settings, with_tracks
        self._stream: av.VideoStream | None = None
        self._tracks: _Tracks | None = None
        self._marker: av.filter.Graph | None = None
        self._start: int | None = None
        self._first_dts: int | None = None
        self._end = 0

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Write the remaining packets if there was no error, and close the files."""
        try:
            if kind is None and self._stream:
                self._mux(self._lasting(self._stream.encode(None)))
                if self._tracks:
                    self._tracks.copy_until(None)
        finally:
            if self._tracks:
                self._tracks.close()
            if kind is None:
                self._container.close()
            else:
                with contextlib.suppress(av.FFmpegError):  # the file is removed
                    self._container.close()

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Write a frame.

        Args:
            frame: the frame of the source. It has the time and the duration.
            pixels: the upscaled frame, uint8 RGB [H, W, 3].
        """
        pixels = padded(pixels) if self._settings.codec != "ffv1" else pixels
        if not self._stream:
            self._begin(frame, *pixels.shape[:2])
        image = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        coded = self._coded(image)
        coded.time_base = self._source.time_base
        coded.pts = round(frame.time / coded.time_base)
        coded.duration = max(1, round(frame.duration / coded.time_base))
        self._end = coded.pts + coded.duration
        self._start = coded.pts if self._start is None else self._start
        packets = self._stream.encode(coded)
        if self._tracks:
            self._tracks.copy_until(frame.time)
        self._mux(packets)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._first_dts = packet.dts if self._first_dts is None else self._first_dts
            self._container.mux(packet)

    def _lasting(self, packets: list[av.Packet]) -> list[av.Packet]:
        """Set the end of the last packet to that of the last frame. An .mp4 lasts as long as its packets."""
        if packets and self._first_dts is None:  # for few frames, some encoders return wrong decoding times
            in_order = sorted(packet.pts for packet in packets)
            delay = max(due - packet.pts for due, packet in zip(in_order, packets, strict=True))
            for due, packet in zip(in_order, packets, strict=True):
                packet.dts = due - delay
            self._first_dts = packets[0].dts
        if packets:
            missing = self._end - self._start - (packets[-1].dts - self._first_dts)
            packets[-1].duration = max(packets[-1].duration, missing)
        return packets

    def _coded(self, image: av.VideoFrame) -> av.VideoFrame:
        context = self._stream.codec_context
        if self._settings.codec == "ffv1":
            image = image.reformat(format=context.pix_fmt)
            if self._marker:
                self._marker.vpush(image)
                image = self._marker.vpull()
            return image
        matrix = Colorspace.ITU709 if context.colorspace == _BT709 else Colorspace.ITU601
        return image.reformat(
            format=context.pix_fmt,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL,
            dst_color_range=LIMITED,
            interpolation=EXACT,
        )

    def _begin(self, frame: Frame, height: int, width: int) -> None:
        """Add all streams. They must exist before the first packet."""
        source, settings = self._source, self._settings
        stream = self._container.add_stream(_ENCODERS[settings.codec], source.rate, options(settings))
        context = stream.codec_context
        _configure(context, settings, width, height)
        context.time_base = stream.time_base = source.time_base
        context.flags |= Flags.frame_duration
        context.sample_aspect_ratio = source.ratio
        context.color_primaries = _told(frame.image.color_primaries, _BT709)
        context.color_trc = _told(frame.image.color_trc, _BT709)
        stream.metadata.update(_described(source.metadata))
        self._stream = stream
        if self._with_tracks and settings.codec == "ffv1" and source.ratio != 1:
            self._marker = _marker(context, source.ratio)
            told = printable(source.path), source.ratio.numerator, source.ratio.denominator
            text = "%s: the sample aspect ratio %d:%d is stored in each frame, not in the header of the .mkv"
            logging.warning(f"{text}: some players ignore it", *told)
        if self._with_tracks and isinstance(source, Video):
            self._tracks = _Tracks(source, self._container, _ending(self._container.name))


def _told(value: int, otherwise: int) -> int:
    return value if value not in (0, _UNSPECIFIED) else otherwise


def _configure(context: av.VideoCodecContext, settings: VideoSettings, width: int, height: int) -> None:
    context.width, context.height = width, height
    context.thread_count = 0
    if settings.codec == "ffv1":
        context.pix_fmt = "bgr0"
        return
    context.pix_fmt = "yuv420p"
    context.color_range = LIMITED
    context.colorspace = _BT709 if is_hd(width, height) else _BT601
    if settings.codec == "hevc":
        context.codec_tag = "hvc1"  # required by Apple's players


def _marker(context: av.VideoCodecContext, ratio: Fraction) -> av.filter.Graph:
    """Return a graph that stores a sample aspect ratio in frames. PyAV cannot store it in the header of an .mkv."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=context.width, height=context.height, format=context.pix_fmt, time_base=context.time_base
    )
    graph.link_nodes(source, graph.add("setsar", f"{ratio.numerator}/{ratio.denominator}"), graph.add("buffersink"))
    graph.configure()
    return graph


def can_encode(settings: VideoSettings, width: int, height: int) -> bool:
    """Return whether a codec supports frames of this size in pixels."""
    context = av.CodecContext.create(_ENCODERS[settings.codec], "w")
    _configure(context, settings, width, height)
    context.time_base, context.framerate, context.options = Fraction(1, 25), Fraction(25), options(settings)
    try:
        context.open()
    except av.FFmpegError:
        return False
    return True


def padded(pixels: np.ndarray) -> np.ndarray:
    """Make the sides of an image [H, W, 3] even, for yuv420p. The last row or column is repeated."""
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else pixels


def _muxer(path: str) -> str:
    return {".mkv": "matroska", ".mov": "mov"}.get(_ending(path), "mp4")


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _described(metadata: dict[str, str]) -> dict[str, str]:
    """Return the metadata of a video without those of its file format."""
    return {key: value for key, value in metadata.items() if key.lower() not in _OF_THE_FILE}


class _Tracks:
    """The audio, subtitles, chapters and metadata of a source, copied to a result in step with its frames."""

    def __init__(self, source: Video, output: av.container.OutputContainer, ending: str) -> None:
        self._container = open_container(source.path)
        self._output, self._shift, self._path = output, source.shift, source.path
        self._codecs = _ENDING_CODECS[ending]
        self._copied: dict[int, av.stream.Stream] = {}
        self._converted: dict[int, av.stream.Stream] = {}
        self._last: dict[int, int] = {}
        self._resampler: dict[int, av.AudioResampler] = {}
        chosen = self._container.streams.best("video")
        for stream in self._container.streams:
            if stream.index != chosen.index:
                self._add(stream, matroska=ending == ".mkv")
        self._describe()
        wanted = [self._container.streams[index] for index in (*self._copied, *self._converted)]
        self._packets = self._demuxed(wanted) if wanted else iter(())
        self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def copy_until(self, time: Fraction | None) -> None:
        """Write all packets until a time in seconds. None: write all packets that remain."""
        while self._next and (time is None or _start(self._next) - self._shift <= time):
            self._write(self._next)
            self._next = next(self._packets, None)
        if time is None:
            for index, stream in self._converted.items():
                if stream.type == "audio":
                    self._encode_sound(index, None)
                    self._output.mux(stream.encode(None))

    def _demuxed(self, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
        with contextlib.suppress(av.FFmpegError):  # is reported when the frames are read
            yield from (packet for packet in self._container.demux(streams) if packet.size)

    def _describe(self) -> None:
        metadata = self._container.metadata
        if _QUICKTIME_PLACE in metadata:
            metadata = {"location": metadata[_QUICKTIME_PLACE], **metadata}
        self._output.metadata.update(_described(metadata))
        if chapters := self._container.chapters():
            self._output.set_chapters(chapters)

    def _add(self, stream: av.stream.Stream, matroska: bool) -> None:
        """Copy a track to the result, or else convert it. If neither is possible, name it in a warning."""
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
        is_cover = stream.type == "video" and stream.disposition & Disposition.attached_pic and not matroska
        allowed = self._output.supported_codecs if self._output.format.name != "mp4" else _PLAYED_IN_MP4
        try:
            if stream.type == "attachment" and matroska:
                self._output.add_attachment(stream.metadata.get("filename", ""), stream.mimetype or "", stream.data)
            elif is_cover or (stream.type in ("audio", "subtitle") and codec in allowed):
                self._copied[stream.index] = self._output.add_stream_from_template(stream, opaque=True)
            elif stream.type == "audio" or codec in _TEXT:
                self._convert(stream, codec)
            elif stream.type != "data" or not self._container.chapters():  # in .mp4, the names of chapters are a track
                self._tell(stream, f"{codec}) is left out: the result cannot hold it")
        except (av.FFmpegError, ValueError) as error:
            self._tell(stream, f"{codec}) is left out: {error}")
        for track in filter(None, (kind.get(stream.index) for kind in (self._copied, self._converted))):
            track.metadata.update(_described(stream.metadata))
            track.disposition = stream.disposition

    def _tell(self, stream: av.stream.Stream, what: str) -> None:
        logging.warning("%s: track %d (%s, %s", printable(self._path), stream.index, stream.type, what)

    def _convert(self, stream: av.stream.Stream, codec: str) -> None:
        sound, text = self._codecs
        if stream.type == "audio":
            channels = min(stream.codec_context.layout.nb_channels, len(_LAYOUTS))
            track = self._output.add_stream(sound, min(_RATES, key=lambda rate: abs(rate - stream.codec_context.rate)))
            track.codec_context.layout = _LAYOUTS[channels - 1]
            track.codec_context.bit_rate = 96_000 * channels
            context = track.codec_context
            context.open()
            self._resampler[stream.index] = av.AudioResampler(
                context.format, context.layout, context.sample_rate, context.frame_size
            )
        else:
            track = self._output.add_stream(text)
            stream.codec_context.open(strict=False)
            track.codec_context.subtitle_header = stream.codec_context.subtitle_header
            track.codec_context.time_base = track.time_base = Fraction(1, 1000)
        self._converted[stream.index] = track
        self._tell(stream, f"{codec}) is converted to {track.codec_context.name}")

    def _write(self, packet: av.Packet) -> None:
        index = packet.stream.index
        time = _start(packet)
        if packet.is_discard and not -_DELAY < time < 0:
            return  # removed by an edit list; packets just before the start prepare the decoder
        if track := self._copied.get(index):
            self._copy(packet, track)
        elif packet.stream.type == "subtitle":
            self._convert_text(packet)
        else:
            with contextlib.suppress(av.InvalidDataError):  # damaged audio is left out
                for frame in packet.decode():
                    self._encode_sound(index, frame)

    def _copy(self, packet: av.Packet, track: av.stream.Stream) -> None:
        shift = round(self._shift / packet.time_base)
        index, dts = packet.stream.index, round(_start(packet) / packet.time_base)
        if dts <= self._last.get(index, dts - 1):
            return  # its time is not after that of the packet before
        self._last[index] = dts
        packet.dts, packet.pts = dts - shift, (packet.pts if packet.pts is not None else dts) - shift
        packet.stream = track
        self._output.mux(packet)

    def _encode_sound(self, index: int, frame: av.AudioFrame | None) -> None:
        if frame is not None and frame.pts is not None:
            frame.pts -= round(self._shift / frame.time_base)
        for part in self._resampler[index].resample(frame):
            self._output.mux(self._converted[index].encode(part))

    def _convert_text(self, packet: av.Packet) -> None:
        track = self._converted[packet.stream.index]
        if shown := packet.stream.codec_context.decode2(packet):
            coded = track.codec_context.encode_subtitle(shown)
            coded.time_base = Fraction(1, 1000)
            coded.pts = coded.dts = round((packet.pts * packet.time_base - self._shift) * 1000)
            coded.duration = round((packet.duration or 0) * packet.time_base * 1000)
            coded.stream = track
            self._output.mux(coded)


def _start(packet: av.Packet) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts or 0
    return ticks * packet.time_base
