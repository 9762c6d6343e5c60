"""What passes between rooms, and between processes."""

from __future__ import annotations

import json

from ttscale.types import ESampReport


def test_report_of_esamp_survives_json() -> None:
    """What goes over HTTP, into a cache or a file comes back equal; what is not finite is null."""
    report = ESampReport(7, 3, {"no_room": 1}, 0.5, 64, {8: (1.25, 2)})

    assert ESampReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert ESampReport(relative_error=float("nan")).to_json()["relative_error"] is None
    assert ESampReport.from_json(ESampReport().to_json()) == ESampReport()
