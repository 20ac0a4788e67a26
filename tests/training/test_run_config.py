import dataclasses
import json
import os
import pathlib

import pytest

from pyimagesearch.config import PRESETS, Config, Paths
from pyimagesearch.errors import UserError
from pyimagesearch.training import run_config

CONFIG = Config()


@pytest.fixture
def paths(tmp_path):
    return Paths(outputs=str(tmp_path / "outputs"))


def begin(paths, config=CONFIG, fresh=False, writes=True, **facts):
    run_config.begin(paths, run_config.describe(config, **facts), fresh, writes)


def add_checkpoint(paths, stage="pretrain"):
    folder = paths.checkpoints(stage)
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    (pathlib.Path(folder) / "step-10.index").touch()


def test_the_configuration_is_written_beside_the_models(paths):
    begin(paths, precision="float32")
    with open(paths.model("config.json")) as file:
        written = json.load(file)
    assert written["feature_maps"] == 64 and written["precision"] == "float32" and written["hr_shape"] == [96, 96, 3]


def test_only_the_writer_writes(paths, tmp_path):
    begin(paths, writes=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_the_same_settings_resumes(paths):
    begin(paths, precision="float32")
    add_checkpoint(paths)
    begin(paths, precision="float32")
    assert run_config.begun(paths) == ["pretrain"]


def test_other_settings_are_refused_with_what_differs_and_change_nothing(paths):
    begin(paths, precision="float32", global_batch_size=64)
    add_checkpoint(paths)
    other = dataclasses.replace(CONFIG, feature_maps=32)
    with pytest.raises(UserError) as refused:
        begin(paths, other, precision="bfloat16", global_batch_size=64)
    message = str(refused.value)
    assert "feature_maps 64, now 32; precision float32, now bfloat16" in message and "start over" in message
    assert "global_batch_size" not in message
    begin(paths, precision="float32", global_batch_size=64)


def test_a_run_of_an_earlier_version_resumes_with_the_defaults_of_new_fields(paths):
    begin(paths)
    add_checkpoint(paths)
    path = pathlib.Path(paths.model("config.json"))
    written = json.loads(path.read_text())
    del written["degradation"]
    path.write_text(json.dumps(written))
    with pytest.raises(UserError, match="degradation bicubic, now photo"):
        begin(paths, dataclasses.replace(CONFIG, degradation="photo"))
    begin(paths)
    assert json.loads(path.read_text())["degradation"] == "bicubic"


def test_before_the_first_checkpoint_anything_may_change(paths):
    begin(paths)
    begin(paths, dataclasses.replace(CONFIG, feature_maps=32))
    with open(paths.model("config.json")) as file:
        assert json.load(file)["feature_maps"] == 32


@pytest.mark.parametrize(
    "change", [{"checkpoint_every": 3}, {"validate_every": 7}, {"infer_hr_size": 64}, {"train_batch_size": 32}]
)
def test_what_does_not_shape_the_result_may_change(paths, change):
    begin(paths, global_batch_size=64)
    add_checkpoint(paths)
    begin(paths, dataclasses.replace(CONFIG, **change), global_batch_size=64)


@pytest.mark.parametrize(
    ("begun", "schedule", "change", "allowed"),
    [
        (["pretrain"], "constant", "pretrain_epochs", True),
        (["pretrain"], "cosine", "pretrain_epochs", False),
        (["pretrain"], "cosine", "finetune_epochs", True),
        (["pretrain", "finetune"], "constant", "pretrain_epochs", False),
        (["pretrain", "finetune"], "constant", "finetune_epochs", True),
        (["pretrain", "finetune"], "step", "finetune_epochs", False),
    ],
)
def test_a_stage_may_become_longer_while_its_past_stays_what_it_was(paths, begun, schedule, change, allowed):
    config = dataclasses.replace(CONFIG, pretrain_schedule=schedule, finetune_schedule=schedule)
    begin(paths, config)
    for stage in begun:
        add_checkpoint(paths, stage)
    longer = dataclasses.replace(config, **{change: 5000})
    if allowed:
        begin(paths, longer)
    else:
        with pytest.raises(UserError, match=f"{change} 2500, now 5000"):
            begin(paths, longer)


def test_a_stage_whose_crops_grow_keeps_its_length(paths):
    config = dataclasses.replace(CONFIG, pretrain_crops=(64, 96))
    begin(paths, config)
    add_checkpoint(paths)
    with pytest.raises(UserError, match="pretrain_epochs 2500, now 5000"):
        begin(paths, dataclasses.replace(config, pretrain_epochs=5000))


@pytest.mark.parametrize("text", [None, "", "{", "[]"])
def test_checkpoints_without_their_configuration_are_refused(paths, text):
    begin(paths)
    add_checkpoint(paths)
    os.remove(paths.model("config.json"))
    if text is not None:
        pathlib.Path(paths.model("config.json")).write_text(text)
    with pytest.raises(UserError, match="config.json: missing or damaged, .*start over"):
        begin(paths)


def test_a_fresh_start_removes_the_earlier_run_but_not_its_models(paths, tmp_path):
    begin(paths)
    for stage in ("pretrain", "finetune"):
        add_checkpoint(paths, stage)
    model, history = tmp_path / "outputs" / "models" / "generator.keras", tmp_path / "outputs" / "history.csv"
    model.touch()
    history.touch()
    begin(paths, dataclasses.replace(CONFIG, feature_maps=32), fresh=True)
    assert run_config.begun(paths) == []
    assert model.exists() and not history.exists()


def test_the_checksum_depends_on_settings_that_change_the_result():
    def checksum(config=CONFIG, **facts):
        return run_config.checksum(run_config.describe(config, **facts))

    assert checksum(precision="float32") == checksum(precision="float32") < 2**31
    assert checksum(dataclasses.replace(CONFIG, validate_every=3)) == checksum()
    others = [
        checksum(dataclasses.replace(CONFIG, seed=1)),
        checksum(precision="float32"),
        checksum(precision="bfloat16"),
    ]
    assert len({checksum(), *others}) == 4


@pytest.mark.parametrize("name", ["run [x4]", "run*", "run?", "a\\b"])
def test_folders_that_tensorflow_takes_for_patterns_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="TensorFlow cannot restore checkpoints from a folder with .*rename it"):
        begin(Paths(outputs=str(tmp_path / name)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_the_configuration_of_a_run_can_be_read_again(paths, preset):
    config = dataclasses.replace(PRESETS[preset], pretrain_crops=(64, 96))
    begin(paths, config, **dict.fromkeys(run_config.FACTS, "anything"))
    assert run_config.read(paths.model("config.json")) == config


def test_settings_that_earlier_versions_did_not_have_are_the_defaults(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 7, "l1_weight": 1}')
    assert run_config.read(str(tmp_path / "config.json")) == Config(seed=7, l1_weight=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("half of a fi", "damaged, or not a config.json"),
        ("[1, 2]", "damaged, or not a config.json"),
        ('{"sede": 7, "\\n": 1}', r"unknown settings: '\n', 'sede'; remove them"),
        ('{"seed": "7"}', 'seed cannot be "7"'),
        ('{"seed": -1}', "seed cannot be -1"),
        ('{"seed": null}', "seed cannot be null"),
        ('{"seed": true}', "seed cannot be true"),
        ('{"batch_norm": 1}', "batch_norm cannot be 1"),
        ('{"feature_maps": 0}', "feature_maps cannot be 0"),
        ('{"leaky_alpha": NaN}', "leaky_alpha cannot be NaN"),
        ('{"pretrain_loss": "l2"}', 'pretrain_loss cannot be "l2"'),
        ('{"scaling_factor": 3}', "scaling_factor cannot be 3"),
        ('{"hr_shape": [100, 100, 3]}', "hr_shape cannot be "),
        ('{"hr_shape": [96, 64, 3]}', "hr_shape cannot be "),
        ('{"hr_shape": []}', "hr_shape cannot be "),
        ('{"hr_shape": [[96], 96, 3]}', "hr_shape cannot be "),
        ('{"pretrain_crops": [64, "x"]}', "pretrain_crops cannot be "),
        ('{"pretrain_lr": 0}', "pretrain_lr cannot be 0"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        run_config.read(str(path))
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.json: no such file"):
        run_config.read(str(tmp_path / "nowhere.json"))
