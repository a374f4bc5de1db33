"""Checks the YAML in the docs with cfn-lint: a template as it is, and a part of a
template merged into template.yaml."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CFN_LINT = Path(sys.executable).with_name("cfn-lint")
TEMPLATE = (ROOT / "template.yaml").read_text()


def template(block):
    """Returns the template that a reader who follows the page would deploy."""
    if block.startswith("AWSTemplateFormatVersion"):
        return block
    # Everything is below the lines that open it, which are in template.yaml too.
    opening = re.match(r"((?:\S+:\n  \w+:\n)|(?:  \w+:\n    Properties:\n))", block)
    assert opening, f"neither a template nor a part of template.yaml:\n{block}"
    start = opening[0].replace("    Properties", "    Type: .+\n    Properties")
    added = block[opening.end() :].replace("…", "1")  # in the docs, … is a value that only the reader knows
    merged, count = re.subn(rf"^{start}", lambda found: found[0] + added, TEMPLATE, flags=re.MULTILINE)
    assert count == 1, f"template.yaml has {count} places for\n{block}"
    return merged


with tempfile.TemporaryDirectory() as folder:
    written = []
    for page in sorted(ROOT.glob("docs/*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            written.append(Path(folder, f"{page.stem}-{len(written)}.yaml"))
            written[-1].write_text(template(block))
    assert written, "the docs have no YAML"
    print(f"cfn-lint {' '.join(path.name for path in written)}")
    sys.exit(subprocess.run([CFN_LINT, *written], cwd=folder).returncode)
