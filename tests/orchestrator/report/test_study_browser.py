"""The page of a study in headless Chromium: no error, no request; tables sort and filter."""

from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.report.study import build_study
from tests.support.browser import CHROMIUM, in_browser
from tests.support.made_study import make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    build_study(make_study(folder / "runs"), Storage.open(str(folder / "study")), "made")
    return folder / "study" / "index.html"


@pytest.mark.parametrize("width", [1440, 500])
def test_the_page_fits_and_asks_for_nothing(page: Path, tmp_path: Path, width: int) -> None:
    script = """
      const wide = [...document.querySelectorAll("body *")].filter((element) =>
        !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 1);
      return { inner: innerWidth, scroll: document.documentElement.scrollWidth,
               wide: wide.map((element) => element.tagName + "." + element.className) };
    """
    found = in_browser(page, tmp_path, script, width)
    assert (found["problems"], found["requests"]) == ([], [])
    assert found["result"]["inner"] == width
    assert found["result"]["scroll"] <= width
    assert found["result"]["wide"] == []


def test_tables_sort_and_filter(page: Path, tmp_path: Path) -> None:
    script = """
      const table = document.getElementById("trials");
      const column = (number) => [...table.tBodies[0].rows].map((row) => row.cells[number]);
      const scores = () => column(3).map((cell) => cell.dataset.v).filter(Boolean).map(Number);
      const button = table.tHead.rows[0].cells[3].querySelector("button");
      button.click();
      const up = scores();
      button.click();
      const down = scores();
      const filter = document.getElementById("trials-filter");
      filter.value = "BIGRU complete";
      filter.dispatchEvent(new Event("input"));
      const left = [...table.tBodies[0].rows].filter((row) => !row.hidden)
        .map((row) => row.cells[0].textContent);
      return { up, down, left, shown: document.getElementById("trials-shown").textContent };
    """
    found = in_browser(page, tmp_path, script)
    result = found["result"]
    assert len(result["up"]) == 4 * 4
    assert result["up"] == sorted(result["up"])
    assert result["down"] == result["up"][::-1]
    assert sorted(result["left"]) == ["bigru_att"] * 3 + ["bigru_iaa"] * 3
    assert result["shown"] == "6 of 20 shown"
    assert (found["problems"], found["requests"]) == ([], [])


def test_a_figure_is_saved_as_svg_and_as_png(page: Path, tmp_path: Path) -> None:
    script = """
      const saved = [];
      HTMLAnchorElement.prototype.click = function () { saved.push([this.download, this.href]); };
      for (const button of document.querySelectorAll("#figure-scores button")) button.click();
      for (let wait = 0; wait < 50 && saved.length < 2; wait++)
        await new Promise((done) => setTimeout(done, 50));
      const picture = new Image();
      await new Promise((done) => {
        picture.onload = done;
        picture.src = saved[1][1];
      });
      const canvas = document.createElement("canvas");
      canvas.width = picture.width;
      canvas.height = picture.height;
      const context = canvas.getContext("2d");
      context.drawImage(picture, 0, 0);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
      let dark = 0;
      for (let i = 0; i < pixels.length; i += 4) dark += pixels[i] < 100;
      return { names: saved.map((each) => each[0]), width: picture.width,
               corner: [...pixels.slice(0, 4)], dark };
    """
    found = in_browser(page, tmp_path, script)
    assert found["problems"] == []
    result = found["result"]
    assert result["names"] == ["scores.svg", "scores.png"]
    assert result["width"] == 2 * 640
    assert result["corner"] == [255, 255, 255, 255]
    assert result["dark"] > 500  # the drawing, in black on white
