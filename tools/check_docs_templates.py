"""Checks the YAML in the docs with cfn-lint: a template as it is, and properties of
a resource merged into that resource in template.yaml."""

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
    found = re.fullmatch(r"(  \w+:\n)    Properties:\n(.+)", block, re.DOTALL)
    assert found, f"neither a template nor the properties of a resource:\n{block}"
    resource, properties = found.groups()
    start = re.compile(re.escape(resource) + r"    Type: .+\n    Properties:\n")
    # In the docs, … is a value that only the reader knows.
    merged, count = start.subn(lambda found: found[0] + properties.replace("…", "1"), TEMPLATE)
    assert count == 1, f"template.yaml has {count} resources for\n{block}"
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
