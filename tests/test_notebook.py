"""The notebook, run from top to bottom on the CPU."""

import importlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import random_image, save
from PIL import Image

nbformat = pytest.importorskip("nbformat", reason="needs requirements-dev.txt")
nbclient = pytest.importorskip("nbclient", reason="needs requirements-dev.txt")
pytest.importorskip("ipykernel", reason="needs requirements-dev.txt")

ROOT = pathlib.Path(__file__).parents[1]
BRIEF = """
PHOTOGRAPH = "photo of mine.png"
PHOTOGRAPHS = "photos of mine"
OUTPUTS = "outputs/of mine"
GENERATOR = "weights/fast.keras"
EPOCHS = 1
STEPS_PER_EPOCH = 2
BATCH_SIZE = 2
CROP_SIZE = 32
VGG_WEIGHTS = "random"
"""
COMMAND = re.compile(r"^\s*!", re.MULTILINE)


@pytest.fixture
def notebook():
    return nbformat.read(ROOT / "notebooks" / "srgan.ipynb", as_version=4)


def has_tag(cell, *tags):
    return bool(set(tags) & set(cell.metadata.get("tags", [])))


def read_settings(notebook):
    """Run the cell of the settings, and return its variables."""
    (cell,) = (cell for cell in notebook.cells if has_tag(cell, "parameters"))
    settings = {}
    exec(cell.source, settings)
    return settings


def execute(notebook, cells, settings, folder):
    """Run code cells with other settings in a folder; fail if a command of theirs fails."""
    notebook.cells = [cell for cell in notebook.cells if cell in cells]
    for cell in notebook.cells:
        if has_tag(cell, "parameters"):
            cell.source += settings
        if COMMAND.search(cell.source):
            cell.source += "\nassert not globals().get('_exit_code'), _exit_code"
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    client.execute(env=os.environ | {"PATH": path})


def test_the_notebook_has_no_outputs(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)


def test_what_the_notebook_installs_is_there(notebook):
    (cell,) = (cell for cell in notebook.cells if has_tag(cell, "installation"))
    (requirements,) = re.findall(r"-r (\S+)", cell.source)
    assert "-r requirements.txt" in (ROOT / requirements).read_text()


def test_the_settings_name_files_that_are_there(notebook):
    settings = read_settings(notebook)
    for name in ("PHOTOGRAPH", "PHOTOGRAPHS", "GENERATOR"):
        assert (ROOT / settings[name]).exists()


def test_the_scripts_have_the_flags_of_the_notebook(notebook):
    settings, seen = read_settings(notebook), []
    for cell in notebook.cells:
        if cell.source.startswith("!python "):
            _, script, *flags = shlex.split(cell.source.replace("\\\n", "").format(**settings))
            importlib.import_module(pathlib.Path(script).stem).parse_args(flags)
            seen.append(script)
    assert seen == ["inference.py", "create_tfrecords.py", "train_srgan.py", "inference.py", "inference.py"]


@pytest.mark.slow
def test_the_notebook_upscales_and_trains_from_its_folder(notebook, clone):
    (clone / "notebooks").unlink()
    (clone / "notebooks").mkdir()
    save(clone / "photo of mine.png", random_image(20, 30))
    for seed in range(2):
        save(clone / "photos of mine" / f"{seed}.png", random_image(288, 288, seed))
    cells = [cell for cell in notebook.cells if not has_tag(cell, "installation", "interactive")]
    execute(notebook, cells, BRIEF, clone / "notebooks")
    outputs = clone / "outputs" / "of mine"
    for result in (clone / "outputs" / "enlarged", outputs / "enlarged"):
        assert Image.open(result / "photo of mine.png").size == (120, 80)
    assert (outputs / "logs").is_dir()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert ["image/png" in output.data for output in shown] == [True] * 3


def test_the_notebook_clones_the_project_if_it_is_elsewhere(notebook, tmp_path):
    if not shutil.which("git"):
        pytest.skip("needs git")
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "train_srgan.py").touch()
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "-C", project]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    cells = [cell for cell in notebook.cells if has_tag(cell, "parameters") or "git clone" in cell.source]
    execute(notebook, cells, f"\nREPOSITORY = {str(project)!r}", elsewhere)
    assert (elsewhere / "srgan" / "train_srgan.py").exists()
