import re

import pytest
import tensorflow as tf
from conftest import random_image, randomize, save
from PIL import Image

import train_srgan
from pyimagesearch.config import SHIPPED_DISCRIMINATOR, SHIPPED_GENERATORS, Paths
from pyimagesearch.data import tfrecords
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation.scores import Score
from pyimagesearch.srgan import SRGAN
from pyimagesearch.training import fine_tuning, run, run_config


def score(distance):
    return Score(30.0, 0.9, 28.0, 0.8, 50.0, distance, 1.2, 0.5, 0)


@pytest.mark.parametrize(
    ("after", "said"), [(0.4, "helped: .* from 0.500 to 0.400 .-20.0%"), (0.6, r"did not help: .*\+20.0%")]
)
def test_the_verdict_is_that_of_the_perceptual_distance(after, said):
    assert re.search(said, fine_tuning.verdict(score(0.5), score(after), 3))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, with photographs and a small generator."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        save(tmp_path / "photographs" / f"{number}.png", random_image(304, 304, number))
    generator = SRGAN.generator(4, 4, 1)
    randomize(generator)
    generator.save(tmp_path / "small.keras")
    return tmp_path


FLAGS = "--init-generator small.keras --vgg-weights random --vgg-layer vgg16:block1_conv2 --crop-size 32 "
FLAGS += "--batch-size 1 --disc-blocks 1"


def fine_tune(folder, minutes):
    argv = ["--fine-tune", folder, "--minutes", str(minutes), *FLAGS.split(), "--steps-per-epoch", "1"]
    return train_srgan.main(argv)


def test_one_command_trains_on_a_folder_for_a_time_and_compares(place, capsys):
    assert fine_tune("photographs", 0.001) == 0
    assert "[INFO] the fine-tuning " in capsys.readouterr().out
    assert Image.open("outputs/images/before_and_after.png").width > 100
    assert tfrecords.find_shards("outputs/tfrecord", "test", 4)
    length = run_config.read("outputs/models/config.json").finetune_epochs
    assert fine_tune("photographs", 100) == 0  # a finished run keeps its length
    assert run_config.read("outputs/models/config.json").finetune_epochs == length


def test_the_first_stage_is_refused(capsys):
    with pytest.raises(SystemExit):
        train_srgan.parse_args(["--fine-tune", "photographs", "--init-stage", "pretrain"])
    assert "--fine-tune trains the GAN stage; remove --init-stage" in capsys.readouterr().err


def test_records_of_another_folder_are_refused(place):
    (place / "others").mkdir()
    save(place / "others" / "a.png", random_image(304, 304))
    config = train_srgan.build_config(train_srgan.parse_args(["--fine-tune", "photographs", "--crop-size", "32"]))
    fine_tuning.make_records("photographs", "records", config)
    fine_tuning.make_records("./photographs", "records", config)
    with pytest.raises(UserError, match="^records: has records of another folder"):
        fine_tuning.make_records("others", "records", config)


@pytest.mark.parametrize(("minutes", "epochs"), [(10, 38), (1, 4), (0.01, 1)])
def test_as_many_epochs_are_trained_as_fit_into_the_time(minutes, epochs):
    assert fine_tuning.epochs_within(minutes, seconds_per_epoch=16) == epochs


def test_the_length_follows_from_the_time(place):
    args = train_srgan.parse_args(["--fine-tune", "photographs", *FLAGS.split(), "--steps-per-epoch", "50"])
    config, options = train_srgan.build_config(args), train_srgan.build_options(args)
    fine_tuning.make_records("photographs", options.paths.records, config)
    strategy = tf.distribute.get_strategy()
    fitted = fine_tuning.fit_to_time(config, options, strategy, minutes=10)
    assert fitted.finetune_epochs != config.finetune_epochs and fitted.steps_per_epoch == 50
    assert not (place / "outputs" / "models").exists()


def test_the_networks_of_the_project_are_the_start_unless_a_generator_is_given():
    options = fine_tuning.start_from_shipped(run.Options(Paths()))
    assert (options.init_generator, options.init_srgan) == (
        SHIPPED_GENERATORS["pretrained"],
        SHIPPED_GENERATORS["srgan"],
    )
    assert options.init_discriminator == SHIPPED_DISCRIMINATOR
    given = run.Options(Paths(), init_generator="mine.keras")
    assert fine_tuning.start_from_shipped(given) == given
