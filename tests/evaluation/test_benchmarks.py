import csv
import json
import time

import numpy as np
import pytest
from conftest import enlarged, random_image, save

from pyimagesearch import metrics
from pyimagesearch.data import pairs
from pyimagesearch.data.degradations import Fixed
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import benchmarks, scores
from pyimagesearch.evaluation.reports import (
    Measured,
    Result,
    as_csv,
    as_json,
    by_model,
    from_worst_to_best,
    markdown,
    table,
)
from pyimagesearch.inference import upscaling
from pyimagesearch.vgg import VGG


def bicubic(lr):
    return upscaling.bicubic(lr[None], 4)[0]


def smooth(height, width, seed=0):
    """An image without fine detail."""
    return bicubic(random_image(height // 4, width // 4, seed))


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark of two images with given LR images. The second image is the easier one."""
    for number, hr in enumerate([random_image(40, 48), smooth(44, 40)]):
        save(tmp_path / "Set2" / "HR" / f"{number}.png", hr)
        save(tmp_path / "Set2" / "LRx4" / f"{number}x4.png", pairs.shrink(hr, 4))
    return benchmarks.find_benchmark("Set2", str(tmp_path / "Set2"), 4)


def test_bicubic_has_its_known_figures_on_set5(shared_data):
    set5 = benchmarks.find_benchmark("Set5", str(shared_data / "Set5"), 4)
    assert not set5.lr_is_made
    score = benchmarks.means(list(benchmarks.evaluate(set5, {"bicubic": bicubic})))
    assert score.psnr_y == pytest.approx(28.43, abs=0.005)
    assert score.ssim_y == pytest.approx(0.811, abs=0.001)
    assert score.grid == pytest.approx(3.82, abs=0.01)
    assert score.detail == pytest.approx(0.035, abs=0.001)
    assert all(metrics.grid(set5.read(number).hr) < metrics.NO_GRID for number in range(5))


def test_lr_of_its_own_is_used_and_otherwise_it_is_made(benchmark, tmp_path):
    pair = benchmark.read(1)
    np.testing.assert_array_equal(pair.lr, pairs.shrink(pair.hr, 4))
    save(tmp_path / "Set2" / "LRx4" / "1x4.png", 255 - pair.lr)
    np.testing.assert_array_equal(benchmark.read(1).lr, 255 - pair.lr)
    save(tmp_path / "alone" / "HR" / "1.png", np.pad(pair.hr, ((0, 3), (0, 1), (0, 0))))  # is trimmed
    alone = benchmarks.find_benchmark("alone", str(tmp_path / "alone"), 4)
    assert alone.lr_is_made
    np.testing.assert_array_equal(alone.read(0).lr, pair.lr)


def test_a_degraded_benchmark_degrades_its_lr_by_the_name_of_the_image(benchmark, tmp_path):
    degraded = benchmark.degraded(Fixed(noise=5))
    assert (degraded.name, benchmark.degraded(Fixed()).name) == ("Set2, noise 5", "Set2")
    noise = [degraded.read(number).lr.astype(int) - benchmark.read(number).lr for number in range(2)]
    assert all(3 < one.std() < 6 for one in noise) and (noise[0][:10, :10] != noise[1][:10, :10]).any()
    np.testing.assert_array_equal(degraded.read(1).hr, benchmark.read(1).hr)
    (tmp_path / "Set2" / "HR" / "0.png").unlink()
    alone = benchmarks.find_benchmark("Set2", str(tmp_path / "Set2"), 4).degraded(Fixed(noise=5))
    np.testing.assert_array_equal(alone.read(0).lr, degraded.read(1).lr)


def test_a_score_compares_on_y_and_rgb_and_with_the_input(benchmark):
    pair = benchmark.read(0)
    sr = bicubic(pair.lr)
    score = scores.score(pair, sr, 4, None, 2.5)
    assert (score.psnr_y, score.ssim_y) == (metrics.psnr(pair.hr, sr), metrics.ssim(pair.hr, sr))
    assert (score.psnr_rgb, score.ssim_rgb) == (
        metrics.psnr(pair.hr, sr, 4, "rgb"),
        metrics.ssim(pair.hr, sr, 4, "rgb"),
    )
    assert score.lr_psnr == metrics.psnr(pair.lr, pairs.shrink(sr, 4), 1, "rgb")
    assert (score.grid, score.detail) == (metrics.grid(sr), metrics.detail(pair.hr, sr))
    assert (score.perceptual_distance, score.seconds) == (None, 2.5)
    perfect = scores.score(pair, pair.hr, 4, None, 1)
    assert perfect[:5] == (100, 1, 100, 1, 100) and perfect.detail == 1


def test_a_score_has_the_perceptual_distance_of_the_features(benchmark):
    vgg = VGG.build("vgg16:block2_conv1", "random")
    distance = scores.perceptual_distance(vgg)
    for number in range(2):  # of two sizes
        pair = benchmark.read(number)
        sr = bicubic(pair.lr)
        (expected,) = metrics.perceptual_distance(vgg, pair.hr[None], sr[None]).numpy()
        assert expected > 0
        found = scores.score(pair, sr, 4, distance, 1).perceptual_distance
        assert found == pytest.approx(expected, rel=1e-4)


def test_seconds_leave_out_what_is_done_once(benchmark):
    calls = []

    def upscale(lr):
        calls.append(lr.shape)
        time.sleep(1.5 if len(calls) == 1 else 0.1)
        return enlarged(lr)

    rows = list(benchmarks.evaluate(benchmark, {"nearest": upscale}))
    assert calls == [(10, 12, 3), (10, 12, 3), (11, 10, 3)]
    assert [(row.image, row.model) for row in rows] == [("0", "nearest"), ("1", "nearest")]
    assert all(0.1 <= row.score.seconds < 1.5 for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "LRx4" / "1x4.png").unlink(), "1.png: no image of the same name in .*LRx4"),
        (
            lambda root: save(root / "LRx4" / "1x4.png", random_image(10, 10)),
            "1.png and .*1x4.png: HR is not 4 times as large as LR",
        ),
        (
            lambda root: save(root / "HR" / "1.bmp", random_image(44, 40)),
            "1.bmp and .*1.png: two images with the same name",
        ),
        (lambda root: (root / "HR" / "1.png").write_text("no"), "1.png: .*; remove it from the benchmark"),
        (lambda root: (root / "HR").rename(root / "hr"), "no images in .*HR; put the ground truth there"),
        (lambda root: save(root / "HR" / "1.png", random_image(3, 40)), "1.png: too small for the measures"),
    ],
)
def test_what_cannot_be_measured_is_named(benchmark, tmp_path, change, said):
    change(tmp_path / "Set2")
    with pytest.raises(UserError, match=said):
        found = benchmarks.find_benchmark("Set2", str(tmp_path / "Set2"), 4)
        list(benchmarks.evaluate(found, {"bicubic": bicubic}))


def test_what_has_no_features_so_deep_is_named(tmp_path):
    save(tmp_path / "HR" / "0.png", smooth(24, 24))
    small = benchmarks.find_benchmark("small", str(tmp_path), 4)
    with pytest.raises(UserError, match="0.png: too small for the features of this VGG layer"):
        list(benchmarks.evaluate(small, {"bicubic": bicubic}, VGG.build("vgg16:block5_pool", "random")))


def test_too_little_memory_is_reported_with_the_image(benchmark):
    def upscale(lr):
        raise MemoryError

    with pytest.raises(UserError, match="0.png: too large for the memory"):
        list(benchmarks.evaluate(benchmark, {"large": upscale}))


METHODS = {"bicubic": bicubic, "nearest": enlarged}


@pytest.fixture
def result(benchmark):
    return Result(benchmark, list(benchmarks.evaluate(benchmark, METHODS)))


def test_tables_hold_the_means_of_each_model(result):
    lines = table(by_model(result.rows)).splitlines()
    assert len({len(line) for line in lines}) == 1
    headings = [heading.strip() for heading in lines[0].strip("|").split("|")]
    assert headings[5:] == ["LR PSNR (dB)", "grid", "detail", "s/image"]
    mean = np.mean([row.score.psnr_y for row in result.rows if row.model == "nearest"])
    assert lines[3].startswith("| nearest |") and f" {mean:.2f} " in lines[3]


def test_reports_say_how_everything_was_measured(result):
    measured = Measured(4, {"nearest": "weights/nearest.keras"}, "tensorflow, float32, 2 CPU cores")
    content = json.loads(as_json([result], measured))
    assert content["benchmarks"]["Set2"]["lr"] == "the benchmark's own LRx4"
    assert content["benchmarks"]["Set2"]["means"]["bicubic"] == by_model(result.rows)["bicubic"]._asdict()
    assert "4 pixels cut from each side" in content["protocol"]["images"]
    assert "perceptual_distance" not in content["protocol"]
    assert {"grid", "detail", "lr_psnr"} < content["protocol"].keys()
    text = markdown([result], measured)
    for said in ("## Set2, ×4, images: 2", "4 pixels cut", "`weights/nearest.keras`", "2 CPU cores", "ITU-R BT.601"):
        assert said in text
    with_features = measured._replace(vgg="vgg19:block5_conv4, imagenet")
    said = json.loads(as_json([result], with_features))["protocol"]["perceptual_distance"]
    assert "vgg19:block5_conv4, imagenet" in said and "LPIPS (Zhang et al., arXiv 1801.03924) without" in said
    assert f"- perceptual distance: {said}" in markdown([result], with_features)


def test_reports_say_what_was_degraded(benchmark, result):
    how = Fixed(blur=1, jpeg=75)
    degraded = Result(benchmark.degraded(how), result.rows)
    measured = Measured(4, {}, "", degraded=True)
    content = json.loads(as_json([result, degraded], measured))
    assert list(content["benchmarks"]) == ["Set2", "Set2, blur 1, JPEG 75"]
    assert content["benchmarks"]["Set2"]["lr"] == "the benchmark's own LRx4"
    lr = "the benchmark's own LRx4; then degraded: blur 1, JPEG 75"
    assert content["benchmarks"]["Set2, blur 1, JPEG 75"]["lr"] == lr
    text = markdown([result, degraded], measured)
    assert "## Set2, blur 1, JPEG 75, ×4" in text and f"LR: {lr}." in text
    assert content["protocol"]["degradation"] in text
    assert "degradation" not in json.loads(as_json([result], measured._replace(degraded=False)))["protocol"]


def test_the_csv_has_a_line_for_each_image_and_model(result):
    lines = list(csv.DictReader(as_csv([result]).splitlines()))
    assert [(line["benchmark"], line["image"], line["model"]) for line in lines] == [
        ("Set2", image_, model) for image_ in "01" for model in METHODS
    ]
    first = result.rows[0].score
    assert float(lines[0]["psnr_y"]) == first.psnr_y
    assert (float(lines[0]["grid"]), float(lines[0]["detail"])) == (first.grid, first.detail)


def test_the_figure_shows_images_from_the_worst_to_the_best_of_the_last_model(result):
    figure = from_worst_to_best(result, METHODS)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["0", "bicubic", "nearest", "High resolution", "1", *titles[1:4]]
    shown = result.rows[-1].score
    assert figure.axes[6].get_xlabel() == f"{shown.psnr_y:.2f} dB / {shown.ssim_y:.4f}"
    pair, insets = result.benchmark.read(1), [axes.images[0].get_array() for axes in figure.axes[5:]]
    for inset, whole in zip(insets, [bicubic(pair.lr), enlarged(pair.lr), pair.hr], strict=True):
        assert inset.shape == (40, 40, 3)  # of 44x40
        assert any((inset == whole[top : top + 40]).all() for top in range(5))
