"""Documents as text, and the pieces that they are cut into.

1. Each kind of document gives its text; a damaged, empty or encrypted one is named with its reason.
2. Pieces have the size that was asked for, and together they are the document.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from ajet.data_generation.chunks import chunks_of
from ajet.data_generation.documents import Document, document_files, read_documents
from ajet.errors import DataError, MissingExtraError

SENTENCE = "The harbour master counts ships every morning."


def pdf(text: str | None, password: str | None = None) -> bytes:
    """A PDF file with one page."""
    writer = PdfWriter()
    page = writer.add_blank_page(width=300, height=200)
    if text is not None:
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def docx(text: str) -> bytes:
    """The smallest .docx file that has a text."""
    kind = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{kind}/content-types"><Default Extension="xml" '
        'ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{kind}/relationships"><Relationship Id="r1" '
        f'Type="{office}" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{main}"><w:body><w:p><w:r><w:t>{text}'
        "</w:t></w:r></w:p></w:body></w:document>",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


PAGE = f"<html><head><style>p {{}}</style></head><body><h1>Log</h1><p>{SENTENCE}</p><script>x()"


def read(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    [document] = read_documents([str(folder / name)], folder / "kept")
    return document.text


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", SENTENCE.encode(), SENTENCE),
        ("a.txt", ("\ufeff" + SENTENCE).encode(), SENTENCE),
        ("a.txt", SENTENCE.encode("utf-16"), SENTENCE),
        ("a.txt", ("caf\xe9 " + SENTENCE).encode("cp1252"), "café " + SENTENCE),
        ("a.md", f"# Log\r\n\r\n\r\n\r\n{SENTENCE}".encode(), f"# Log\n\n{SENTENCE}"),
        ("a.html", PAGE.encode(), f"# Log\n\n{SENTENCE}"),
        ("a.docx", docx(SENTENCE), SENTENCE),
        ("A.PDF", pdf(SENTENCE), SENTENCE),
        ("a.pdf", pdf(SENTENCE, password=""), SENTENCE),
    ],
)
def test_each_kind_of_document_gives_its_text_twice(name, content, text, tmp_path):
    assert read(tmp_path, name, content) == text
    assert read(tmp_path, name, content) == text  # from what is kept


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pdf", pdf(None), "has no text; a scanned document needs text recognition"),
        ("a.pdf", pdf(SENTENCE, password="x"), "is encrypted: save a copy without a password"),
        ("a.pdf", b"%PDF-1.7\nnothing", "no readable PDF|is it damaged"),
        ("a.pdf", b"", "no readable PDF|is it damaged"),
        ("a.pdf", pdf(SENTENCE)[:300], "no readable PDF|is it damaged|has no text"),
        ("a.docx", b"PK\x03\x04broken", "is no .docx file"),
        ("a.txt", b"", "has no text"),
        ("a.txt", b"\x7fELF\x00\x00\x00\x00" * 100, "not a text but a binary file"),
        ("a.html", b"<html><script>x</script></html>", "has no text"),
        ("a.csv", b"a,b", 'unknown suffix ".csv"; known are .docx, .htm, .html'),
    ],
)
def test_a_document_without_text_is_an_error_that_says_why(name, content, words, tmp_path):
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, name, content)
    assert name in str(caught.value)


def test_one_bad_document_of_several_is_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF")
    (tmp_path / "good.txt").write_text(SENTENCE)
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    [document] = read_documents([str(tmp_path)], None)
    assert document.name == "good.txt" and "left out" in caplog.text and "bad.pdf" in caplog.text


def test_hidden_files_of_a_folder_are_no_documents(tmp_path):
    for name in (".git/a.txt", "b/.cache/c.md", "b/~$d.docx", "__MACOSX/._e.txt", "b/seen.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SENTENCE)
    assert [path.name for path in document_files([str(tmp_path)])] == ["seen.txt"]


def test_a_folder_or_path_without_documents_is_an_error(tmp_path):
    with pytest.raises(DataError, match="the folder has no document"):
        list(document_files([str(tmp_path)]))
    with pytest.raises(DataError, match="there is no such file"):
        list(document_files([str(tmp_path / "none.txt")]))


def test_a_missing_library_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(MissingExtraError, match=r'pip install "agentjet\[data\]"'):
        read(tmp_path, "a.pdf", pdf(SENTENCE))


@given(
    st.text(alphabet="ab .!?\n。é", max_size=400),
    st.integers(5, 60),
    st.sampled_from(["sentence", "paragraph", "character"]),
)
def test_pieces_have_the_size_and_lose_nothing(text, size, split_by):
    pieces = chunks_of([Document(name="d", text=text)], size, split_by)
    assert all(0 < len(piece.text) <= size for piece in pieces)
    assert "".join("".join(piece.text.split()) for piece in pieces) == "".join(text.split())
    assert [piece.index for piece in pieces] == list(range(len(pieces)))


def test_a_text_is_cut_where_sentences_or_paragraphs_end():
    text = "One is here. Two is here! Three is here?\n\nFour is here. Five is here."
    document = [Document(name="d", text=text)]
    assert [c.text for c in chunks_of(document, 30, "sentence")] == [
        "One is here. Two is here!",
        "Three is here?\n\nFour is here.",
        "Five is here.",
    ]
    assert [c.text for c in chunks_of(document, 45, "paragraph")] == [
        "One is here. Two is here! Three is here?",
        "Four is here. Five is here.",
    ]
