"""Take the pictures of `docs/pictures` from a running stack: `make demo`, then this, with the same settings.

Needs Chromium on PATH. The pictures show `sketches` alone.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from deployments.local.environment import reachable
from menagerie.data.sketches import jpeg
from menagerie.settings import Settings, get_settings

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"page": (1060, 640), "report": (1180, 1120), "mlflow": (1500, 620), "prefect": (1180, 1460)}
CROPS = {"prefect": (250, 590, 1180, 1460)}  # the list of runs
COLOURS = 128
PATIENCE = 60_000  # milliseconds


def main() -> int:
    """Take all pictures; 2 where Chromium is absent."""
    if (chromium := shutil.which("chromium")) is None:
        print("screenshots: chromium is not on PATH", file=sys.stderr)
        return 2
    settings = get_settings()
    takes: dict[str, Callable[[Page, Settings], None]] = {
        "page": _page,
        "report": _report,
        "mlflow": _mlflow,
        "prefect": _prefect,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        for name, show in takes.items():
            width, height = SIZES[name]
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(PATIENCE)
            show(page, settings)
            _save(page.screenshot(), FOLDER / f"{name}.png", CROPS.get(name))
            page.close()
        browser.close()
    return 0


def _url(settings: Settings, port: int) -> str:
    return f"http://{reachable(settings.host)}:{port}"


def _page(page: Page, settings: Settings) -> None:
    page.goto(f"{_url(settings, settings.service_port)}/ui")
    page.wait_for_selector("#file input[type=file]", state="attached")
    with tempfile.TemporaryDirectory() as name:
        picture = Path(name) / "turtle.jpg"
        picture.write_bytes(next(raw for raw, label in (jpeg(7, i) for i in range(100)) if label == "turtle"))
        page.set_input_files("#file input[type=file]", str(picture))
        page.wait_for_selector("#right", state="visible")
        page.wait_for_timeout(2000)  # the bars grow


def _report(page: Page, settings: Settings) -> None:
    reports = sorted((settings.home / "reports" / "sketches").glob("*/report.html"))
    page.goto(reports[-1].as_uri())
    page.wait_for_timeout(4000)  # its plots are drawn by a script


def _mlflow(page: Page, settings: Settings) -> None:
    page.goto(f"{_url(settings, settings.mlflow_port)}/#/models/menagerie-sketches")
    page.get_by_text("champion").first.wait_for()
    page.get_by_role("button", name="Close").last.click()  # the assistant beside the table
    page.wait_for_timeout(2000)


def _prefect(page: Page, settings: Settings) -> None:
    page.goto(f"{_url(settings, settings.prefect_port)}/runs")
    page.get_by_text("retrain-sketches").first.wait_for()
    page.wait_for_timeout(3000)


def _save(png: bytes, path: Path, box: tuple[int, int, int, int] | None) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB").crop(box)
    picture.quantize(COLOURS).save(path, optimize=True)
    print(f"{path.name}  {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
