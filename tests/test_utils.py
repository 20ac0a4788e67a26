import numpy as np
import pytest
from PIL import Image

from pyimagesearch import files, utils
from pyimagesearch.training import callbacks


@pytest.fixture
def grey():
    return np.full((96, 96, 3), 128, np.uint8)


def test_the_grid_has_a_titled_column_for_each_kind_and_a_row_for_each_image(grey):
    columns = {"Low resolution": [grey[::4, ::4]] * 3, "SRGAN": [grey] * 3}
    figure = utils.comparison_grid(columns, {"SRGAN": ["30 dB", "31 dB", "32 dB"]})
    axes = np.array(figure.axes).reshape(3, 2)
    assert [cell.get_title() for cell in axes[0]] == ["Low resolution", "SRGAN"]
    assert [cell.get_xlabel() for cell in axes[:, 1]] == ["30 dB", "31 dB", "32 dB"]
    np.testing.assert_array_equal(axes[2, 0].images[0].get_array(), grey[::4, ::4])


def test_the_zoom_shows_the_tutorials_square_at_twice_the_size(grey):
    figure = utils.zoom_into_images(grey, "SRGAN")
    whole, inset = figure.axes
    figure.draw_without_rendering()
    assert whole.get_title() == "SRGAN"
    assert (inset.get_xlim(), inset.get_ylim()) == ((20, 40), (20, 40))
    pixels = whole.get_window_extent().width / 96
    box = inset.get_window_extent()
    assert box.width == pytest.approx(2 * 20 * pixels, rel=0.01)
    assert box.x0 - whole.get_window_extent().x0 < 5 * pixels
    assert whole.get_window_extent().y1 - box.y1 < 5 * pixels


def test_the_zoom_marks_its_square_in_blue(grey, tmp_path):
    files.save_figure(utils.zoom_into_images(grey, "SRGAN"), str(tmp_path / "SRGAN.png"))
    rgb = np.asarray(Image.open(tmp_path / "SRGAN.png").convert("RGB")).astype(int)
    blue = (rgb[..., 2] > 200) & (rgb[..., 0] < 60) & (rgb[..., 1] < 60)
    rows, columns = np.nonzero(blue)
    assert len(rows) > 200
    assert rows.max() > rgb.shape[0] / 2 and columns.min() < rgb.shape[1] / 3  # the square is at the lower left


def test_images_are_drawn_as_they_are(tmp_path):
    """The contrast of a dull image is not stretched."""
    dull = np.full((96, 96, 3), (100, 110, 120), np.uint8)
    files.save_figure(utils.comparison_grid({"SRGAN": [dull]}, {}), str(tmp_path / "grid.png"))
    rgb = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    assert tuple(rgb[rgb.shape[0] // 2, rgb.shape[1] // 2]) == (100, 110, 120)


def test_the_curves_show_both_stages_one_after_the_other():
    rows = [{"stage": "pretrain", "step": step, "pixel_loss": 1.0, "val_psnr": 20.0 + step} for step in (1, 2)]
    rows += [{"stage": "finetune", "step": step, "val_grid": 1.2, "val_detail": 0.5} for step in (1, 2, 3)]
    panels = {axes.get_title(): axes for axes in utils.training_curves(rows).axes}
    np.testing.assert_array_equal(panels["validation: PSNR on Y (dB)"].lines[0].get_data(), [[1, 2], [21, 22]])
    grid, detail, boundary = panels["validation: grid and detail"].lines
    np.testing.assert_array_equal(grid.get_data(), [[3, 4, 5], [1.2] * 3])
    np.testing.assert_array_equal(detail.get_data(), [[3, 4, 5], [0.5] * 3])
    assert set(boundary.get_xdata()) == {2}


def test_everything_that_validation_finds_has_a_curve():
    shown = [column for columns in utils.CURVES.values() for column in columns]
    assert [column for column in callbacks.COLUMNS if column.startswith("val_")] == [
        column for column in shown if column.startswith("val_")
    ]
    assert set(shown) < set(callbacks.COLUMNS)
