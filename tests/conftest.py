import gc
import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Before torch is imported, here and in child processes: on small cells threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

import pytest
from hypothesis import settings

from tests.support.guard import start_guard
from tests.support.warm import VARIABLE as WARM
from tests.support.warm import WarmCommands

# Collecting garbage takes a tenth of the time, and tests make little of it.
gc.set_threshold(200_000, 20, 20)
ROOT = Path(__file__).parent.parent
# The same examples in each run, without deadlines; `--hypothesis-profile default` searches for new ones.
settings.load_profile("ci")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests that wait for a queue or a browser leave a core idle."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    start_guard()
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        # The workers of pytest-xdist share one server, which imports while they collect.
        stack = ExitStack()
        commands = stack.enter_context(WarmCommands.of_the_run())
        config.add_cleanup(stack.close)
        os.environ[WARM] = str(commands.folder)
    else:
        config.pluginmanager.import_plugin("tests.support.fixtures")


@contextmanager
def chromium(*options, logs):
    """Chromium without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")) and not os.environ.get("CI"):
        pytest.skip("no Chromium")
    from selenium import webdriver

    settings = webdriver.ChromeOptions()
    settings.binary_location = shutil.which("chromium")
    for name in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
                 "disable-component-update", "disable-sync", "enable-unsafe-swiftshader", *options):  # fmt: skip
        settings.add_argument(f"--{name}")
    settings.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(settings, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def browser():
    """Chromium; its console is kept."""
    with chromium(logs={"browser": "ALL"}) as driver:
        yield driver
