"""The page at /, used by a real browser the way a person uses it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from demo.clips import encode_frames, encode_picture, generate_clip, h264
from demo.shapes import LABELS, render_picture
from tests import segmenter
from tests.classifier import write_classifier
from tests.keys import bearer, entry, setting
from tests.media import encode
from tests.segmenter import CLASSIFIER, COLOURS, PALETTE, quarters
from tests.server import RunningServer, serving

SEED = 78
CLIP = generate_clip(SEED, LABELS.index("growing"))
MP4 = encode_frames(CLIP.frames, CLIP.fps, h264(20))
JPEG = encode_picture(render_picture(np.random.default_rng(SEED)))
SEGMENTER = segmenter.NAME
SECONDS = 30
TIMES = "\N{MULTIPLICATION SIGN}"
# The preview's copy of the file, and the icons of the video player.
WITHIN_THE_BROWSER = ("blob", "data", "chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No proxy of the environment, and no name but the server's address leads anywhere.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a model of each kind."""
    folder = tmp_path_factory.mktemp("page")
    with serving(folder, repository=segmenter.write_repository(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Debian's Chromium with an empty profile."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "needs a browser: apt-get install chromium chromium-driver"
        if os.environ.get("CLIPSERVE_EXPECT_BROWSER") == "1":
            pytest.fail(f"CLIPSERVE_EXPECT_BROWSER=1, but this {reason}")
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Both programs are named, so that selenium looks for none and downloads none.
    browser = Chrome(options, ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """The open page."""

    def __init__(self, browser: Chrome, server: RunningServer) -> None:
        self.browser = browser
        self.server = server

    def find(self, element_id: str) -> WebElement:
        return self.browser.find_element(By.ID, element_id)

    def text(self, element_id: str) -> str:
        return self.find(element_id).text

    def texts(self, selector: str) -> list[str]:
        return [found.text for found in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def facts(self, element_id: str) -> dict[str, str]:
        return dict(zip(self.texts(f"#{element_id} dt"), self.texts(f"#{element_id} dd"), strict=True))

    def wait_for(self, element_id: str) -> None:
        """Wait until an element is to be seen."""
        WebDriverWait(self.browser, SECONDS).until(lambda _: self.find(element_id).is_displayed())

    def choose(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.find("file").send_keys(str(path))

    def drop(self, name: str, media_type: str, content: bytes) -> None:
        self.browser.execute_script(
            """
            const [name, type, content] = arguments;
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, {type}));
            for (const kind of ["dragover", "drop"]) {
              const event = new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true});
              document.querySelector("h1").dispatchEvent(event);
            }
            """,
            name,
            media_type,
            base64.b64encode(content).decode(),
        )

    def choose_model(self, name: str) -> None:
        Select(self.find("model")).select_by_visible_text(name)

    def answer_with(self, status: int, content_type: str, body: str) -> None:
        """Let the page get this answer from now on instead of the server's."""
        self.browser.execute_script(
            """
            const [status, type, body] = arguments;
            window.fetch = async () => new Response(body, {status, headers: {"Content-Type": type}});
            """,
            status,
            content_type,
            body,
        )

    def complaints(self) -> list[str]:
        """Return what the console holds; the browser empties it."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requested_urls(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def page(chrome: Chrome, server: RunningServer) -> Iterator[Page]:
    """The page, just opened, its models listed. Afterwards: no request went anywhere else."""
    opened = Page(chrome, server)
    opened.complaints()
    opened.requested_urls()
    chrome.get(f"{server.url}/")
    WebDriverWait(chrome, SECONDS).until(lambda _: opened.find("model").is_enabled())
    yield opened
    urls = [urlsplit(url) for url in opened.requested_urls()]
    hosts = {url.netloc for url in urls if url.scheme not in WITHIN_THE_BROWSER}
    assert hosts == {urlsplit(server.url).netloc}


def ask(server: RunningServer, content: bytes, path: str = "classify") -> dict[str, Any]:
    """Return the server's own answer."""
    answer = httpx.post(f"{server.url}/v1/{path}", content=content, timeout=60)
    body: dict[str, Any] = answer.json()
    return body


def bars(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the texts that the bars of an answer should have."""
    return [(p["label"], f"{p['score']:.1%}") for p in body["predictions"]]


def shown_bars(page: Page) -> list[tuple[str, str]]:
    return list(zip(page.texts("#predictions .label"), page.texts("#predictions .score"), strict=True))


def made_up_answer(label: str) -> dict[str, Any]:
    return {
        "model": "made_up",
        "version": "3",
        "predictions": [{"index": 1, "label": label, "score": 0.75}, {"index": 0, "label": "other", "score": 0.25}],
        "media": {
            "kind": "video",
            "format": "webm",
            "codec": "vp9",
            "width": 340,
            "height": 256,
            "frames": 101,
            "fps": None,
            "duration_seconds": None,
            "rotation": 90,
        },
        "views": [
            {"clip": 0, "crop": "left", "frames": [0, 50]},
            {"clip": 0, "crop": "right", "frames": [0, 50]},
            {"clip": 1, "crop": "left", "frames": [50, 100]},
        ],
        "timing_seconds": {"receive": 0.001, "decode": 0.02, "queue": 0.009, "inference": 0.07, "total": 0.1004},
        "batch_size": 4,
    }


def test_chosen_video_is_answered(page: Page, tmp_path: Path) -> None:
    page.choose(tmp_path / "clip.mp4", MP4)
    page.wait_for("result")
    body = ask(page.server, MP4)

    assert len(body["predictions"]) == 5
    assert shown_bars(page) == bars(body)
    widths = [bar.size["width"] for bar in page.browser.find_elements(By.CSS_SELECTOR, ".bar")]
    fills = [fill.rect["width"] for fill in page.browser.find_elements(By.CSS_SELECTOR, ".bar span")]
    shares = [fill / width for fill, width in zip(fills, widths, strict=True)]
    assert shares == pytest.approx([p["score"] for p in body["predictions"]], abs=0.01)
    assert page.text("status").startswith(
        f"{bars(body)[0][0]} ({bars(body)[0][1]}), says {CLASSIFIER} version 1 after "
    )

    media, shown = body["media"], page.facts("media")
    assert [shown["kind"], shown["format"], shown["codec"]] == ["video", "mp4", "h264"]
    assert shown["size"] == f"{media['width']} {TIMES} {media['height']}"
    assert (shown["frames"], shown["frames a second"]) == (str(media["frames"]), f"{media['fps']:g}")
    assert page.texts("#views .frames") == [", ".join(map(str, view["frames"])) for view in body["views"]]
    assert list(page.facts("timing")) == ["receive", "decode", "queue", "inference"]

    video = page.browser.find_element(By.CSS_SELECTOR, "#preview video")
    WebDriverWait(page.browser, SECONDS).until(lambda _: video.get_property("videoWidth") == media["width"])
    assert video.get_attribute("controls") is not None
    assert not page.find("preview-note").is_displayed()
    assert page.text("preview-caption").startswith("clip.mp4, ")
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("model", "path", "content"),
    [(CLASSIFIER, "classify?show=frames", MP4), (SEGMENTER, "segment?end=60&show=frames", MP4)],
)
def test_frames_are_shown_when_they_are_asked_for(
    page: Page, tmp_path: Path, model: str, path: str, content: bytes
) -> None:
    page.choose_model(model)
    page.choose(tmp_path / "clip.mp4", content)
    page.wait_for("result")
    assert not page.find("sheet").is_displayed()
    page.find("sheet-button").click()
    page.wait_for("sheet")
    picture = page.browser.find_element(By.CSS_SELECTOR, "#sheet img")
    expected = httpx.post(f"{page.server.url}/v1/models/{model}/{path}", content=content, timeout=60).content
    height, width = cv2.imdecode(np.frombuffer(expected, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    WebDriverWait(page.browser, SECONDS).until(lambda _: picture.get_property("naturalWidth") == width)
    assert picture.get_property("naturalHeight") == height
    # Another file begins anew.
    page.choose(tmp_path / "picture.jpg", JPEG)
    WebDriverWait(page.browser, SECONDS).until(lambda _: not page.find("sheet").is_displayed())
    assert page.complaints() == []


def test_dropped_picture_is_answered(page: Page) -> None:
    page.drop("picture.jpg", "image/jpeg", JPEG)
    page.wait_for("result")
    assert shown_bars(page) == bars(ask(page.server, JPEG))
    assert page.facts("media")["kind"] == "image"
    picture = page.browser.find_element(By.CSS_SELECTOR, "#preview img")
    assert picture.get_property("naturalWidth") > 0
    assert page.complaints() == []


def test_text_file_shows_the_problem_and_the_next_file_works(page: Page, tmp_path: Path) -> None:
    text = b"just some text, no video\n" * 20
    page.choose(tmp_path / "notes.txt", text)
    page.wait_for("problem")
    problem = ask(page.server, text)
    assert problem["code"] == "unsupported_media"
    assert (page.text("problem-title"), page.text("problem-detail")) == (problem["title"], problem["detail"])
    assert not page.find("result").is_displayed()
    page.wait_for("preview-note")
    # The browser reports every answer over 400; nothing else may be there.
    assert [complaint for complaint in page.complaints() if "status of 415" not in complaint] == []

    page.choose(tmp_path / "clip.mp4", MP4)
    page.wait_for("result")
    assert not page.find("problem").is_displayed()
    assert not page.find("preview-note").is_displayed()
    assert page.complaints() == []


def test_models_are_offered_with_the_default_classifier_chosen(page: Page) -> None:
    models = httpx.get(f"{page.server.url}/v1/models").json()["models"]
    assert {model["name"] for model in models if model["default"]} == {CLASSIFIER, SEGMENTER}
    select = Select(page.find("model"))
    assert [option.text for option in select.options] == [model["name"] for model in models]
    assert select.first_selected_option.text == CLASSIFIER
    input_size = f"8{TIMES}96{TIMES}96{TIMES}3"
    assert page.text("model-facts") == f"video classification, 11 classes, input {input_size}, on onnxruntime-cpu"
    page.choose_model(SEGMENTER)
    assert page.text("model-facts") == "image segmentation, 4 classes, input any size, on onnxruntime-cpu"


def coloured(*masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pictures (T, H, W, 3) whose right masks are these."""
    return COLOURS[np.stack(masks)]


# As large as the segmenter sees it, so that not a pixel of its mask is a matter of scaling.
MASK = quarters(128, 256)
MASK[MASK == 2] = 3
PICTURE = encode(coloured(MASK), "image2pipe", "png", pix_fmt="rgb24")


def shown_classes(page: Page) -> dict[str, str]:
    return dict(zip(page.texts("#classes .label"), page.texts("#classes .score"), strict=True))


def overlay(page: Page, tag: str) -> WebElement:
    return page.browser.find_element(By.CSS_SELECTOR, f"#overlay > {tag}")


def test_picture_is_shown_with_its_classes(page: Page, tmp_path: Path) -> None:
    page.choose_model(SEGMENTER)
    page.choose(tmp_path / "picture.png", PICTURE)
    page.wait_for("segmentation")
    assert page.text("status").startswith(f"blue covers 50.0%, says {SEGMENTER} version 1 after ")
    assert list(shown_classes(page).items()) == [("blue", "50.0%"), ("black", "25.0%"), ("red", "25.0%")]
    swatches = page.browser.find_elements(By.CSS_SELECTOR, "#classes .swatch")
    colours = [swatch.value_of_css_property("background-color") for swatch in swatches]
    assert colours == ["rgba({}, {}, {}, 1)".format(*PALETTE[index]) for index in (3, 0, 1)]

    picture = overlay(page, "img")
    # Without the legend below the picture, which the list stands for.
    WebDriverWait(page.browser, SECONDS).until(lambda _: picture.size == {"width": 256, "height": 128})
    assert picture.get_property("naturalWidth") == 256
    assert picture.get_property("naturalHeight") > 128
    assert picture.accessible_name == "The classes drawn over the picture"
    assert page.facts("media")["size"] == f"256 {TIMES} 128"
    assert list(page.facts("timing")) == ["receive", "decode", "queue", "inference"]
    assert not page.find("frames").is_displayed()
    assert not page.find("predictions").is_displayed()
    assert page.complaints() == []


def test_video_is_shown_with_the_classes_of_all_frames(page: Page) -> None:
    halves = quarters(128, 256) % 2 * 2
    clip = encode(coloured(*[np.ones_like(halves)] * 4, *[halves] * 4), fps=4)
    page.choose_model(SEGMENTER)
    page.drop("clip.mp4", "video/mp4", clip)
    page.wait_for("segmentation")
    shares = {label: float(share.rstrip("%")) for label, share in shown_classes(page).items()}
    assert shares == pytest.approx({"red": 50, "black": 25, "green": 25}, abs=1)
    assert page.texts("#views .frames") == ["0, 4"]
    assert page.facts("media")["frames"] == "8"

    video = overlay(page, "video")
    assert video.get_attribute("controls") is not None
    assert video.accessible_name == "The classes drawn over the video"
    WebDriverWait(page.browser, SECONDS).until(lambda _: video.get_property("readyState") > 0)
    assert video.get_property("videoWidth") == 256
    assert video.get_property("duration") == pytest.approx(2)
    page.browser.execute_script("arguments[0].play()", video)
    WebDriverWait(page.browser, SECONDS).until(lambda _: video.get_property("ended"))
    assert video.size == {"width": 256, "height": 128}
    assert page.complaints() == []


def test_first_minute_of_a_long_video_is_segmented(page: Page) -> None:
    page.choose_model(SEGMENTER)
    page.drop("clip.mp4", "video/mp4", encode(coloured(*[quarters(64, 64)] * 70), fps=1))
    page.wait_for("segmentation")
    assert page.texts("#views .frames") == [", ".join(map(str, range(60)))]


def test_another_kind_of_model_is_asked_about_the_same_file(page: Page, tmp_path: Path) -> None:
    page.choose(tmp_path / "picture.jpg", JPEG)
    page.wait_for("predictions")
    page.choose_model(SEGMENTER)
    page.wait_for("segmentation")
    assert not page.find("predictions").is_displayed()
    assert shown_classes(page).keys() <= set(segmenter.LABELS)
    page.choose_model(CLASSIFIER)
    page.wait_for("predictions")
    assert not page.find("segmentation").is_displayed()
    assert shown_bars(page) == bars(ask(page.server, JPEG))
    assert page.complaints() == []


def test_undecodable_picture_shows_the_problem_and_the_next_file_works(page: Page, tmp_path: Path) -> None:
    cut = PICTURE[:60]
    page.choose_model(SEGMENTER)
    page.choose(tmp_path / "cut.png", cut)
    page.wait_for("problem")
    problem = ask(page.server, cut, "segment?output=overlay")
    assert problem["status"] == 422
    assert (page.text("problem-title"), page.text("problem-detail")) == (problem["title"], problem["detail"])
    assert not page.find("result").is_displayed()
    assert [complaint for complaint in page.complaints() if "status of 422" not in complaint] == []

    page.choose(tmp_path / "picture.png", PICTURE)
    page.wait_for("segmentation")
    assert not page.find("problem").is_displayed()
    assert page.complaints() == []


def test_missing_overlay_is_a_problem(page: Page) -> None:
    page.browser.execute_script(
        """
        const send = window.fetch;
        const full = () => new Response(JSON.stringify({title: "Full", detail: "Try later."}), {status: 429});
        window.fetch = (path, options) => path.includes("output=overlay") ? full() : send(path, options);
        """
    )
    page.choose_model(SEGMENTER)
    page.drop("picture.png", "image/png", PICTURE)
    page.wait_for("problem")
    assert (page.text("problem-title"), page.text("problem-detail")) == ("Full", "Try later.")
    assert not page.find("result").is_displayed()


def test_every_part_of_an_answer_is_shown(page: Page) -> None:
    page.answer_with(200, "application/json", json.dumps(made_up_answer("first")))
    page.drop("clip.webm", "video/webm", b"anything")
    page.wait_for("result")
    assert page.text("status") == "first (75.0%), says made_up version 3 after 100.4 ms."
    assert shown_bars(page) == [("first", "75.0%"), ("other", "25.0%")]
    assert page.facts("timing") == {
        "receive": "1.0 ms",
        "decode": "20.0 ms",
        "queue": "9.0 ms",
        "inference": "70.0 ms",
    }
    assert page.text("timing-total") == "100.4 ms in all, run in a batch of 4"
    widths = [part.rect["width"] for part in page.browser.find_elements(By.CSS_SELECTOR, "#timing-bar span")]
    bar = page.find("timing-bar").rect["width"]
    assert [width / bar for width in widths] == pytest.approx([0.01, 0.2, 0.09, 0.7], abs=0.02)
    # Neither a rate nor a length is known: no row says null.
    assert page.facts("media") == {
        "kind": "video",
        "format": "webm",
        "codec": "vp9",
        "size": f"340 {TIMES} 256",
        "frames": "101",
        "rotation": "90°",
    }
    assert page.texts("#views li") == ["Clip 0, crops left, right\n0, 50", "Clip 1, crop left\n50, 100"]


def test_markup_from_outside_stays_text(page: Page) -> None:
    markup = "<img src=x onerror=\"document.title='run'\">"
    page.answer_with(200, "application/json", json.dumps(made_up_answer(markup)))
    page.drop(markup, "video/webm", b"anything")
    page.wait_for("result")
    assert shown_bars(page)[0] == (markup, "75.0%")
    assert page.text("preview-caption") == f"{markup}, 8 bytes"
    page.answer_with(400, "application/problem+json", json.dumps({"title": markup, "detail": markup}))
    page.drop("clip.webm", "video/webm", b"anything")
    page.wait_for("problem")
    assert (page.text("problem-title"), page.text("problem-detail")) == (markup, markup)
    assert page.browser.find_elements(By.TAG_NAME, "img") == []
    assert page.browser.title == "clipserve"


def test_answer_of_a_proxy_is_shown_by_its_status(page: Page) -> None:
    page.answer_with(502, "text/html", "<h1>Bad gateway</h1>")
    page.drop("clip.mp4", "video/mp4", MP4)
    page.wait_for("problem")
    assert page.text("problem-title") == "502"


def test_lost_server_is_told(page: Page) -> None:
    page.browser.execute_script("window.fetch = async () => { throw new TypeError('Failed to fetch'); };")
    page.drop("clip.mp4", "video/mp4", MP4)
    page.wait_for("problem")
    assert page.text("problem-title") == "Connection failed"


def test_newer_file_wins_over_a_late_answer(page: Page) -> None:
    page.browser.execute_script(
        """
        const late = [];
        window.answerLate = () => late.forEach((answer) => answer());
        window.fetch = (path, {body, signal}) => new Promise((resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
          const title = body.get("file").name;
          const answer = () => resolve(new Response(JSON.stringify({title, detail: "-"}), {status: 400}));
          if (title === "first") late.push(answer); else answer();
        });
        """
    )
    page.drop("first", "video/mp4", MP4)
    page.drop("second", "video/mp4", MP4)
    page.wait_for("problem")
    page.browser.execute_script("answerLate()")
    assert page.text("problem-title") == "second"


def test_keyboard_reaches_everything_that_can_be_set(page: Page) -> None:
    focused = []
    for _ in range(3):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        focused.append(page.browser.switch_to.active_element.accessible_name)
    assert focused == ["HTTP API", "Model", "Choose a video or picture or drop it anywhere on this page"]
    outline = page.find("drop").value_of_css_property("outline-style")
    assert outline == "solid"
    status = page.find("status")
    assert (status.aria_role, status.get_attribute("aria-live")) == ("status", "polite")


@pytest.mark.parametrize("model", [CLASSIFIER, SEGMENTER])
def test_fits_a_narrow_screen(page: Page, tmp_path: Path, model: str) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.choose_model(model)
        page.choose(tmp_path / f"{'long_name_' * 12}.mp4", MP4)
        page.wait_for("result")
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that wants a key."""
    keys = setting(entry("person", "the-key"))
    with serving(tmp_path_factory.mktemp("closed"), api_keys=keys, decode_workers=1) as running:
        yield running


def test_key_is_asked_for_sent_and_kept_for_the_tab_alone(chrome: Chrome, closed: RunningServer) -> None:
    page = Page(chrome, closed)
    page.complaints()
    chrome.get(f"{closed.url}/")
    page.wait_for("key-form")
    assert page.text("key-note") == "This server wants a key."
    assert not page.find("model").is_enabled()

    page.find("key").send_keys("guessed" + Keys.ENTER)
    WebDriverWait(chrome, SECONDS).until(lambda _: page.text("key-note") == "The server does not know this key.")
    assert not page.find("model").is_enabled()

    page.find("key").send_keys("the-key" + Keys.ENTER)
    WebDriverWait(chrome, SECONDS).until(lambda _: page.find("model").is_enabled())
    assert not page.find("key-form").is_displayed()
    assert page.find("key").get_property("value") == ""
    page.drop("clip.mp4", "video/mp4", MP4)
    page.wait_for("result")

    # A reload keeps the key; nothing that outlives the tab has it.
    chrome.refresh()
    WebDriverWait(chrome, SECONDS).until(lambda _: page.find("model").is_enabled())
    assert not page.find("key-form").is_displayed()
    assert chrome.execute_script("return [localStorage.length, document.cookie, location.href]") == [
        0,
        "",
        f"{closed.url}/",
    ]
    # The browser reports every answer over 400; nothing else may be there.
    assert [complaint for complaint in page.complaints() if "status of 401" not in complaint] == []

    # A key that is taken back while the page is open.
    chrome.execute_script("sessionStorage.setItem('clipserve.key', 'gone')")
    page.drop("clip.mp4", "video/mp4", MP4)
    page.wait_for("key-form")
    assert page.text("problem-title") == "Unauthorized"
    page.find("key").send_keys("the-key" + Keys.ENTER)
    page.wait_for("result")


def test_models_are_offered_without_a_default_and_waited_for_while_there_are_none(
    chrome: Chrome, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    for name in ("first", "second"):
        write_classifier(repository, name, 1)
    keys = setting(entry("root", "root-key", admin=True))
    with serving(tmp_path, repository=repository, default_model="second", api_keys=keys, decode_workers=1) as running:

        def change(path: str, models: list[str]) -> None:
            headers = bearer("root-key")
            httpx.post(f"{running.url}/v2/repository/models/{path}", headers=headers).raise_for_status()
            listed = httpx.get(f"{running.url}/v1/models", headers=headers).json()["models"]
            assert [model["name"] for model in listed] == models

        change("second/unload", ["first"])
        page = Page(chrome, running)
        page.complaints()
        chrome.get(f"{running.url}/")
        page.wait_for("key-form")
        page.find("key").send_keys("root-key" + Keys.ENTER)
        WebDriverWait(chrome, SECONDS).until(lambda _: page.find("model").is_enabled())
        assert Select(page.find("model")).first_selected_option.text == "first"
        assert page.text("model-facts").startswith("image classification, 16 classes")

        change("first/unload", [])
        chrome.refresh()
        WebDriverWait(chrome, SECONDS).until(lambda _: page.text("model-facts").startswith("No model is loaded"))
        assert not page.find("model").is_enabled()
        change("second/load", ["second"])
        WebDriverWait(chrome, SECONDS).until(lambda _: page.find("model").is_enabled())
        assert Select(page.find("model")).first_selected_option.text == "second"
        assert [complaint for complaint in page.complaints() if "status of 401" not in complaint] == []


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/web/page.js", "text/javascript"),
        ("/web/page.css", "text/css"),
        ("/web/icon.svg", "image/svg+xml"),
    ],
)
def test_files_of_the_page_carry_a_strict_policy(server: RunningServer, path: str, content_type: str) -> None:
    answer = httpx.get(f"{server.url}{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "blob: 'self'",
        "media-src": "blob: 'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web/index.html", "/web/..%2fapp.py", "/web/%2e%2e%2fapp.py", "/web//etc/passwd", "/web/page.js%00"],
)
def test_no_other_file_can_be_had(server: RunningServer, path: str) -> None:
    assert httpx.get(f"{server.url}{path}").status_code == 404
