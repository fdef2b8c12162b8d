"""The page without a browser: its files agree with each other, with the languages and with its policy."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lithophone.languages import LANGUAGES, SOURCE_LANGUAGES, TABLE
from lithophone.server import pages
from lithophone.server.app import create_app
from lithophone.server.settings import Settings

FILES = {path.name: path.read_text(encoding="utf-8") for path in pages.FOLDER.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
HTML, CSS = FILES["index.html"], FILES["style.css"]
VOID = {"meta", "link", "img", "input"}


class Elements(HTMLParser):
    """Elements as (tag, attributes, ancestors), texts by their element, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str], list[int]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._open and self.all[self._open[-1]][0] == tag == "option":  # Its end tag may be left out.
            self._open.pop()
        self.all.append((tag, {name: value or "" for name, value in attrs}, list(self._open)))
        if tag not in VOID:
            self._open.append(len(self.all) - 1)

    def handle_endtag(self, tag: str) -> None:
        if self.all[self._open[-1]][0] == "option" != tag:
            self._open.pop()
        assert self.all[self._open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for number in self._open:
            self.texts[number] = self.texts.get(number, "") + data

    def text(self, number: int) -> str:
        return self.texts.get(number, "").strip()

    def with_id(self, name: str) -> int:
        return next(number for number, (_, attrs, _) in enumerate(self.all) if attrs.get("id") == name)


PAGE = Elements(HTML)
IDS = [attrs["id"] for _, attrs, _ in PAGE.all if "id" in attrs]


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(pages.router)
    return TestClient(app)


# --- the files


def test_the_page_is_small() -> None:
    assert sum(len(text.encode()) for text in FILES.values()) < 62_000


def test_no_file_names_an_address_outside() -> None:
    for name, text in FILES.items():
        text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(https?|wss?)://|[\"'(]//", text), f"{name} names an outside address"
    assert not re.search(r"url\(|@import", CSS)


def test_links_and_imports_name_files_of_the_page() -> None:
    linked = re.findall(r'(?:href|src)="page/([^"]+)"', HTML)
    imported = re.findall(r'from "\./([^"]+)"|new URL\("([^"]+)", import\.meta', "\n".join(SCRIPTS.values()))
    assert {*linked, *("".join(names) for names in imported)} == set(FILES) - {"index.html"}


def test_ids_are_unique_and_every_id_referred_to_exists() -> None:
    assert len(IDS) == len(set(IDS))
    attributes = [
        name
        for _, attrs, _ in PAGE.all
        for attribute in ("for", "aria-labelledby", "aria-describedby", "href")
        for name in attrs.get(attribute, "").split()
        if attribute != "href" or name.startswith("#")
    ]
    scripts = re.findall(r'(?:\$|show|put)\("([^"]+)"', FILES["app.js"])
    actions = re.findall(r'^\t"?([\w-]+)"?: \["', FILES["app.js"], re.MULTILINE)
    styles = re.findall(r"#([a-z][\w-]*)(?=[^;{}]*\{)", CSS)
    assert len(actions) == 9
    assert {name.removeprefix("#") for name in [*attributes, *scripts, *actions, *styles]} <= set(IDS)


def test_classes_of_the_style_are_used() -> None:
    styled = set(re.findall(r"\.([a-z][\w-]*)(?=[^;{}]*\{)", CSS))
    used = "\n".join([HTML, *SCRIPTS.values()])
    assert [name for name in styled if not re.search(rf"\b{name}\b", used)] == []


def test_nothing_is_inline_and_no_script_parses_html() -> None:
    for tag, attrs, _ in PAGE.all:
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert tag != "script" or attrs.get("src")
    for name, text in SCRIPTS.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText", text
        ), name


# --- accessible names, landmarks, contrast


def named(number: int) -> bool:
    tag, attrs, ancestors = PAGE.all[number]
    if attrs.get("aria-label") or (tag == "button" and PAGE.text(number)):
        return True
    if "aria-labelledby" in attrs:
        return bool(PAGE.text(PAGE.with_id(attrs["aria-labelledby"])) or attrs["aria-labelledby"] == "doing")
    labels = [
        i
        for i, (kind, values, _) in enumerate(PAGE.all)
        if kind == "label" and values.get("for") == attrs.get("id", "-")
    ]
    return any(PAGE.text(i) for i in labels + [i for i in ancestors if PAGE.all[i][0] == "label"])


def test_every_control_and_region_has_an_accessible_name() -> None:
    needing = {"button", "input", "select", "audio", "progress", "section", "form"}
    numbers = [
        i for i, (tag, attrs, _) in enumerate(PAGE.all) if tag in needing or attrs.get("role") in ("group", "log")
    ]
    assert len(numbers) > 30
    assert [PAGE.all[i][:2] for i in numbers if not named(i)] == []


def test_images_have_alternatives_and_the_page_a_language_title_and_landmarks() -> None:
    tags = [tag for tag, _, _ in PAGE.all]
    assert all("alt" in attrs for tag, attrs, _ in PAGE.all if tag == "img")
    assert PAGE.all[0][:2] == ("html", {"lang": "en"})
    assert [tags.count(tag) for tag in ("title", "h1", "header", "main", "footer")] == [1] * 5
    assert {attrs["role"] for _, attrs, _ in PAGE.all if "role" in attrs} >= {"status", "alert", "log"}


def colours(scheme: int) -> dict[str, str]:
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
    return {name: pair[scheme] for name, *pair in pairs}


def contrast(one: str, other: str) -> float:
    """Ratio of luminances, WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


TEXTS = [
    *((text, ground) for text in ("ink", "muted") for ground in ("page", "panel", "soft")),
    *(("ink", ground) for ground in ("c1", "c2", "c3", "line", "bad-soft")),
    *((f"s{number}", "panel") for number in range(6)),
    ("on-accent", "accent"), ("bad", "bad-soft"), ("bad", "panel"), ("doubt", "panel"),
]  # fmt: skip
CONTROLS = [(one, ground) for one in ("edge", "accent") for ground in ("page", "panel")]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(scheme: int) -> None:
    known = colours(scheme)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    low = [(one, other) for one, other in TEXTS if contrast(known[one], known[other]) < 4.5]
    low += [(one, other) for one, other in CONTROLS if contrast(known[one], known[other]) < 3]
    assert low == []


# --- agreement with the rest of the package


def options_of(name: str) -> dict[str, str]:
    select = PAGE.with_id(name)
    return {
        attrs["value"]: PAGE.text(number)
        for number, (tag, attrs, ancestors) in enumerate(PAGE.all)
        if tag == "option" and select in ancestors
    }


def test_languages_are_those_of_the_family() -> None:
    names = {code: TABLE[code].api_name.capitalize() for code in LANGUAGES}
    assert options_of("language") == {
        "": "Any", "auto": "Detect", **{code: names[code] for code in SOURCE_LANGUAGES},
    }  # fmt: skip
    assert options_of("to") == names


# --- how it is sent


def test_the_policy_allows_the_own_origin_only(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    assert policy.startswith("default-src 'none'; ")
    sources = {source for rule in policy.split("; ") for source in rule.split()[1:]}
    assert sources == {"'none'", "'self'", "blob:", "'script'"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("style.css", "text/css"),
        ("app.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
        ("index.html", "text/html"),
    ],
)
def test_files_have_their_types_and_are_kept_by_version(client: TestClient, name: str, kind: str) -> None:
    reply = client.get(f"/page/{pages.page().version}/{name}")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith(kind)
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_index_is_revalidated_and_links_files_of_its_version(client: TestClient) -> None:
    reply = client.get("/")
    assert reply.headers["cache-control"] == "no-cache"
    links = re.findall(r'(?:href|src)="(page/[^"]+)"', reply.text)
    assert len(links) == 5
    assert all(client.get(f"/{link}").headers["cache-control"].endswith("immutable") for link in links)


def test_a_file_of_another_version_is_not_kept(client: TestClient) -> None:
    assert client.get("/page/0123456789abcdef/app.js").headers["cache-control"] == "no-cache"


def test_a_known_tag_is_answered_without_a_body(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    for header in (tag, f'"other", W/{tag}', "*"):
        reply = client.get("/", headers={"If-None-Match": header})
        assert (reply.status_code, reply.content) == (304, b"")
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["pages.py", "..%2fpages.py", "../pages.py", "%2e%2e/pages.py", "app.js/", ""])
def test_other_files_are_not_sent(client: TestClient, path: str) -> None:
    assert client.get(f"/page/{pages.page().version}/{path}", follow_redirects=False).status_code in (307, 404)


def test_head_has_the_headers_alone(client: TestClient) -> None:
    reply = client.head("/")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers == client.get("/").headers


def test_compressed_files_are_sent_to_browsers_that_take_them(client: TestClient) -> None:
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    packed = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.text == plain.text
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_the_server_sends_the_page_without_a_key() -> None:
    client = TestClient(create_app(Settings(api_key=("sk-1",))))
    version = pages.page().version
    assert [client.get(path).status_code for path in ("/", f"/page/{version}/app.js", "/favicon.ico")] == [200] * 3
    assert [client.get(path).status_code for path in ("/v1/models", "/page", "/pages")] == [401] * 3


def test_the_page_is_no_part_of_the_api() -> None:
    app = FastAPI()
    app.include_router(pages.router)
    assert app.openapi()["paths"] == {}
