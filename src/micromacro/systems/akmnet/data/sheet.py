"""Official sheets, .xls or .xlsx, as rows of plain text."""

import re
import warnings
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from micromacro.errors import BadInput
from micromacro.files import existing

RESTORE_SHEET = "restore the official sheet, or patch the clip"


def read_sheet(
    path: Path, used: Sequence[str], *, tab: str | int = 0, header_row: int = 1
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows below the header that hold a clip.

    Cells are text, without white space at their ends; a whole number has no point and no leading
    zeros. A row with at most one of the used columns filled is a note or empty, and passed over.

    Args:
        path: The sheet's file.
        used: Titles of the columns to return, as released.
        tab: Name or 0-based number of the sheet in the file.
        header_row: Row of the titles, 1-based as spreadsheet programs count.

    Yields:
        Number of the row, counted likewise, and its cells by title.

    Raises:
        BadInput: Missing, damaged, no such tab, or another header in that row.
    """
    cells = _cells(path, tab)
    titles = cells[header_row - 1] if len(cells) >= header_row else []
    lacking = [name for name in used if name not in titles]
    if lacking:
        fault = f"row {header_row} should be the header, but lacks {', '.join(lacking)}"
        raise BadInput(path, fault, "give the official sheet, as released")
    columns = {name: titles.index(name) for name in used}
    for number, row in enumerate(cells[header_row:], header_row + 1):
        named = {name: row[at] if at < len(row) else "" for name, at in columns.items()}
        if sum(text != "" for text in named.values()) > 1:
            yield number, named


def _cells(path: Path, tab: str | int) -> list[list[str]]:
    """All cells from the first row and column on, as text; rows may differ in length."""
    with existing(path).open("rb") as file:
        read = _xlsx if file.read(2) == b"PK" else _xls
    try:
        with warnings.catch_warnings():  # openpyxl warns of styles, which are not used here
            warnings.simplefilter("ignore")
            tabs = read(path)
    except Exception as error:  # both libraries raise whatever they met
        fault = f"cannot be read as a spreadsheet ({type(error).__name__})"
        raise BadInput(path, fault, "copy it again, as released") from error
    if isinstance(tab, str) and tab not in tabs:
        fault = f"has no sheet {tab}, but {', '.join(tabs)}"
        raise BadInput(path, fault, "give the official file, as released")
    rows = tabs[tab] if isinstance(tab, str) else list(tabs.values())[tab]
    return [[_text(value) for value in row] for row in rows]


def _xlsx(path: Path) -> dict[str, list[Sequence]]:
    from openpyxl import load_workbook  # here: most users never read a sheet

    book = load_workbook(path, data_only=True)
    return {sheet.title: list(sheet.values) for sheet in book.worksheets}


def _xls(path: Path) -> dict[str, list[Sequence]]:
    from xlrd import open_workbook

    with open_workbook(path, logfile=StringIO()) as book:
        sheets = book.sheets()
        return {s.name: [s.row_values(row) for row in range(s.nrows)] for s in sheets}


def _text(value: object) -> str:
    if value is None:
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def frame_number(text: str, title: str, where: str, missing: str) -> int | None:
    """An official frame number; None where the cell is empty or holds the sheet's missing mark.

    Raises:
        BadInput: Anything else; `where` names file and row.
    """
    if text in ("", missing):
        return None
    if not re.fullmatch("[0-9]+", text):
        raise BadInput(where, f"{title} is {text!r}, not a frame number", RESTORE_SHEET)
    return int(text)
