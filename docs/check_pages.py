"""Opens every built page in a headless Chromium at two widths: a quiet console, nothing too wide.

Run with ``python docs/check_pages.py`` after a build; ``--shots FOLDER`` also keeps pictures, light and dark.
It needs the programs chromium and chromedriver, and speaks WebDriver with the latter.
"""

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

BUILT = Path(__file__).parent / "_build" / "html"
WIDTHS = {1280: 900, 390: 844}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
WIDE = """
const most = document.documentElement.clientWidth + 1;
if (document.documentElement.scrollWidth <= most) return [];
return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > most)
    .slice(0, 3).map(e => e.tagName + '.' + e.className);
"""


class Browser:
    """One Chromium, through its driver."""

    def __init__(self, folder):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = next(line for line in self.driver.stdout if "successfully on port" in line)
        port = line.split("port")[1].strip(" .\n")
        self.root = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={folder}"]}
        always = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.root += "/" + self.call("", {"capabilities": {"alwaysMatch": always}})["sessionId"]

    def call(self, path, values=None):
        """Send a command and return its value."""
        data = json.dumps(values or {}).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"})
        for _ in range(50):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)["value"]
            except urllib.error.HTTPError as error:
                raise SystemExit(error.read().decode()) from error
            except urllib.error.URLError:  # the driver is not listening yet
                time.sleep(0.1)
        raise SystemExit("chromedriver does not answer")

    def devtools(self, command, **parameters):
        """Send a command of Chromium's own."""
        return self.call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self):
        """End browser and driver."""
        self.driver.terminate()
        self.driver.wait()


def problems_of(browser, page, width):
    """Return what is wrong with a page at a width."""
    browser.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=WIDTHS[width], deviceScaleFactor=1,
        mobile=width < 500,
    )  # fmt: skip
    browser.call("/url", {"url": page.as_uri()})
    wide = browser.call("/execute/sync", {"script": WIDE, "args": []})
    said = [entry["message"] for entry in browser.call("/se/log", {"type": "browser"})]
    return [f"wider than {width}: {element}" for element in wide] + said


def whole(browser):
    """Return what a picture of the page takes: all of it, but not more than five screens."""
    size = browser.devtools("Page.getLayoutMetrics")["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4500), "scale": 1}
    return {"format": "png", "captureBeyondViewport": True, "clip": clip}


def main():
    """Check all pages; leave with status 1 if one has a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, help="folder for pictures of every page")
    shots = parser.parse_args().shots
    pages = [page for page in sorted(BUILT.rglob("*.html")) if "_modules" not in page.parts]
    if len(pages) < 20:
        sys.exit(f"{BUILT}: {len(pages)} pages; build the documentation first")
    folder = tempfile.mkdtemp()
    browser, bad = Browser(folder), 0
    try:
        for page in pages:
            for width in WIDTHS:
                for problem in problems_of(browser, page, width):
                    bad += 1
                    print(f"{page.relative_to(BUILT)}: {problem}")
                for scheme in ("light", "dark") if shots else ():
                    shots.mkdir(parents=True, exist_ok=True)
                    feature = {"name": "prefers-color-scheme", "value": scheme}
                    browser.devtools("Emulation.setEmulatedMedia", features=[feature])
                    picture = browser.devtools("Page.captureScreenshot", **whole(browser))["data"]
                    (shots / f"{page.stem}-{width}-{scheme}.png").write_bytes(base64.b64decode(picture))
    finally:
        browser.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(pages)} pages at {len(WIDTHS)} widths: {bad} problems")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
