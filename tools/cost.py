"""Computes the tables of docs/cost.md from the prices, assumptions and formulas on that
page, and prints them. With --check, fails if the page shows other figures.
With --taking MS OPERATION, prints the dollars per million of an operation that takes so long."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
SIZES = [10_000, 100_000, 1_000_000]


def rows(section):
    """Returns the cells of each row of a section's table, by the name in its first cell."""
    found = re.findall(r"^\| ([^|]*`(\w+)`[^|]*) \|(.*)\|$", section, re.MULTILINE)
    return {name: (label, [cell.strip() for cell in cells.split("|")]) for label, name, cells in found}


page = PAGE.read_text()
sections = {text.split("\n", 1)[0]: text for text in page.split("\n## ")}
names = {name: float(cells[0]) for title in ("Prices", "Formulas") for name, (_, cells) in rows(sections[title]).items()}
(formulas,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

# The functions look names up when they are called, so the operations may come later.
exec(formulas, names)
shown, computed = [], []
for name, (label, cells) in rows(sections["Operations"]).items():
    names[name] = names["per_million"](*map(float, cells[:4]))
    shown.append(f"| {label} | {' | '.join(cells)} |")
    computed.append(f"| {label} | {' | '.join(cells[:4])} | {names[name]:.2f} |")
for name, (label, cells) in rows(sections["A month"]).items():
    dollars = [names[name](*([] if name == "fixed" else [users])) for users in SIZES]
    shown.append(f"| {label} | {' | '.join(cells)} |")
    computed.append(f"| {label} | {' | '.join(f'{amount:,.0f}' for amount in dollars)} |")

if sys.argv[1:2] == ["--taking"]:
    ms, name = sys.argv[2:]
    writes, reads, _, mb, _ = map(float, rows(sections["Operations"])[name][1])
    print(f"{names['per_million'](writes, reads, float(ms), mb):.2f}")
elif "--check" not in sys.argv:
    print("\n".join(computed))
elif wrong := [pair for pair in zip(shown, computed) if pair[0] != pair[1]]:
    sys.exit("\n".join(f"docs/cost.md shows\n{a}\nbut its formulas give\n{b}" for a, b in wrong))
else:
    print(f"the {len(computed)} rows of docs/cost.md follow from its formulas")
