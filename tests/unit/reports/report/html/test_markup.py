"""Making HTML."""

from __future__ import annotations

from vmcorefs.reports.report.html.markup import Markup, items, name, table, tag, text


def test_text_stays_text() -> None:
    assert text("<b> & \"c\" 'd'") == "&lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;"
    assert text("a\x1b[31m\u202eb\nc\udcff") == r"a\x1b[31m\u202eb\nc\xff"
    assert tag("p", "<i>", Markup("<b>bold</b>")) == "<p>&lt;i&gt;<b>bold</b></p>"


def test_attributes() -> None:
    made = tag("input", class_="a", aria_label='"x"', hidden=True, checked=False, id=None, size=3)
    assert made == '<input class="a" aria-label="&quot;x&quot;" hidden size="3">'


def test_lists_and_tables() -> None:
    assert items(["a", "<"]) == "<ul><li>a</li><li>&lt;</li></ul>"
    assert name("<") == "<bdi>&lt;</bdi>"
    assert name("a" * 4096) == f"<bdi>{'a' * 300}… (4096 characters)</bdi>"
    assert table(["h"], [["<"], [Markup("<b>2</b>")]]) == (
        '<div class="wide"><table><thead><tr><th scope="col">h</th></tr></thead>'
        "<tbody><tr><td>&lt;</td></tr><tr><td><b>2</b></td></tr></tbody></table></div>"
    )
