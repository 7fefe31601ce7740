"""A headless Chromium for tests of pages, driven by selenium; nothing is downloaded, and it sees this machine only."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to start as root otherwise
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    # Whatever a page asks of another machine is not there.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # MLflow's tables draw only the rows and columns in sight.
    "--window-size=2600,1600",
)
WAIT_S = 60.0


@dataclass(frozen=True)
class Browser:
    """A browser.

    Attributes:
        driver: selenium's.
        pictures: folder of the screenshots.
    """

    driver: Chrome
    pictures: Path

    def text(self, address: str, *expected: str, picture: str, press: str = "") -> str:
        """The text of a page, once all that is expected stands there; a screenshot is taken of it.

        Args:
            address: of the page.
            expected: words that it shows.
            picture: name of the screenshot.
            press: the text of a button or link to press first, so that the page shows all.

        Raises:
            AssertionError: something is still missing after a minute; with what there was instead.
        """
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.wait import WebDriverWait

        text = ""

        def complete(driver: Chrome) -> bool:
            nonlocal text
            text = driver.find_element(By.TAG_NAME, "body").text
            return all(words in text for words in expected)

        # An address that differs behind # only does not load the page anew.
        self.driver.get("about:blank")
        self.driver.get(address)
        if press:
            button = (By.XPATH, f"//*[text()='{press}']")
            WebDriverWait(self.driver, WAIT_S).until(lambda driver: driver.find_element(*button)).click()
        try:
            WebDriverWait(self.driver, WAIT_S, ignored_exceptions=[StaleElementReferenceException]).until(complete)
        except TimeoutException:
            missing = [words for words in expected if words not in text]
            raise AssertionError(f"{address}: {missing} are not in\n{text}") from None
        finally:
            self.driver.save_screenshot(str(self.pictures / f"{picture}.png"))
        return text


@contextlib.contextmanager
def chromium(pictures: Path) -> Iterator[Browser]:
    """Chromium while the block runs; the test is skipped, with the reason, where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver here: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in OPTIONS:
        options.add_argument(option)
    with tempfile.TemporaryDirectory(prefix="ps-chromium-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            yield Browser(browser, pictures)
        finally:
            browser.quit()
