"""A real Chromium with one page open, and what it says of it. Fonts are the same wherever it runs."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DRIVER = shutil.which("chromedriver") or "/usr/bin/chromedriver"
FONTS = Path("/usr/share/fonts/truetype/dejavu")
ROWS = "#kernel-table tbody"
# One family of fonts for every name that a page may ask for, so that no font of the machine shows.
FONT_SETTINGS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <match target="pattern"><test name="family" qual="any" compare="contains"><string>mono</string></test>
    <edit name="family" mode="assign" binding="same"><string>DejaVu Sans Mono</string></edit></match>
  <match target="pattern"><test name="family" qual="all" compare="not_contains"><string>Mono</string></test>
    <edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
  <match target="font"><edit name="hinting" mode="assign"><bool>false</bool></edit></match>
</fontconfig>
"""


def missing() -> str:
    """Return what a browser test needs and does not find, or ``""``."""
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        return "no Chromium with its driver: apt-get install chromium chromium-driver"
    if not FONTS.is_dir():
        return "no DejaVu fonts: apt-get install fonts-dejavu-core"
    return ""


@contextmanager
def chromium(place: Path) -> Iterator[Any]:
    """A headless browser that is ended with the block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    settings = place / "fonts.conf"
    settings.write_text(FONT_SETTINGS.format(fonts=FONTS, cache=place / "fonts"))
    options = Options()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        "--disable-lcd-text",
        "--font-render-hinting=none",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(DRIVER, env={**os.environ, "FONTCONFIG_FILE": str(settings)})
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """One loaded report and what the browser said about it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1440, dark: bool = False) -> None:
        """Load a file and wait until its charts are drawn."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # or a click lands where things were
        self.command("Emulation.setEmulatedMedia", features=[scheme, still])
        self.resize(width)
        self.logs()
        self.driver.get(path.as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait(
            "[...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg')) && "
            "document.fonts.status === 'loaded'"
        )

    def resize(self, width: int) -> None:
        """Give the window another width; at that of a phone it is one."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *args: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *args)

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(
            lambda d: d.execute_script(f"return Boolean({condition})")
        )

    def find(self, selector: str) -> Any:
        """Return the first element."""
        return self.driver.find_element("css selector", selector)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        self.driver.switch_to.active_element.send_keys(key)

    def shown(self) -> list[str]:
        """Return the ids of the kernels in the table as a person sees them, top to bottom."""
        return self.run(
            f"return [...document.querySelectorAll('{ROWS}')].filter(b => !b.hidden).map(b => b.id)"
        )

    def sections(self) -> list[str]:
        """Return the ids of the page's sections."""
        return self.run("return [...document.querySelectorAll('section')].map(s => s.id)")

    def problems(self) -> list[str]:
        """Return what the console said, a blocked style or fetch among it."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def logs(self) -> list[dict[str, Any]]:
        """Return what happened since last asked."""
        return [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]

    def requests(self) -> list[str]:
        """Return what was asked of any server or disk since last asked."""
        sent = [m for m in self.logs() if m["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def section(self, name: str) -> Any:
        """Return a picture of a section, all of it."""
        from PIL import Image

        self.run("document.activeElement.blur()")
        self.run("document.getElementById(arguments[0]).scrollIntoView()", name)
        box = self.run(
            "const r = document.getElementById(arguments[0]).getBoundingClientRect();"
            "return [scrollX, r.y + scrollY, document.documentElement.clientWidth, r.height]",
            name,
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def top(self, width: int, height: int) -> bytes:
        """Return a PNG of the top of the page."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def rule(self, text: str) -> None:
        """Add a rule to the last style sheet of the page, as the content policy lets no other in."""
        self.run(
            "const s = [...document.styleSheets].pop(); s.insertRule(arguments[0], s.cssRules.length)", text
        )
