"""Checks the YAML in the docs with cfn-lint: a template as it is, and a part of a
template merged into template.yaml. SAM translates the merged ones, because cfn-lint
says nothing about what SAM refuses."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CFN_LINT, SAM = (Path(sys.executable).with_name(name) for name in ("cfn-lint", "sam"))
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
    # E3724: cfn-lint does not know a property in Globals that SAM takes.
    subprocess.run([CFN_LINT, "--ignore-checks", "E3724", "--", *written], cwd=folder, check=True)
    for path in written:
        if "\nTransform:" in path.read_text():
            subprocess.run([SAM, "validate", "--template", path], cwd=folder, check=True)
