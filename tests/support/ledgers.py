"""Ledgers as a whole; the package reads them one candidate at a time."""

from pathlib import Path

from cryslator_flows.counting.ledger import LedgerEntry


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Read the last state of each run, in the order of their first lines; a cut line is an error."""
    lines = (line for file in sorted(path.glob("*.jsonl")) for line in file.read_text().splitlines() if line)
    entries = map(LedgerEntry.model_validate_json, lines)
    return list({entry.run_id: entry for entry in entries}.values())
