import http.server
import io
import logging
import pathlib
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from browser import needs_chromium, run_chromium
from conftest import enlarged, random_image
from PIL import Image

from pyimagesearch.errors import UserError
from pyimagesearch.inference.video_formats import VideoSettings, is_animated
from pyimagesearch.metrics import psnr

av = pytest.importorskip("av", reason="needs PyAV, which is not installed")

from pyimagesearch.inference import video, video_reading, video_writing  # noqa: E402  which need PyAV

ROOT = pathlib.Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}  # red and blue, by AVColorSpace


@pytest.fixture(autouse=True)
def short_segments(monkeypatch, caplog):
    monkeypatch.setattr(video, "SEGMENT", 10)
    caplog.set_level(logging.INFO)


def smooth(number, height=24, width=32):
    """A frame of colours that change slowly, over it and with its number; uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * y + 2 * number, 5 * x, 200 - 3 * y - 2 * number], axis=-1).astype(np.uint8)


def images(frames):
    return [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]


def write(path, frames, codec="libx264", pix_fmt="yuv420p", times=None, rate=25, options=None, **told):
    """Encode frames, uint8 RGB or of PyAV, to be shown at times in seconds; `told` is set at the encoder."""
    frames = images(frames) if isinstance(frames[0], np.ndarray) else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate, {"crf": "12"} | (options or {}) if "26" in codec else options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        base = Fraction(1, 15360) if times else 1 / Fraction(rate)
        stream.codec_context.time_base = stream.time_base = base
        for name, value in told.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.time_base, frame.pts = base, round(Fraction(times[number]) / base) if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def decoded(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def read(path):
    """All frames of a video, uint8 RGB [N, H, W, 3]."""
    return np.stack([rgb(frame) for frame in decoded(path)])


def rgb(frame, matrix=6):
    """Convert yuv420p as its tags say, or else `matrix`, without FFmpeg; other formats by FFmpeg."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        return frame.to_ndarray(format="rgb24")
    planes = [np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    y, cb, cr = (plane[:, : shape.width].astype(float) for plane, shape in zip(planes, frame.planes, strict=True))
    cb, cr = (plane.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] - 128 for plane in (cb, cr))
    if frame.color_range != 2 and frame.format.name == "yuv420p":
        y, cb, cr = (y - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    red, blue = LUMA.get(frame.colorspace, LUMA[matrix])
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.clip(np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1).round(), 0, 255).astype(
        np.uint8
    )


def times_of(path):
    return [float(frame.pts * frame.time_base) for frame in decoded(path)]


def end_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float((stream.start_time + stream.duration) * stream.time_base)


def damage(path, *numbers):
    """Overwrite packets of a video, of which the first has number 0."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = pathlib.Path(path).read_bytes()
    for packet in (packets[number] for number in numbers):
        assert content.count(packet) == 1
        content = content.replace(packet, b"\xff" * len(packet))
    pathlib.Path(path).write_bytes(content)
    return str(path)


@pytest.fixture
def source(tmp_path):
    """A video of 34 frames."""
    return write(tmp_path / "source.mp4", [smooth(number) for number in range(34)])


@pytest.fixture
def target(tmp_path):
    return tmp_path / "results" / "large.mp4"


class Counting:
    """Upscales frames, counting them, and fails at one of them, if told so."""

    def __init__(self, fails_at=None):
        self.calls = -1  # the first is given noise
        self.fails_at = fails_at

    def __call__(self, frame):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("no memory left")
        return enlarged(frame)


def interrupt(source, target, frames=25):
    with pytest.raises(RuntimeError, match="no memory left"):
        video.upscale_video(source, str(target), Counting(fails_at=frames))


def segments_of(target):
    return target.parent / f".unfinished-{target.name}.segments"


# Segments


def test_segments_that_were_made_one_by_one_are_taken(source, target, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT", 10)
    assert video.begin_segments(source, str(target), enlarged) == 4
    for numbers in ((1, 3, 4), (0,)):  # two of them make segments at once; there is no fifth
        maker = video.SegmentMaker(source)
        for number in numbers:
            maker.make(number, str(target), enlarged)
        assert maker.position == numbers[-1] + 1
    assert len(list(segments_of(target).glob("*.mkv"))) == 3
    counting = Counting()
    video.upscale_video(source, str(target), counting)
    assert counting.calls == 10  # those of the segment that is missing
    other = target.with_name("other.mp4")
    video.upscale_video(source, str(other), enlarged)
    assert other.read_bytes() == target.read_bytes()


# Times


@pytest.mark.parametrize("rate", [25, 12.5, Fraction(30000, 1001), Fraction(24000, 1001), Fraction(120000, 1001)])
def test_a_video_keeps_its_times_length_and_content(tmp_path, target, rate):
    source = write(tmp_path / "source.mp4", [smooth(number) for number in range(34)], rate=Fraction(rate))
    assert video.upscale_video(source, str(target), enlarged) == []
    assert times_of(target) == pytest.approx(times_of(source), abs=1e-4)
    assert end_of(target) == pytest.approx(34 / float(rate), abs=1e-3)
    large = read(target)
    assert large.shape == (34, 96, 128, 3)
    assert min(psnr(true, test) for true, test in zip(enlarged(read(source)), large, strict=True)) > 35
    assert [path.name for path in target.parent.iterdir()] == ["large.mp4"]


def test_varying_rates_and_late_starts_are_kept_as_they_are(tmp_path, target):
    times = [0.5, *(0.5 + 0.1 * number for number in range(1, 10)), *(1.5 + number / 30 for number in range(10))]
    source = write(tmp_path / "source.mp4", [smooth(number) for number in range(20)], times=times)
    video.upscale_video(source, str(target), enlarged)
    assert times_of(target) == pytest.approx(times, abs=1e-4)
    assert end_of(target) == pytest.approx(end_of(source), abs=0.05)


def cut(path, source, first):
    """Cut a video before a frame without encoding it again, by an edit list."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                for name in ("pts", "dts"):
                    setattr(packet, name, getattr(packet, name) - round(first / 25 / packet.time_base))
                packet.stream = stream
                new.mux(packet)
    return str(path)


def test_edit_lists_are_honoured(tmp_path, source, target):
    trimmed = cut(tmp_path / "trimmed.mp4", source, 10)
    assert video.upscale_video(trimmed, str(target), enlarged) == []
    large = read(target)
    assert len(large) == 24 and psnr(enlarged(smooth(10)), large[0]) > 30
    assert end_of(target) == pytest.approx(24 / 25)


@pytest.mark.parametrize("ending", ["ts", "mpg", "m2ts"])
def test_clocks_of_broadcasts_start_at_zero(tmp_path, target, ending):
    codec = "mpeg2video" if ending == "mpg" else "libx264"
    source = write(tmp_path / f"source.{ending}", [smooth(number) for number in range(12)], codec)
    assert video.upscale_video(source, str(target), enlarged) == []
    assert times_of(target) == pytest.approx([number / 25 for number in range(12)], abs=1e-3)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        *((".avi", "mjpeg"), (".avi", "mpeg4"), (".m4v", "mpeg4"), (".mkv", "libx264"), (".mov", "mpeg4")),
        *((".webm", "libvpx"), (".webm", "libvpx-vp9"), (".wmv", "wmv2"), (".flv", "flv"), (".3gp", "mpeg4")),
        (".mpeg", "mpeg1video"),
    ],
)
def test_containers_of_all_kinds_are_read(tmp_path, target, ending, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write(tmp_path / f"source{ending}", [smooth(number) for number in range(12)], codec, pix_fmt)
    assert video.upscale_video(source, str(target), enlarged) == []
    assert len(read(target)) == 12
    assert np.diff(times_of(target)) == pytest.approx(0.04, abs=2e-3)


# What is shown


def turn(path, matrix):
    """Write a rotation into the header of an .mp4 file."""
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data = pathlib.Path(path).read_bytes()
    place = data.index(unit, data.index(b"tkhd"))
    a, b, c, d = (65536 * value for value in matrix)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    pathlib.Path(path).write_bytes(data[:place] + turned + data[place + len(unit) :])
    return str(path)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    ],
)
def test_rotations_are_applied(tmp_path, target, matrix, upright):
    frames = [smooth(number) for number in range(3)]
    source = turn(write(tmp_path / "source.mp4", frames, sample_aspect_ratio=Fraction(4, 3)), matrix)
    video.upscale_video(source, str(target), enlarged)
    large = read(target)
    assert psnr(enlarged(upright(frames[1])), large[1]) > 30
    with av.open(str(target)) as container:
        assert container.streams.video[0].sample_aspect_ratio == (Fraction(3, 4) if matrix[1] else Fraction(4, 3))


def test_interlaced_video_is_deinterlaced_and_said(tmp_path, target, caplog):
    frames = [np.full((64, 64, 3), 40, np.uint8) for _ in range(12)]
    for number, frame in enumerate(frames):  # a bar that moves between the fields
        for field in (0, 1):
            start = 4 * number + 2 * field
            frame[field::2, start : start + 8] = 220
    options = {"x264-params": "tff=1", "crf": "5"}
    source = write(tmp_path / "source.mkv", frames, options=options)
    assert decoded(source)[0].interlaced_frame
    video.upscale_video(source, str(target), lambda frame: frame)
    before, after = combs(read(source)), combs(read(target))
    assert len(before) == len(after) == 12 and (after[2:-2] < before[2:-2] / 2).all()
    assert times_of(target) == pytest.approx(times_of(source), abs=2e-3)
    assert caplog.messages.count(f"{source}: is interlaced; it is deinterlaced") == 1


def combs(frames):
    """How much neighbouring rows of frames [N, H, W, 3] differ, [N]."""
    return np.abs(np.diff(frames.astype(int), axis=1)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv420p10le"), ("libx265", "yuv444p10le"), ("ffv1", "gray")]
)
def test_ten_bits_and_grey_are_read(tmp_path, target, codec, pix_fmt):
    frames = [smooth(number) for number in range(3)]
    frames = [frame[..., :1].repeat(3, -1) for frame in frames] if pix_fmt == "gray" else frames
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    source = write(tmp_path / "source.mkv", frames, codec, pix_fmt, options=options)
    video.upscale_video(source, str(target), enlarged)
    assert min(psnr(enlarged(frame), large) for frame, large in zip(frames, read(target), strict=True)) > 32


def test_transparency_is_said_to_be_left_out(tmp_path, target, caplog):
    source = write(tmp_path / "source.mkv", [smooth(number) for number in range(3)], "ffv1", "yuva420p")
    video.upscale_video(source, str(target), enlarged)
    assert len(read(target)) == 3
    assert caplog.messages.count(f"{source}: transparency is left out") == 1


# Colours

PATCHES = [(0, 0, 0), (255, 255, 255), (190, 40, 40), (40, 190, 40), (40, 40, 190), (128, 128, 128), (200, 180, 30)]


def patches(height, width):
    """Flat colours, uint8 RGB [height, width, 3]."""
    stripe = -(-width // len(PATCHES) // 16) * 16
    columns = np.minimum(np.arange(width) // stripe, len(PATCHES) - 1)
    return np.broadcast_to(np.array(PATCHES, np.uint8)[columns], (height, width, 3)).copy()


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("height", "width", "matrix", "tagged", "scale"),
    [
        (96, 224, 6, True, 4),
        (96, 224, 6, False, 4),
        (96, 224, 1, True, 4),
        (180, 320, 6, True, 4),
        (180, 320, 6, False, 4),
        (720, 1280, 1, True, 1),
        (720, 1280, 1, False, 1),
    ],
)
def test_colours_are_those_of_the_source(tmp_path, target, codec, full, height, width, matrix, tagged, scale):
    shown = patches(height, width)
    image = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(
        format="yuv420p",
        src_colorspace={1: 1, 6: 5}[matrix],
        dst_colorspace={1: 1, 6: 5}[matrix],
        src_color_range=2,
        dst_color_range=2 if full else 1,
        interpolation=video_reading.EXACT,
    )
    tags = {"colorspace": matrix, "color_primaries": matrix, "color_trc": matrix} if tagged else {"colorspace": 2}
    if full or tagged:
        tags["color_range"] = 2 if full else 1
    source = write(tmp_path / "source.mp4", [image] * 2, options={"crf": "1"}, **tags)
    video.upscale_video(source, str(target), lambda frame: enlarged(frame, scale), settings=VideoSettings(codec))
    result = decoded(target)[-1]
    is_hd = height * scale >= 720
    assert (result.colorspace, result.color_range) == (1 if is_hd else 6, 1)
    assert result.format.name == "yuv420p"
    assert result.color_primaries == (matrix if tagged else 1) and result.color_trc == (matrix if tagged else 1)
    shown, large, centre = rgb(decoded(source)[-1], matrix), rgb(result), -(-width // len(PATCHES) // 16) * 16 // 2
    for number in range(6):
        column = scale * (centre + 2 * centre * number)
        colour = shown[height // 2, column // scale].astype(int)
        found = large[scale * height // 2 - 8 : scale * height // 2 + 8, column - 4 : column + 4].reshape(-1, 3)
        assert np.abs(found.mean(axis=0) - colour).max() <= 2, (number, found.mean(axis=0))


# How it is written


def boxes(path):
    """The names of the outermost boxes of an .mp4 file, in order."""
    data, place, names = pathlib.Path(path).read_bytes(), 0, []
    while place < len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        names.append(name.decode())
        place += size
    return names


@pytest.mark.parametrize(
    ("codec", "name", "tag", "pix_fmt"),
    [
        ("h264", "large.mp4", "avc1", "yuv420p"),
        ("hevc", "large.mp4", "hvc1", "yuv420p"),
        ("ffv1", "a.mkv", None, "bgr0"),
    ],
)
def test_results_are_encoded_as_asked(tmp_path, source, capfd, codec, name, tag, pix_fmt):
    target = tmp_path / name
    video.upscale_video(source, str(target), enlarged, settings=VideoSettings(codec))
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec and stream.codec_context.pix_fmt == pix_fmt
        assert tag is None or stream.codec_tag == tag
    if codec == "ffv1":
        np.testing.assert_array_equal(
            read(target), enlarged(np.stack([frame.rgb(32, 24) for frame in video_reading.Video(source).frames()]))
        )
    else:
        assert boxes(target).index("moov") < boxes(target).index("mdat")
    assert capfd.readouterr() == ("", "")


def test_crf_chooses_between_size_and_quality(tmp_path):
    source = write(tmp_path / "source.mp4", [random_image(24, 32, number) for number in range(10)])
    for crf in (10, 30):
        video.upscale_video(source, str(tmp_path / f"{crf}.mp4"), enlarged, settings=VideoSettings(crf=crf))
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "30.mp4").stat().st_size


def test_odd_sides_get_a_row_or_column_more(source, target):
    video.upscale_video(source, str(target), lambda frame: frame[:23, :31])
    assert read(target).shape == (34, 24, 32, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_the_sample_aspect_ratio_is_kept(tmp_path, name):
    source = write(tmp_path / "source.mp4", [smooth(0)] * 3, sample_aspect_ratio=Fraction(32, 27))
    video.upscale_video(source, str(tmp_path / name), enlarged)
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(32, 27)


def test_ffv1_stores_the_sample_aspect_ratio_in_its_frames_and_says_so(tmp_path, caplog):
    source = write(tmp_path / "source.mp4", [smooth(0)] * 3, sample_aspect_ratio=Fraction(32, 27))
    video.upscale_video(source, str(tmp_path / "a.mkv"), enlarged, settings=VideoSettings("ffv1"))
    assert "sample aspect ratio 32:27 is stored in each frame" in caplog.text
    assert shown_by_ffmpeg(tmp_path / "a.mkv") == ["sar:32/27"] * 3


def shown_by_ffmpeg(path):
    """The sample aspect ratios of the frames of a video, from FFmpeg's filter showinfo."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    with av.open(str(path)) as container, av.logging.Capture() as logs:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        graph.link_nodes(source, graph.add("showinfo"), graph.add("buffersink")).configure()
        for frame in container.decode(video=0):
            graph.vpush(frame)
            graph.vpull()
    av.logging.set_level(level)
    return re.findall("sar:[0-9/]+", "".join(text for _, _, text in logs))


def sine(rate, channels, seconds=1.0, start=0.0):
    """Frames of sound."""
    layout = {1: "mono", 2: "stereo"}[channels]
    total = int(seconds * rate)
    wave = (8000 * np.sin(np.arange(total) * 2 * np.pi * 440 / rate)).astype(np.int16)
    for first in range(0, total, 1000):
        part = wave[first : first + 1000]
        frame = av.AudioFrame.from_ndarray(part.repeat(channels)[None], format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first + round(start * rate), Fraction(1, rate)
        yield frame


def with_tracks(path, sounds=(("aac", "deu"), ("aac", "eng")), subtitles="subrip", video_start=0.0):
    """Write 25 frames with sounds, subtitles, chapters and metadata."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25, {"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        base = stream.codec_context.time_base = stream.time_base = Fraction(1, 12800)
        tracks = []
        for codec, language in sounds:
            tracks.append(container.add_stream(codec, 44100))
            tracks[-1].codec_context.layout = "stereo"
            tracks[-1].metadata["language"] = language
        if subtitles:
            text = container.add_stream(subtitles)
            text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
            text.metadata["language"] = "fra"
            text.codec_context.time_base = text.time_base = Fraction(1, 1000)
        container.metadata.update(
            {"title": "A title", "creation_time": "2020-01-02T03:04:05.000000Z", "location": "+51.5000+000.1000/"}
        )
        second = Fraction(1, 1000)
        container.set_chapters(
            [
                {"id": 1, "start": 0, "end": 500, "time_base": second, "metadata": {"title": "one"}},
                {"id": 2, "start": 500, "end": 1000, "time_base": second, "metadata": {"title": "two"}},
            ]
        )
        for number, frame in enumerate(images([smooth(number) for number in range(25)])):
            frame.pts, frame.time_base = round((video_start + number / 25) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track in tracks:
            for frame in sine(44100, 2):
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        if subtitles:
            shown = av.subtitles.subtitle.SubtitleSet.create(b"0,0,Default,,0,0,0,,Hello", 0, 400)
            packet = text.codec_context.encode_subtitle(shown)
            packet.pts = packet.dts = 200
            packet.duration, packet.time_base, packet.stream = 400, second, text
            container.mux(packet)
    return str(path)


def tracks_of(path):
    with av.open(str(path)) as container:
        return [
            (stream.type, stream.codec_context.name, stream.metadata.get("language"))
            for stream in container.streams
            if stream.type in ("audio", "subtitle")
        ]


def packets_of(path, kind, number=0):
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def test_all_tracks_are_copied_or_converted_and_said(tmp_path, target, caplog):
    source = with_tracks(tmp_path / "source.mkv")
    assert video.upscale_video(source, str(target), enlarged) == []
    said = [("audio", "aac", "deu"), ("audio", "aac", "eng"), ("subtitle", "mov_text", "fra")]
    assert tracks_of(target) == said
    for number in (0, 1):
        before, after = (packets_of(path, "audio", number) for path in (source, target))
        assert [data for _, data in before] == [data for _, data in after]
        shifted = [float(new - old) for (old, _), (new, _) in zip(before, after, strict=True)]
        assert max(map(abs, shifted)) < 0.002
    (when, text) = next(packet for packet in packets_of(target, "subtitle") if b"Hello" in packet[1])
    assert text == b"\0\5Hello" and float(when) == pytest.approx(0.2)
    assert any("track 3 (subtitle, subrip) is converted to mov_text" in line for line in caplog.messages)


def test_a_container_that_allows_it_gets_all_tracks_as_they_are(tmp_path, caplog):
    source = with_tracks(tmp_path / "source.mkv", sounds=[("flac", "deu"), ("mp2", "eng")])
    video.upscale_video(source, str(tmp_path / "large.mkv"), enlarged)
    assert [codec for _, codec, _ in tracks_of(tmp_path / "large.mkv")] == ["flac", "mp2", "srt"]
    assert packets_of(source, "subtitle") == packets_of(tmp_path / "large.mkv", "subtitle")
    assert not [line for line in caplog.messages if "converted" in line]


@pytest.mark.parametrize("codec", ["pcm_s16le", "mp2"])
def test_sound_that_players_of_mp4_do_not_know_is_converted(tmp_path, target, caplog, codec):
    source = with_tracks(tmp_path / "source.mkv", sounds=[(codec, "deu")], subtitles=None)
    video.upscale_video(source, str(target), enlarged)
    assert tracks_of(target) == [("audio", "aac", "deu")]
    assert f"{source}: track 1 (audio, {codec}) is converted to aac" in caplog.messages
    with av.open(str(target)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) == pytest.approx(44100, abs=2100) and sound.std() == pytest.approx(0.17, abs=0.02)


def test_covers_are_copied_and_what_has_no_place_is_named(tmp_path, target, caplog):
    cover = io.BytesIO()
    Image.fromarray(smooth(0, 40, 40)).save(cover, "png")
    source = str(tmp_path / "source.mkv")
    with av.open(source, "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height = 32, 24
        container.add_attachment("font.ttf", "application/x-truetype-font", b"abc")
        container.add_attachment("cover.png", "image/png", cover.getvalue())
        for frame in images([smooth(number) for number in range(5)]):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    video.upscale_video(source, str(target), enlarged)
    assert f"{source}: track 1 (attachment, unknown) is left out: the result cannot hold it" in caplog.messages
    with av.open(str(target)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["h264", "png"]
        assert bytes(next(container.demux(container.streams.video[1]))) == cover.getvalue()
    video.upscale_video(source, str(tmp_path / "large.mkv"), enlarged)
    with av.open(str(tmp_path / "large.mkv")) as container:
        assert [stream.data for stream in container.streams if stream.type == "attachment"] == [b"abc"]


def test_what_describes_a_video_is_kept(tmp_path, target):
    source = with_tracks(tmp_path / "source.mp4", subtitles=None)
    video.upscale_video(source, str(target), enlarged)
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "A title"
        assert container.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"
        assert container.metadata["location"] == "+51.5000+000.1000/"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]


def test_sound_and_video_start_as_they_did(tmp_path, target):
    source = with_tracks(tmp_path / "source.mp4", subtitles=None, video_start=0.3)
    video.upscale_video(source, str(target), enlarged)
    for path in (source, target):
        with av.open(str(path)) as container:
            starts = [
                float(stream.start_time * stream.time_base) for stream in container.streams if stream.type != "data"
            ]
        assert starts == pytest.approx([0.3, 0, 0], abs=0.001)


# Resuming


def test_finished_frames_are_stored_without_loss_and_not_made_again(tmp_path, source, target):
    video.upscale_video(source, str(tmp_path / "undisturbed.mp4"), enlarged)
    interrupt(source, target)
    assert not target.exists()
    segments = sorted(segments_of(target).glob("*.mkv"))
    assert [path.name for path in segments] == ["00000000.mkv", "00000010.mkv"]
    small = [frame.rgb(32, 24) for frame in video_reading.Video(source).frames()][:20]
    np.testing.assert_array_equal(np.concatenate([read(path) for path in segments]), enlarged(np.stack(small)))
    rest = Counting()
    video.upscale_video(source, str(target), rest)
    assert rest.calls == 14
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


def test_progress_tells_of_all_frames(source, target):
    interrupt(source, target)
    steps = []
    video.upscale_video(source, str(target), enlarged, lambda frames, total: steps.append((frames, total)))
    assert steps == 34 * [(1, 34)]


def test_the_result_appears_when_it_is_complete(source, target):
    target.parent.mkdir()
    target.write_bytes(b"an older one")

    def upscale(frame):
        assert target.read_bytes() == b"an older one"
        return enlarged(frame)

    video.upscale_video(source, str(target), upscale)
    assert len(read(target)) == 34


KILLED = """
import sys, time
from pyimagesearch import cli
from pyimagesearch.inference import video

def upscale(frame):
    time.sleep(0.02)
    return frame.repeat(4, axis=0).repeat(4, axis=1)

video.SEGMENT = 5
print("begins", flush=True)
video.upscale_video(*sys.argv[1:], upscale)
"""


def test_processes_that_are_killed_at_any_moment_leave_whole_segments(tmp_path, source, target, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT", 5)
    video.upscale_video(source, str(tmp_path / "undisturbed.mp4"), enlarged)
    moments = random.Random(1)
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, source, str(target)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"begins\n"
        time.sleep(moments.uniform(0.1, 0.5))
        process.kill()
        assert process.wait() == -signal.SIGKILL and not target.exists()
    stored = len(list(segments_of(target).glob("0*.mkv")))
    rest = Counting()
    video.upscale_video(source, str(target), rest)
    assert rest.calls == 34 - 5 * stored
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["large.mp4"]


def test_another_video_of_that_name_is_not_mixed_in(source, target, caplog):
    interrupt(source, target)
    write(source, [smooth(60 - number) for number in range(34)])
    whole = Counting()
    video.upscale_video(source, str(target), whole)
    assert whole.calls == 34 and "starting over" in caplog.text
    assert min(psnr(enlarged(smooth(60 - number)), frame) for number, frame in enumerate(read(target))) > 30


@pytest.mark.parametrize("other", [lambda frame: 255 - enlarged(frame), lambda frame: enlarged(frame, 2)])
def test_what_another_model_made_is_not_mixed_in(source, target, other):
    interrupt(source, target)
    video.upscale_video(source, str(target), other)
    for small, large in zip(read(source), read(target), strict=True):
        assert psnr(other(small), large) > 30


@pytest.mark.parametrize("way", ["cut", "changed"])
def test_a_segment_that_was_damaged_meanwhile_is_made_again(tmp_path, source, target, way, caplog):
    interrupt(source, target)
    segment = segments_of(target) / "00000010.mkv"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 255
    segment.write_bytes(data[: len(data) // 2] if way == "cut" else data)
    video.upscale_video(source, str(tmp_path / "undisturbed.mp4"), enlarged)
    again = Counting()
    video.upscale_video(source, str(target), again)
    assert again.calls == 24 and f"{segment}: is damaged; its frames are computed again" in caplog.messages
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


# Damage and what cannot be done


@pytest.mark.parametrize(
    ("ending", "codec", "packets", "numbers"),
    [
        (".avi", "mjpeg", [12], [12]),
        (".avi", "mjpeg", [0, 1, 10, 33], [0, 1, 10, 33]),
        (".mkv", "mjpeg", [9, 10, 19, 20, 21], [9, 10, 19, 20, 21]),
        (".webm", "libvpx-vp9", [33], [33]),
        (".mp4", "mpeg4", [33], [33]),
    ],
)
def test_frames_that_cannot_be_decoded_are_named(tmp_path, target, caplog, capfd, ending, codec, packets, numbers):
    frames = [random_image(24, 32, number) // 4 + smooth(number) // 2 for number in range(34)]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write(tmp_path / f"source{ending}", frames, codec, pix_fmt, options={"b": "2000000"})
    whole = video_reading.Video(source)
    good = {frame.time: frame.rgb(32, 24) for frame in whole.frames()}
    damage(source, *packets)
    interrupt(source, target, frames=22)
    assert video.upscale_video(source, str(target), enlarged) == numbers
    assert f"damaged frames, which may show the frame before: {', '.join(map(str, numbers))}" in caplog.text
    assert capfd.readouterr().err == ""
    kept = {when: image for number, (when, image) in enumerate(good.items()) if number not in numbers}
    assert times_of(target) == pytest.approx([float(when) for when in kept], abs=1e-3)
    for true, large in zip(kept.values(), read(target), strict=True):
        assert psnr(enlarged(true), large) > 30


def test_frames_that_are_stored_in_another_order_are_counted_as_they_are_shown(tmp_path, target):
    source = write(
        tmp_path / "source.mp4", [random_image(48, 64, number) for number in range(34)], "mpeg4", options={"bf": "2"}
    )
    with av.open(source) as container:
        packets = [packet.pts for packet in container.demux(video=0) if packet.size]
    number = sorted(packets).index(packets[5])
    damage(source, 5)
    assert number in video.upscale_video(source, str(target), enlarged) and number != 5


@pytest.mark.parametrize("content", [b"", b"not a video" * 100, "half"])
def test_what_is_not_a_video_is_named(source, target, content, capfd):
    path = pathlib.Path(source)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(UserError, match="^.*source.mp4: not a video that FFmpeg can read$"):
        video.upscale_video(source, str(target), enlarged)
    assert not target.parent.exists() and capfd.readouterr() == ("", "")


def test_a_video_that_is_cut_off_gives_what_there_is(tmp_path, source, target):
    cut_off = write(tmp_path / "cut.mkv", [random_image(24, 32, number) for number in range(34)], "mjpeg", "yuvj420p")
    data = pathlib.Path(cut_off).read_bytes()
    pathlib.Path(cut_off).write_bytes(data[: len(data) // 2])
    video.upscale_video(cut_off, str(target), enlarged)
    assert 10 < len(read(target)) < 24


def test_a_video_of_which_nothing_can_be_decoded_is_named(tmp_path, target):
    source = write(tmp_path / "source.avi", [smooth(number) for number in range(3)], "mjpeg", "yuvj420p")
    with pytest.raises(UserError, match="source.avi: none of its frames can be decoded"):
        video.upscale_video(damage(source, 0, 1, 2), str(target), enlarged)


def test_a_file_of_sound_alone_is_named(tmp_path, target):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        track = container.add_stream("aac", 44100)
        for frame in sine(44100, 2):
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with pytest.raises(UserError, match="sound.mp4: not a video"):
        video.upscale_video(str(tmp_path / "sound.mp4"), str(target), enlarged)


@pytest.mark.parametrize("name", ["missing.mp4", "."])
def test_a_missing_video_is_named(tmp_path, target, name):
    with pytest.raises(UserError, match="no such video"):
        video.upscale_video(str(tmp_path / name), str(target), enlarged)


def test_names_are_never_taken_for_patterns_or_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(write(tmp_path / "plain.mp4", [smooth(0)]), "a:%03d -b.mp4")
    video.upscale_video("a:%03d -b.mp4", "-i c:%03d.mp4", enlarged)
    assert len(read(tmp_path / "-i c:%03d.mp4")) == 1


def test_targets_that_cannot_be_written_are_told_before(source, target):
    for wrong, settings, message in (
        ("gs://bucket/large.mp4", None, "^gs://bucket/large.mp4: videos can only be written to this machine"),
        (str(target.with_suffix(".webm")), None, "large.webm: .* ends in .mp4"),
        (str(target), VideoSettings("ffv1"), "large.mp4: does not support the codec ffv1; .* ends in .mkv"),
        (source, None, "source.mp4: is the source"),
    ):
        with pytest.raises(UserError, match=message):
            video.upscale_video(source, wrong, Counting(fails_at=0), settings=settings)


def test_a_video_that_would_be_too_large_is_told_before(source, target):
    calls = []

    def upscale(frame):
        calls.append(1)
        return np.zeros((6, 20000, 3), np.uint8)

    with pytest.raises(UserError, match="source.mp4: would become 20000x6, larger than h264 supports"):
        video.upscale_video(source, str(target), upscale)
    assert len(calls) == 1 and not target.parent.exists()


def test_a_disk_that_is_too_small_is_told_before_frames_are_computed(source, target, monkeypatch):
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    counting = Counting()
    with pytest.raises(UserError, match="large.mp4.segments: about 0.0 GB are needed .* free some disk space"):
        video.upscale_video(source, str(target), counting)
    assert counting.calls == 0


def test_a_full_disk_leaves_no_part_of_a_segment(tmp_path, target):
    source = write(tmp_path / "source.avi", [random_image(24, 32, number) for number in range(34)], "mjpeg", "yuvj420p")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(UserError, match="cannot be written .*; free some disk space"):
            video.upscale_video(source, str(target), lambda frame: random_image(96, 128, int(frame.sum())))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in target.parent.rglob("*") if path.is_file()} <= {"plan.txt", "sample.npy"}
    video.upscale_video(source, str(target), enlarged)
    assert len(read(target)) == 34


def test_a_video_that_is_changed_meanwhile_is_told(source, target):
    def upscale(frame):
        pathlib.Path(source).touch()
        return enlarged(frame)

    with pytest.raises(UserError, match="source.mp4: was changed while it was read"):
        video.upscale_video(source, str(target), upscale)
    assert not list(target.parent.rglob("0*.mkv"))


# Speed


def test_decoding_computing_and_encoding_overlap(source, target, monkeypatch):
    threads = {"compute": set(), "encode": set(), "decode": set()}

    def noted(name, function):
        def call(*args):
            threads[name].add(threading.get_ident())
            return function(*args)

        return call

    monkeypatch.setattr(video_writing.Writer, "write", noted("encode", video_writing.Writer.write))
    monkeypatch.setattr(video_reading, "_matrix", noted("decode", video_reading._matrix))
    video.upscale_video(source, str(target), noted("compute", enlarged))
    here = threading.get_ident()  # where the first frame and noise are looked at, too
    assert threads["encode"] == {here} and len(threads["compute"] | threads["decode"] | {here}) == 3


def test_no_more_than_some_frames_are_ahead():
    made = []
    items = video._overlapped(made.append(number) or number for number in range(100))
    assert next(items) == 0
    time.sleep(0.05)
    assert len(made) <= 1 + video._AHEAD
    items.close()


def test_frames_a_second_and_time_left_are_told(source, target, caplog, monkeypatch):
    monkeypatch.setattr(video, "_PACE", 0)
    video.upscale_video(source, str(target), enlarged)
    told = r"10 of 34 frames, [\d.e+]+ frames/s, about \d\d:\d\d left$"
    assert any(re.search(told, line) for line in caplog.messages)


# Animated images


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animated_images_become_videos(tmp_path, target, ending):
    frames = [Image.fromarray(np.full((24, 32, 3), value, np.uint8)) for value in (0, 120, 250)]
    path = tmp_path / f"moving.{ending}"
    lossless = {"lossless": True} if ending == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 300, 200], **lossless)
    assert is_animated(str(path))
    video.upscale_video(str(path), str(target), enlarged)
    assert times_of(target) == pytest.approx([0, 0.1, 0.4], abs=1e-3) and end_of(target) == pytest.approx(0.6, abs=1e-3)
    assert np.abs(read(target).mean(axis=(1, 2, 3)) - [0, 120, 250]).max() <= 2


def test_images_of_one_frame_are_not_animated(tmp_path):
    Image.fromarray(smooth(0)).save(tmp_path / "a.png")
    (tmp_path / "bad.gif").write_bytes(b"GIF89a")
    assert not any(is_animated(str(tmp_path / name)) for name in ("a.png", "bad.gif", "none.gif", "a.jpg"))


# A browser

PAGE = """<video src="large.mp4" muted></video><img src="{place}/wait"><script>
const video = document.querySelector("video");
const tell = words => fetch("{place}/told?" + words.join("&"), {{mode: "no-cors"}});
video.onloadeddata = () => {{ video.currentTime = 1.0; }};
video.onerror = () => tell(["error", video.error.message]);
video.onseeked = async () => {{
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  let colour;
  for (let tries = 0; tries < 500; tries++) {{ // a busy machine paints the frame some time after the event
    context.drawImage(video, 0, 0);
    colour = context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
    if (colour[0] > 100) break;
    await new Promise(resolve => setTimeout(resolve, 20));
  }}
  await video.play();
  tell([video.videoWidth, video.videoHeight, video.duration.toFixed(2), ...colour]);
}};
</script>"""


class Listener(http.server.BaseHTTPRequestHandler):
    """Answers the image of a page, and so lets the browser end, when the page has told what it found."""

    def do_GET(self):  # noqa: N802  the name is that of the base class
        if self.path.startswith("/told?"):
            self.server.told.extend(self.path.removeprefix("/told?").split("&"))
            self.server.has_told.set()
        elif self.path == "/wait":
            self.server.has_told.wait(40)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def listener():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    server.told, server.has_told = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@needs_chromium
def test_a_browser_plays_the_result(tmp_path, listener):
    frames = [np.full((24, 32, 3), (200, 60, 30) if number >= 25 else (20, 20, 20), np.uint8) for number in range(40)]
    source = write(tmp_path / "source.mkv", frames)
    video.upscale_video(source, str(tmp_path / "large.mp4"), enlarged)
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(place=f"http://127.0.0.1:{listener.server_port}"))
    flags = ["--allow-file-access-from-files", "--disable-web-security", "--dump-dom"]
    run_chromium(page, tmp_path / "profile", *flags)
    width, height, duration, *colour = listener.told
    assert (width, height, duration) == ("128", "96", "1.60")
    assert np.abs(np.array(colour[:3], int) - (200, 60, 30)).max() <= 3


# The cases that failed with other tools


@pytest.mark.skipif(not CASES.is_dir(), reason="needs cases that are not part of the project")
@pytest.mark.parametrize(
    ("name", "frames", "length"),
    [("trimmed.mp4", 17, 0.76), ("vfr_flash.mp4", 40, 2.0), ("anamorphic.mp4", 10, 0.4), ("c.mpg", 10, 0.41)],
)
def test_cases_that_failed_are_right(target, name, frames, length, caplog):
    assert video.upscale_video(str(CASES / name), str(target), enlarged) == []
    assert len(read(target)) == frames and end_of(target) == pytest.approx(length, abs=0.01)
    if name == "vfr_flash.mp4":
        bright = read(target).mean(axis=(1, 2, 3)) > 128
        assert times_of(target)[int(np.argmax(bright))] == pytest.approx(1.0, abs=0.034)
