"""PDFs: what a reader, a screen reader and an archive find in them, in every language of the mails."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf.generic import ArrayObject, DictionaryObject, NullObject, PdfObject

from skycap.services import pdf as module
from skycap.services.pdf import PdfUnavailable, pdf
from tests.support.receipts import paper, payment, receipt_mail

CREATED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
A4 = (595.276, 841.89)


def made(html: str, *, title: str = "Receipt", locale: str = "en", created: datetime = CREATED) -> bytes:
    return pdf(html, title=title, locale=locale, created=created)


def read(content: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(content), strict=True)


def text_of(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in read(content).pages)


def catalogue(content: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", read(content).trailer["/Root"])


RECEIPT = paper(
    receipt_mail(
        payment({
            "hotelName": "Ilıca Koyu Butik Otel",
            "items": [{"name": "Oda", "amount": 16450}, {"name": "Kahvaltı", "amount": 2000}],
            "cardLast4": "4242",
        })
    )
)  # fmt: skip


def test_a_receipt_is_one_page_of_a4_that_a_mail_can_carry() -> None:
    content = made(RECEIPT)
    (page,) = read(content).pages
    assert (float(page.mediabox.width), float(page.mediabox.height)) == pytest.approx(A4, abs=0.01)
    assert len(content) < 60 * 1024


def test_a_receipt_with_too_much_to_say_goes_on_overleaf() -> None:
    items = [{"name": f"Oda {number} " + "ü" * 190, "amount": "461.25"} for number in range(40)]
    content = made(paper(receipt_mail(payment({"items": items}))))
    first, *more = [page.extract_text() for page in read(content).pages]
    assert more
    assert all("Description" in text and "destek@example.com" in text for text in (first, *more))
    assert {f"Oda {number}" for number in range(40)} == set(re.findall(r"Oda \d+", "".join((first, *more))))


def test_its_words_can_be_copied_and_searched() -> None:
    words = text_of(made(RECEIPT)).split()
    assert {"R-BK-2026-7F3K9Q", "Ilıca", "Kahvaltı", "16,450.00", "18,450.00", "••••", "4242"} <= set(words)


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("tr", "İstanbul’da ışıklı gece, ağaç, çörek: ₺18.450,00"),
        ("de", "Größe, Übernachtung, 18.450,00 €"),
        ("ru", "Ещё одна квитанция об оплате: 18 450,00 ₽"),
        ("en", "£1 ¥1 €1 ₺1 ₽1 “quoted”"),
    ],
)
def test_every_letter_of_the_languages_is_there(locale: str, said: str) -> None:
    content = made(f"<p>{said}</p>", locale=locale)
    assert text_of(content).split() == said.split()
    assert is_archivable(content)


def test_arabic_runs_from_right_to_left() -> None:
    said = "تم استلام الدفعة"
    page = read(made(f"<p>{said}</p>", locale="ar")).pages[0]
    places: list[float] = []

    def note(_text: str, page_matrix: list[float], *_more: object) -> None:
        places.append(page_matrix[4])

    shown = page.extract_text(visitor_text=note)
    assert max(places) > A4[0] / 2
    assert all(word in shown for word in said.split())


def test_arabic_letters_join() -> None:
    content = read(made("<p>ععع</p>", locale="ar"))
    (font,) = cast("dict[str, Any]", content.pages[0]["/Resources"])["/Font"].values()
    codes = font.get_object()["/ToUnicode"].get_object().get_data().decode()
    # One letter, three shapes: at the start, in the middle and at the end.
    assert len(re.findall("<[0-9a-f]+> <0639>", codes, re.IGNORECASE)) == 3


def test_a_screen_reader_finds_language_title_headings_and_tables() -> None:
    content = made(RECEIPT, title="Ödeme makbuzu", locale="tr-TR")
    root = catalogue(content)
    information = read(content).metadata
    assert information is not None
    assert (root["/Lang"], information.title) == ("tr", "Ödeme makbuzu")
    assert root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    tags = structure(root["/StructTreeRoot"])
    assert tags.count("/H1") == 1
    assert {"/Table", "/THead", "/TH", "/TBody", "/TD"} <= set(tags)


def structure(element: PdfObject) -> list[str]:
    element = element.get_object() or NullObject()
    if isinstance(element, ArrayObject):
        return [tag for child in element for tag in structure(child)]
    if not isinstance(element, DictionaryObject):
        return []
    children = structure(element["/K"]) if "/K" in element else []
    return [str(element["/S"]), *children] if "/S" in element else children


def is_archivable(content: bytes) -> bool:
    """Whether it says that it is PDF/A-2a and PDF/UA-1, which typst has checked."""
    about = catalogue(content)["/Metadata"].get_object().get_data().decode()
    return all(
        re.search(rf"<{name}>{value}</{name}>", about)
        for name, value in (("pdfaid:part", "2"), ("pdfaid:conformance", "A"), ("pdfuaid:part", "1"))
    )


def test_it_can_be_archived_for_as_long_as_the_tax_office_asks() -> None:
    content = made(RECEIPT)
    assert is_archivable(content)
    fonts = cast("dict[str, Any]", read(content).pages[0]["/Resources"])["/Font"]
    assert all(re.match(r"/[A-Z]{6}\+FiraGO", font.get_object()["/BaseFont"]) for font in fonts.values())


def test_equal_arguments_give_equal_bytes() -> None:
    first = made(RECEIPT)
    made("<p>Something else</p>", locale="ar")
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=3)))
    assert made(RECEIPT) == first == made(RECEIPT, created=elsewhere)
    assert made(RECEIPT, created=CREATED + timedelta(seconds=1)) != first
    assert made(RECEIPT, created=CREATED + timedelta(microseconds=1)) == first  # a PDF says no more than seconds
    assert read(first).trailer["/ID"] == read(made(RECEIPT)).trailer["/ID"]


def test_several_threads_make_the_same() -> None:
    module._fonts.cache_clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as in a process that starts
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(made, [RECEIPT] * 8))) == 1


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module._fonts.cache_clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as in a process that starts
    made(RECEIPT)
    assert list(tmp_path.iterdir()) == []
    assert {"ğ", "ط"} <= set(text_of(made("<p>ğ <b>ط</b></p>")))


def test_what_typst_would_read_as_markup_is_text() -> None:
    said = "#strong[a] *b* _c_ $x^2$ = `d` <e> @f \\g // h /* i */ #sys.version"
    content = made(f"<p>{said.replace('<', '&lt;')}</p>")
    assert text_of(content).split() == said.split()


def test_what_is_not_seen_in_a_browser_is_not_in_the_pdf() -> None:
    html = "<head><title>no</title><style>no</style></head><script>no</script><p>yes<br>and <b>yes</b></p><!-- no -->"
    assert text_of(made(html)).split() == ["yes", "and", "yes"]


def test_a_name_in_letters_that_no_font_has_costs_no_receipt() -> None:
    content = made("<h1>Receipt</h1><p>王小明 😀 paid</p>")
    assert {"Receipt", "paid"} <= set(text_of(content).split())
    assert not is_archivable(content)


@pytest.mark.parametrize("library", ["typst", "pymupdf_fonts", "pymupdf_fonts.FiraGO_Bold"])
def test_without_the_extra_it_says_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module._fonts.cache_clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as in a process that starts
    for name in [name for name in sys.modules if name.partition(".")[0] == library.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, cast("Any", None))
    with pytest.raises(PdfUnavailable, match=r"install skycap\[pdf\]"):
        made(RECEIPT)


TAGS = st.sampled_from(["h1", "p", "dl", "dt", "dd", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "b", "bdi", "header", "footer", "br", "x"])  # fmt: skip # noqa: E501
PIECES = st.one_of(TAGS.map("<{}>".format), TAGS.map("</{}>".format), st.text(max_size=6).map(lambda text: text.replace("\x00", "")))  # fmt: skip # noqa: E501


@settings(max_examples=60, deadline=None)
@given(html=st.lists(PIECES, max_size=25).map("".join), locale=st.sampled_from(["en", "tr", "ar"]))
def test_html_of_any_shape_becomes_a_pdf(html: str, locale: str) -> None:
    assert made(html, locale=locale).startswith(b"%PDF-1.7")
