"""The schema of a report."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from vmcorefs.reports.report.schema import Report

_PUBLISHED = Path(__file__).parents[4] / "docs/report.schema.json"


def test_the_schema_in_the_docs_is_the_report_s() -> None:
    assert json.loads(_PUBLISHED.read_text()) == msgspec.json.schema(Report)
