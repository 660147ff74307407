#!/usr/bin/env python3
"""Writes the licences of every crate that is linked into a taimat binary.

usage: deploy/third-party-licences.py [--out FILE] [cargo arguments that choose features and target]
e.g.   deploy/third-party-licences.py --no-default-features                      # the device
       deploy/third-party-licences.py --no-default-features --features office    # the office

Reads `cargo tree` and `cargo metadata` and the sources in cargo's registry; needs python3 and cargo only.
A crate that only names MIT, BSD-2-Clause or Apache-2.0 gets the standard text, with its authors, and a note on stderr.
Exit code 1 when a crate names no licence, or there is no text for the one that it names."""
import hashlib
import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)([._-].*)?$", re.IGNORECASE)
ROOT = pathlib.Path(__file__).resolve().parent.parent


def cargo(*args):
    done = subprocess.run(["cargo", *args], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def linked(features):
    """Name and version of every crate that is linked, without build dependencies and procedural macros."""
    lines = cargo("tree", "--locked", "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}", *features).splitlines()
    found = set()
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] != "taimat":
            found.add((words[0], words[1].removeprefix("v")))
    return sorted(found)


def texts(package):
    """Licence files beside the crate's manifest, and in folders named for licences."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and NAMES.match(path.name)]
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and re.match(r"^licen[cs]es?$", inner.name, re.IGNORECASE):
            files += [path for path in sorted(inner.rglob("*")) if path.is_file()]
    if package.get("license_file"):
        files.append(folder / package["license_file"])
    unique = {path.resolve(): path for path in files if path.is_file()}
    return [(str(path.relative_to(folder)), path.read_text(encoding="utf-8", errors="replace")) for path in unique.values()]


def fallback(package):
    """The standard text for a crate that names its licence and carries no file."""
    expression = package["license"] or ""
    if "Apache-2.0" in expression and (ROOT / "LICENSE").is_file():
        return [("Apache-2.0, from the text in this repository", (ROOT / "LICENSE").read_text(encoding="utf-8"))]
    authors = ", ".join(package["authors"]) or f"the authors of {package['name']}"
    if expression in STANDARD:
        return [(f"{expression}, the standard text; {package['name']} carries none", STANDARD[expression].format(authors=authors))]
    return []


MIT = """Copyright (c) {authors}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software
is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES
OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

BSD = """Copyright (c) {authors}

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following
conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following disclaimer
in the documentation and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT
NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL
THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES
(INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS
INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE
OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
STANDARD = {"MIT": MIT, "BSD-2-Clause": BSD}


def main():
    words = sys.argv[1:]
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    out = "THIRD-PARTY-LICENCES.txt"
    if "--out" in words:
        at = words.index("--out")
        if at + 1 == len(words):
            print("--out needs a file", file=sys.stderr)
            return 2
        out = words[at + 1]
        del words[at:at + 2]
    packages = {(p["name"], p["version"]): p for p in json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]}
    wrong, filled, crates, bodies = [], [], [], {}
    for key in linked(words):
        package = packages.get(key)
        if package is None:
            wrong.append(f"{key[0]} {key[1]}: not in cargo metadata")
            continue
        if not package["license"] and not package.get("license_file"):
            wrong.append(f"{key[0]} {key[1]}: names no licence")
        found = texts(package)
        if not found:
            found = fallback(package)
            if found:
                filled.append(f"{key[0]} {key[1]} ({package['license']})")
        if not found:
            wrong.append(f"{key[0]} {key[1]}: carries no licence text ({package['license']})")
        marks = []
        for name, text in found:
            digest = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            number = bodies.setdefault(digest, (len(bodies) + 1, name, text))[0]
            marks.append(number)
        crates.append((key, package, marks))
    with open(out, "w", encoding="utf-8") as file:
        file.write("Third-party software in this build of taimat\n")
        file.write(f"cargo arguments: {' '.join(words) or '(default features)'}\n\n")
        for (name, version), package, marks in crates:
            origin = package.get("repository") or package.get("homepage") or ""
            numbers = ", ".join(str(number) for number in marks)
            file.write(f"{name} {version}\n    licence: {package['license'] or 'see its text'}\n    text: {numbers}\n")
            if origin:
                file.write(f"    source: {origin}\n")
        for number, name, text in bodies.values():
            file.write(f"\n{'=' * 100}\nText {number} ({name})\n{'=' * 100}\n\n{text.rstrip()}\n")
    print(f"{out}: {len(crates)} crates, {len(bodies)} texts")
    for line in filled:
        print(f"note: {line} carries no licence text; the standard text is used", file=sys.stderr)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
