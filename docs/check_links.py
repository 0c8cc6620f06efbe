"""Check every internal link of a built site: ``python docs/check_links.py OUT``.

A link to a file of the site must lead to a file, and one to a part of a page to an element of that name. Links to other
sites are left alone: no network is needed. The exit status is 1 where a link leads nowhere.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the names of its parts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag leads to, and what it is called."""
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and name in ("id", "name"):
                self.names.add(value)


def broken(folder: Path) -> list[str]:
    """Return a line for each link of a site that leads nowhere."""
    made = {".doctrees", "_static"}  # Not pages: what Sphinx works with, and the theme's files.
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html")) if not made & set(path.parts)}
    lines = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                lines.append(f"{path.relative_to(folder)}: {link}: there is no such file")
            elif anchor and target in pages and anchor not in pages[target].names:
                lines.append(f"{path.relative_to(folder)}: {link}: there is no such part")
    return lines


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve()
    if not (site / "index.html").exists():
        sys.exit(f"{site} has no index.html")
    found = broken(site)
    print("\n".join(found) or "every internal link leads somewhere")
    sys.exit(bool(found))
