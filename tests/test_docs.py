"""The documentation: its links and the commands that it marks as runnable."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import save
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md"), *ROOT.glob("*/README.md")])
BLOCK = re.compile(r"<!-- runnable -->\n```\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks():
    return [(page.relative_to(ROOT), commands) for page in PAGES for commands in BLOCK.findall(page.read_text())]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_to_files_and_headings_that_exist():
    broken = []
    for page in PAGES:
        for target, anchor in LINK.findall(page.read_text()):
            path = (page.parent / target).resolve() if target else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert not broken


def test_each_page_of_the_docs_is_reached_from_the_readme():
    linked = {target for target, _ in LINK.findall((ROOT / "README.md").read_text())}
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked


@pytest.fixture
def clone_with_small_photographs(clone):
    """The copy of the project with small crops as its photographs."""
    (clone / "docs").unlink()
    for path in (ROOT / "docs" / "photographs" / "HR").iterdir():
        save(clone / "docs" / "photographs" / "HR" / path.name, np.asarray(Image.open(path))[200:296, 200:296])
    return clone


@pytest.mark.parametrize(("page", "commands"), blocks(), ids=lambda value: str(value).split("\n")[0])
def test_commands_that_are_marked_as_runnable_run(page, commands, clone_with_small_photographs):
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    env = os.environ | {"PATH": path}
    done = subprocess.run(
        ["bash", "-e"], input=commands, cwd=clone_with_small_photographs, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"
