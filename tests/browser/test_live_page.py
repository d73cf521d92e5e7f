"""The daemon's live page in real Chromium: it shows what is known, fetches nothing else, runs no text."""

import asyncio
import base64
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
sys.path.insert(0, str(Path(__file__).parents[1] / "daemon"))
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DRIVER = shutil.which("chromedriver") or "/usr/bin/chromedriver"
HOSTILE = "<img src=x onerror=document.title='owned'>\x1b[31m\u202e"


def fill(connection, now):
    """Put made-up samples, windows and findings into a store."""
    from rocscope.daemon.store_samples import Bucket, add_buckets
    from rocscope.daemon.store_windows import commit_window_result, create

    def bucket(source, subject, metric, ts, mean, *, res_s=10):
        return Bucket(source, subject, metric, res_s, ts // res_s * res_s, 10, mean, mean - 9, mean + 9)

    for i in range(300):
        ts = (now - 3000 + 10 * i) // 10 * 10
        gpus = [
            bucket("telemetry", f"gpu:0000:0{k}:00.0", "power_w", ts, 150.0 + i % 30 + 20 * k) for k in (0, 1)
        ]
        rate = bucket(
            "engine", "engine:<b>http://127.0.0.1:8000", "generation_tokens_per_s", ts, 500.0 + i % 50
        )
        add_buckets(connection, [*gpus, rate])
        add_buckets(connection, [bucket(*each[:3], ts, each.mean, res_s=60) for each in (*gpus, rate)])
    finding = {"at": now, "kind": "regression", "family": HOSTILE, "size_frac": 0.12, "low_frac": 0.08,
               "high_frac": 0.15, "confidence": "high"}  # fmt: skip
    for i in range(5):
        at = now - 600 * i
        create(connection, f"w{i}", "schedule", at, started_at=at, reason=HOSTILE)
        shares = {"gptq_gemm": 0.6 + i / 50, "attention": 0.3, HOSTILE: 0.05}
        families = [{"gpu": "0", "family": name, "busy_s": share} for name, share in shares.items()]
        result = {"window_id": f"w{i}", "families": families, "findings": [{**finding, "id": f"f{i}"}]}
        commit_window_result(connection, result, window_s=2.0, bytes=1_000_000)


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    """Serve a daemon's HTTP side with a day of made-up samples, windows and hostile names."""
    from http_serving import Windows, serving, write

    box, ready = {}, threading.Event()

    async def main():
        parts = {"windows": Windows}
        folder = tmp_path_factory.mktemp("page")
        async with serving(folder, gpus=2, parts=parts, requests_per_minute=100_000) as (context, url):
            now = int(context.clock.wall_s())

            await write(context, lambda connection: fill(connection, now))
            context.events.note("engine", HOSTILE)
            box.update(url=url, loop=asyncio.get_running_loop(), stop=asyncio.Event())
            ready.set()
            while not box["stop"].is_set():
                reading = {"power_w": 187.0, "throttled": 1.0}
                now_s = context.clock.monotonic_s()
                context.history.add_all(now_s, "telemetry", "gpu:0000:00:00.0", reading)
                await asyncio.sleep(0.5)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    yield box["url"]
    box["loop"].call_soon_threadsafe(box["stop"].set)
    thread.join(20)


@pytest.fixture(autouse=True)
def no_process_left():
    """The browser outlives a test; the fixture that began it ends it."""


@pytest.fixture(scope="module")
def driver():
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                     "--disable-background-networking"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield made
    finally:
        made.quit()


def open_page(driver, url, width):
    size = {"width": width, "height": 2200, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(url)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if driver.execute_script("return document.querySelectorAll('#charts svg').length > 1 && "
                                 "document.querySelectorAll('#families svg').length > 3 && "
                                 "document.querySelectorAll('#findings tr').length > 3"):  # fmt: skip
            return
        time.sleep(0.2)
    raise AssertionError(
        "the page never showed its charts: " + driver.execute_script("return document.body.innerText")
    )


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_shows_charts_windows_and_findings_and_text_stays_text(page_url, driver, width):
    driver.get_log("browser")
    open_page(driver, page_url, width)
    run = driver.execute_script
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {})
    output = Path(__file__).parents[2] / "test-out"
    output.mkdir(mode=0o755, exist_ok=True)
    (output / f"live-page-{width}.png").write_bytes(base64.b64decode(shot["data"]))
    assert driver.title == "rocscope daemon"  # and not "owned"
    assert run("return document.images.length") == 0
    assert run("return document.documentElement.scrollWidth") <= width
    text = run("return document.body.innerText")
    assert "187 W" in text and "gptq_gemm" in text and "regression" in text and "12.0 %" in text
    assert "onerror" in text  # shown, not obeyed
    asked = run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked and all(each.startswith((page_url, "data:")) for each in asked), asked
    assert not [each for each in driver.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]


def test_the_span_of_charts_is_chosen_by_keyboard(page_url, driver):
    from selenium.webdriver.common.keys import Keys

    open_page(driver, page_url, 1440)
    before = driver.execute_script("return document.querySelector('#charts svg').outerHTML")
    chosen = driver.find_element("css selector", "input[name=span]:checked")
    chosen.send_keys(Keys.ARROW_RIGHT)
    assert driver.execute_script("return document.querySelector('input[name=span]:checked').value") == "21600"
    end = time.monotonic() + 20
    while driver.execute_script("return document.querySelector('#charts svg').outerHTML") == before:
        assert time.monotonic() < end, "the charts never followed"
        time.sleep(0.2)
    labels = driver.execute_script(
        "return [...document.querySelectorAll('#charts svg')].map((s) => s.ariaLabel)"
    )
    assert all(labels) and any("Power" in each for each in labels)
