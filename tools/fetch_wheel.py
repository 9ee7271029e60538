"""Fetches one wheel for this machine where Python has no pip: `fetch_wheel.py NAME VERSION FOLDER`.

Uses the simple repository interface (PEP 503), as pip does: the index page of the project names the
files and their SHA-256. PIP_INDEX_URL chooses another index. Only the standard library is used.
"""

import hashlib
import html.parser
import os
import re
import stat
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile

TIMEOUT_S = 180


class Links(html.parser.HTMLParser):
    """Collects the targets of all links."""

    def __init__(self):
        super().__init__()
        self.targets = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def main():
    name, version, folder = sys.argv[1:4]
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page_url = f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    request = urllib.request.Request(page_url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as page:
        links = Links()
        links.feed(page.read().decode())
        base = page.geturl()
    wheel = re.compile(rf"{re.escape(name)}-{re.escape(version)}-.*manylinux.*x86_64.*\.whl$")
    urls = [urllib.parse.urldefrag(urllib.parse.urljoin(base, link)) for link in links.targets]
    fits = [url for url in urls if wheel.search(urllib.parse.unquote(url.url))]
    if not fits:
        sys.exit(f"{page_url}: no wheel of {name} {version} for Linux on x86_64")
    match = re.fullmatch(r"sha256=([0-9a-f]{64})", fits[0].fragment)
    if match is None:
        sys.exit(f"{page_url}: the index gives no SHA-256 for {fits[0].url}")

    digest = hashlib.sha256()
    with tempfile.TemporaryFile(dir=folder) as file:
        with urllib.request.urlopen(fits[0].url, timeout=TIMEOUT_S) as body:
            while chunk := body.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != match[1]:
            sys.exit(f"{fits[0].url}: SHA-256 is {digest.hexdigest()}, expected {match[1]}")
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                path = archive.extract(entry, folder)
                mode = entry.external_attr >> 16
                if stat.S_ISREG(mode):  # zipfile does not keep the executable bit.
                    os.chmod(path, stat.S_IMODE(mode) | 0o600)


main()
