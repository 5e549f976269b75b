"""Reduces an abixml file to the exported functions and the types that they reach.

abidw also writes what the implementation includes, which says nothing about the ABI and changes with the C++ library.
usage: prune.py FILE (rewritten in place)
"""

import sys
import xml.etree.ElementTree as xml

path = sys.argv[1]
tree = xml.parse(path)
corpus = tree.getroot()
units = corpus.findall("abi-instr")
declarations = [element for unit in units for element in unit]
by_id = {element.get("id"): element for element in declarations if element.get("id")}

kept = []
pending = [element for element in declarations if element.get("elf-symbol-id")]
while pending:
    element = pending.pop()
    if element in kept:
        continue
    if element.get("is-declaration-only"):  # handles and plans are opaque
        element[:] = []
    kept.append(element)
    for inner in element.iter():
        for attribute in ("type-id", "naming-typedef-id", "def-of-decl-id"):
            if inner.get(attribute) in by_id:
                pending.append(by_id[inner.get(attribute)])

for unit in units:
    corpus.remove(unit)
only = xml.SubElement(corpus, "abi-instr", {"address-size": units[0].get("address-size"), "path": "include/attn/attn.h"})
only.extend(element for element in declarations if element in kept)
xml.indent(tree)
tree.write(path)
