"""Checks that `sam build` has built every function for arm64, and that none is over 3.6 million bytes zipped."""

import io
import sys
import zipfile
from pathlib import Path

# Lambda fetches and unpacks the code in each cold start. The largest, account, has 3.49
# million bytes; the rest is for the next feature, not for a dependency that nobody needs.
# The limit is for arm64, the only architecture that template.yaml deploys. Code for x86-64 is
# larger, but nobody deploys it: it runs only on the machines of developers.
LIMIT = 3_600_000
AARCH64 = 183  # e_machine in the ELF header

root = Path(__file__).parent.parent
faults = []
for source in sorted((root / "functions").iterdir()):
    binary = root / ".aws-sam/build" / f"{source.name.capitalize()}Function" / "bootstrap"
    if not binary.exists():
        faults.append(f"{source.name} has not been built")
        continue
    code = binary.read_bytes()
    if code[:4] != b"\x7fELF" or int.from_bytes(code[18:20], "little") != AARCH64:
        faults.append(f"{source.name} is not for arm64")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bootstrap", code)
    size = len(archive.getvalue())
    print(f"{source.name:9} {size:>9,} bytes zipped, {len(code):>10,} unzipped")
    if size > LIMIT:
        faults.append(f"{source.name} is over {LIMIT:,} bytes zipped")
sys.exit("\n".join(faults) or None)
