"""Opens a page in headless Chromium, runs a script in it, and returns the script's result."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

_BEFORE = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
for (const name of ["error", "warn"]) console[name] = (...words) => problems.push(words.join(" "));
</script>"""
_AFTER = """<script>
addEventListener("load", async () => {
  const result = await (async () => { %s })();
  const requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  const element = document.createElement("pre");
  element.id = "result-of-the-test";
  element.textContent = JSON.stringify({ result, problems, requests });
  document.body.append(element);
});
</script>"""


def in_browser(page: Path, folder: Path, script: str, width: int = 1440) -> dict[str, Any]:
    """Run the body of an async function in a copy of a page that is opened from a file.

    Returns `result`, `problems` (errors and warnings of the console, and broken policies), and
    `requests` (addresses that the page loaded).
    """
    text = page.read_text(encoding="utf-8")
    assert text.count("<head>") == text.count("</body>") == 1
    text = text.replace("<head>", f"<head>{_BEFORE}")
    text = text.replace("</body>", f"{_AFTER.replace('%s', script)}</body>")
    copy = folder / "opened.html"
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},1000",
            "--virtual-time-budget=8000",
            "--dump-dom",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = re.search(r'<pre id="result-of-the-test">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    return values
