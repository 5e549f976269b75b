#!/usr/bin/env python3
"""Checks the documentation and the site built from it; prints one line for each check, fails if one does.

usage: check_site.py HTML_DIR   (in the root of the repository)

- every link and every file that a page loads exists, anchors included, and nothing is loaded from elsewhere
- pages show code of tested programs only: \\snippet of a program in docs/site/snippets or examples, shell commands aside
- every program in docs/site/snippets is built by the tests and quoted by a page
- every public declaration of attn.h has its description, and formulas have reached the pages
"""

import html.parser
import pathlib
import re
import sys
import urllib.parse

failed = False


def report(name, problems):
    global failed
    print(f"not ok - {name}" if problems else f"ok - {name}")
    for problem in sorted(set(problems)):
        print(f"    {problem}")
    failed |= bool(problems)


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(v for k in ("id", "name") if (v := values.get(k)))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("script", "img", "iframe", "object") and values.get("src"):
            self.loads.append(values["src"])
        elif tag == "link" and values.get("href"):
            self.loads.append(values["href"])


def outside(target):
    return urllib.parse.urlsplit(target).scheme != "" or target.startswith("//")


def resolve(root, path, target):
    """The file that a link of a page names, and the anchor in it."""
    parts = urllib.parse.urlsplit(target)
    file = path if not parts.path else (path.parent / urllib.parse.unquote(parts.path)).resolve()
    return file, urllib.parse.unquote(parts.fragment)


def check_links(root):
    pages = {path.resolve(): Page(path) for path in root.rglob("*.html") if "mathjax" not in path.parts}
    broken, loaded, remote, count = [], [], [], 0
    for path, page in pages.items():
        for target in page.links:
            if outside(target):
                continue
            count += 1
            file, anchor = resolve(root, path, target)
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].anchors):
                broken.append(f"{path.name}: {target}")
        for target in page.loads:
            if target == "javascript:void(0)":  # the empty frame that shows search results
                continue
            if outside(target):
                remote.append(f"{path.name}: {target}")
            elif not resolve(root, path, target)[0].exists():
                loaded.append(f"{path.name}: {target}")
    if count < 1000:
        broken.append(f"only {count} links found: this is not the site")
    report(f"{count} internal links of {len(pages)} pages lead somewhere", broken)
    report("every file that a page loads is there", loaded)
    report("nothing is loaded from elsewhere", remote)
    report(
        "the tree of pages leads to pages",
        [
            f"navigation: {target}"
            for script in root.glob("*.js")
            if not script.name.startswith("navtreeindex")  # says where a page is in the tree, leads nowhere
            for target in re.findall(r'"([a-z_0-9A-Z]+\.html)(?:#[^"]*)?"', script.read_text(errors="replace"))
            if not (root / target).exists()
        ],
    )
    formulas = sum(path.read_text().count("\\[") for path in pages)
    report(f"{formulas} displayed formulas", [] if formulas >= 20 else ["fewer than 20"])


def check_reference(root):
    """Doxygen's index of what it documents against the declarations of the header."""
    header = pathlib.Path("include/attn/attn.h").read_text()
    declared = set(re.findall(r"ATTN_CALL (attn_\w+)\(|^static inline \w+ (attn_\w+)\(", header, re.MULTILINE))
    names = {name for pair in declared for name in pair if name}
    names.update(re.findall(r"^    (ATTN_\w+) = ", header, re.MULTILINE))
    names.update(re.findall(r"^} (attn_\w+);$", header, re.MULTILINE))
    names.update(re.findall(r"^typedef \w+ (attn_\w+);$", header, re.MULTILINE))
    index = set(re.findall(r"<name>(\w+)</name>", (root / "libattn.tag").read_text()))
    problems = [f"{name} is not in the reference" for name in names - index]
    if len(names) < 200:
        problems.append("too few declarations found: this is not the header")
    report(f"{len(names)} public declarations are in the reference", problems)


def loose_code(source):
    """Lines of a page that show code other than \\snippet does; shell commands are fine."""
    language, blank = None, True
    for number, line in enumerate(source.read_text().splitlines(), 1):
        fence = re.match(r"\s*(```|~~~)(.*)", line)
        if fence:
            language = fence[2].strip() if language is None else None
            if language not in (None, "sh"):
                yield f"{source}:{number}: fenced code that no test runs"
        elif re.search(r"[\\@](code|verbatim|include|dontinclude)\b|<pre>", line):
            yield f"{source}:{number}: {line.strip()}"
        elif language is None and blank and re.match(r"(    |\t)\S", line):
            yield f"{source}:{number}: indented code"
        blank = not line.strip()


def check_sources():
    sources = sorted(pathlib.Path("docs/site").rglob("*.md"))
    programs = {p.name: p for folder in ("docs/site/snippets", "examples") for p in pathlib.Path(folder).glob("*.*")}
    own = {p.name for p in pathlib.Path("docs/site/snippets").iterdir() if p.suffix in (".c", ".cc", ".py")}
    built = re.findall(r"[a-z_0-9]+\.cc?\b", pathlib.Path("docs/site/snippets/CMakeLists.txt").read_text())
    loose, missing, quoted = [], [], set()
    for source in sources:
        loose += loose_code(source)
        for name, block in re.findall(r"^\\snippet (\S+) (\S+)$", source.read_text(), re.MULTILINE):
            quoted.add(name)
            if name not in programs or programs[name].read_text().count(f"[{block}]") < 2:
                missing.append(f"{source}: no [{block}] in {name}")
    report(f"code in {len(sources)} pages comes from tested programs", loose)
    report(f"{len(quoted)} programs have what pages quote", missing)
    report("every snippet is quoted", [name for name in own - quoted])
    report("every snippet in C or C++ is built", [n for n in own if not n.endswith(".py") and n not in built])


check_links(pathlib.Path(sys.argv[1]).resolve())
check_reference(pathlib.Path(sys.argv[1]).resolve())
check_sources()
sys.exit(failed)
