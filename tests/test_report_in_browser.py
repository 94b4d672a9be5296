"""The page as a browser shows it: quiet, alone, readable on a phone and in the dark, and usable from the keyboard."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import Browser, browser
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cli import cli as command_line

WINDOWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 360)]

# The least contrast of any text with its background, by WCAG 2.2's formula (1.4.3), and the text that has it.
CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => {
  const [r, g, b] = numbers(colour).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
  }
};
let worst = [21, ""];
for (const details of document.querySelectorAll("details")) details.open = true;
for (const element of document.querySelectorAll("body *")) {
  const words = [...element.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
  if (!words.length || !element.getClientRects().length || element.tagName === "SCRIPT") continue;
  const style = getComputedStyle(element);
  const colour = element.tagName === "text" ? style.fill : style.color;
  const [low, high] = [light(colour), light(behind(element))].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < worst[0]) worst = [ratio, words[0].data.trim()];
}
return worst;
"""


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(demo_run: Path) -> str:
    return (demo_run / "public" / "demo" / "report.html").as_uri()


@pytest.fixture
def page(window: Browser, address: str) -> Browser:
    """The demo's page, fresh, at 1280 pixels in light colours."""
    window.resize(1280)
    window.prefer("light")
    window.open(address)
    return window


def frame(page: Browser) -> NDArray[np.uint8]:
    """The pixels of the picture that is shown."""
    page.run("document.querySelector('.frame:not([hidden])').scrollIntoView({block: 'start'})")
    left, top, width, height = page.run(
        "const r = document.querySelector('.frame:not([hidden])').getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height].map(Math.round)"
    )
    with Pillow.open(io.BytesIO(page.screenshot())) as image:
        return np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))


def choose(page: Browser, name: str, value: str) -> None:
    page.run("document.querySelector(`input[name=${arguments[0]}][value='${arguments[1]}']`).click()", name, value)


def focused(page: Browser) -> Any:
    """Name and value of the control that has the focus."""
    return page.run("return [document.activeElement.name ?? '', document.activeElement.value ?? '']")


@pytest.mark.parametrize(("scheme", "width"), WINDOWS)
def test_is_quiet_and_asks_for_nothing(window: Browser, address: str, scheme: str, width: int) -> None:
    window.log("browser")
    window.requested()
    window.resize(width)
    window.prefer(scheme)
    window.open(address)
    assert window.log("browser") == []
    assert {asked for asked in window.requested() if not asked.startswith("data:")} == {address}
    shown = window.run("return [...document.images].map((image) => image.naturalWidth)")
    assert shown
    assert min(shown) > 0


@pytest.mark.parametrize(("scheme", "width"), WINDOWS)
def test_nothing_is_wider_than_the_window_and_all_of_it_can_be_read(
    window: Browser, address: str, scheme: str, width: int
) -> None:
    window.resize(width)
    window.prefer(scheme)
    window.open(address)
    ratio, words = window.run(CONTRAST)
    assert ratio >= 4.5, words
    assert window.run("return document.documentElement.scrollWidth") <= width
    background = window.run("return getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
    assert (int(background[0]) > 128) == (scheme == "light")


def test_the_contrast_measure_sees_pale_letters(page: Browser) -> None:
    page.run("document.querySelector('h1').style.color = '#ccc'")
    ratio, words = page.run(CONTRAST)
    assert ratio < 2
    assert words == "demo"


def test_the_verdict_is_in_the_first_window_even_of_a_phone(window: Browser, address: str) -> None:
    window.resize(360, 640)
    window.open(address)
    top = window.run("scrollTo(0, 0); return document.querySelector('#verdict h2').getBoundingClientRect().bottom")
    assert top < 640


def test_each_layer_shows_other_pixels(page: Browser) -> None:
    values = page.run("return [...document.querySelectorAll('input[name=layer]')].map((input) => input.value)")
    assert values == ["", "reference", "onnx", "ir-fp32", "ir-fp16"]
    sizes = set()
    for value in values:
        choose(page, "layer", value)
        visible = page.run(
            "return [...document.querySelectorAll('.frame:not([hidden]) .labels:not([hidden])')]"
            ".map((image) => image.dataset.layer)"
        )
        assert visible == ([value] if value else [])
        sizes.add(frame(page).shape)
    assert len(sizes) == 1
    choose(page, "layer", "")
    bare = frame(page)
    choose(page, "layer", "reference")
    assert (frame(page) != bare).any(axis=2).mean() > 0.02


def test_the_slider_blends_the_colours(page: Browser) -> None:
    choose(page, "layer", "")
    bare = frame(page).astype(int)
    choose(page, "layer", "reference")
    moved = []
    for strength in (10, 50, 100):
        page.run(
            "const slider = document.querySelector('input[name=strength]'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input', {bubbles: true}))",
            strength,
        )
        moved.append(np.abs(frame(page) - bare).sum())
    assert 0 < moved[0] < moved[1] < moved[2]


def test_another_picture_is_another_picture(page: Browser) -> None:
    seen = []
    for place in range(page.run("return document.querySelectorAll('input[name=sample]').length")):
        choose(page, "sample", str(place))
        seen.append(frame(page).tobytes())
    assert len(seen) == 5
    assert len(set(seen)) == 5


def test_differing_pixels_are_marked_until_the_user_turns_it_off(page: Browser) -> None:
    sample, layer = page.run(
        "const mark = document.querySelector('.marks'); return [mark.parentElement.dataset.sample, mark.dataset.layer]"
    )
    choose(page, "sample", sample)
    choose(page, "layer", layer)
    assert "differs in" in page.run("return document.querySelector('.side > div:not([hidden])').innerText")
    marked = frame(page)
    page.run("document.querySelector('input[name=marks]').click()")
    assert (frame(page) != marked).any()


def test_every_control_is_reached_and_moved_by_the_keyboard(page: Browser) -> None:
    reached = []
    for _ in range(60):
        page.press("Tab", 9)
        name, _ = focused(page)
        reached += [name] if name and name not in reached else []
    assert reached == ["layer", "strength", "marks", "sample"]
    page.run("document.querySelector('input[name=layer]:checked').focus()")
    _, before = focused(page)
    page.press("ArrowLeft", 37)
    assert focused(page)[1] != before
    shown = page.run("return document.querySelector('.frame:not([hidden]) .labels:not([hidden])').dataset.layer")
    assert shown == focused(page)[1]


def test_focus_can_be_seen(page: Browser) -> None:
    page.press("Tab", 9)
    page.run("document.querySelector('input[name=layer]:checked').focus()")
    outline = "return getComputedStyle(document.querySelector('input[name=layer]:checked + span')).outlineStyle"
    assert page.run(outline) == "solid"


def test_without_script_the_picture_is_there(page: Browser, address: str) -> None:
    page.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(address)
        shot = page.screenshot()
    finally:
        page.devtools("Emulation.setScriptExecutionDisabled", value=False)
    page.open(address)
    assert shot == page.screenshot()


@pytest.fixture(scope="module")
def hostile(small: ModelCard, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with markup in a class's name, in the description and in a picture's file name."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(small_run, folder / "out")
    (folder / small.checkpoint.name).symlink_to(small.folder / small.checkpoint.name)
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    data["description"] = "</style><script>alert('description')</script>"
    for number, label in enumerate(data["classes"]):
        label["name"] = f"<script>alert('class {number}')</script>"
    data["background"] = data["classes"][0]["name"]
    (folder / "model.yml").write_text(yaml.safe_dump(data))
    picture = folder / "'\"><img src=x onerror=alert(1)>.jpg"
    shutil.copy(next((find_card("demo").folder / "voc" / "JPEGImages").glob("*.jpg")), picture)
    done = CliRunner().invoke(
        command_line, ["run", str(folder / "model.yml"), "-o", str(folder / "out"), "--images", str(picture)]
    )
    assert done.exit_code == 0, done.output
    return (folder / "out" / "public" / "small-standin" / "report.html").as_uri()


def test_markup_in_names_is_text(window: Browser, hostile: str) -> None:
    window.log("browser")
    window.open(hostile)  # an open alert would make the next call fail
    text = window.run("return document.body.innerText")
    assert "<script>alert('class 0')</script>" in text
    assert "</style><script>alert('description')</script>" in text
    assert "'\"><img src=x onerror=alert(1)>.jpg" in text
    assert window.run("return document.scripts.length") == 1
    assert window.run("return document.querySelectorAll('[onerror], [src=x]').length") == 0
    assert window.log("browser") == []


def test_a_script_that_slips_in_does_not_run(window: Browser, demo_run: Path, tmp_path: Path) -> None:
    text = (demo_run / "public" / "demo" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(
        text.replace("<main>", "<main><script>document.title = 'ran'</script><img src=x onerror='document.title=1'>"),
        encoding="utf-8",
    )
    window.open((tmp_path / "report.html").as_uri())
    assert window.run("return document.title") == "demo: Verified"
    assert any("Content Security Policy" in entry["message"] for entry in window.log("browser"))
