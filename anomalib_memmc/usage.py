"""The one line that matters in jsonargparse's report on a wrong key or value."""

import re

_HEADINGS = re.compile(r"Does not validate against any of|Subtypes: |Errors:$|Given value type: |Given value: ")
_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":?\s*(?P<rest>.*)')
_CLASS = re.compile(r"Problem with given class_path '(?P<path>[^']+)':")
_OPTION = re.compile(r"Option '(?P<key>[^']+)' is not accepted$")
_LINKED = re.compile(r"argument (?P<source>\S+) --> (?P<key>\S+): ")
_NO_YAML = "Problems parsing config:"
_NOTHING = "Expected a <class 'NoneType'>"


def main_line(report: str) -> str:
    """Find what is wrong in a report that lists every type which a value is not of.

    Where a value may be null or an object, jsonargparse reports that it is not null, and within that what is wrong
    with the object. What stands deepest is what matters; the keys and classes around it say where it is.

    Args:
        report: The message of an ``ArgumentError``.

    Returns:
        One line, such as ``model.init_args.encoder_depth: expected int. Got value: two``; the report itself on one
        line where it is in no known form.
    """
    if report.startswith(_NO_YAML):
        where = re.sub(r'in "<unicode string>",', "at", report.removeprefix(_NO_YAML))
        return f"the configuration is not valid YAML: {' '.join(where.split())}"
    if match := _LINKED.match(report):
        return f"{match['key']} is set by {match['source']}: give --{match['source']} instead"
    around: list[tuple[int, str, str]] = []  # depth, and a key or a class
    found: list[tuple[int, str, str]] = []  # depth, where, and what is wrong there
    for line in filter(str.strip, report.splitlines()):
        text = line.lstrip(" ")
        depth = len(line) - len(text)
        if text.startswith("- "):
            text, depth = text[2:], depth + 2
        around = [outer for outer in around if outer[0] < depth]
        if match := _KEY.match(text):
            around.append((depth, "key", match["key"]))
            text = match["rest"]
        elif match := _CLASS.match(text):
            around.append((depth, "class", match["path"]))
            continue
        if text and text != _NOTHING and not _HEADINGS.match(text):
            found.append((depth, _place(around, is_key=bool(_OPTION.match(text))), text))
    if not found:
        return " ".join(report.split())
    deepest = max(found, key=lambda each: each[0])
    reasons = [text for depth, place, text in found if (depth, place) == deepest[:2]]
    return _sentence(deepest[1], list(dict.fromkeys(reasons)), _given(report))


def _place(around: list[tuple[int, str, str]], is_key: bool) -> str:
    """The dotted key that the keys and classes around a line make."""
    parts: list[str] = []
    for index, (_, kind, name) in enumerate(around):
        if kind == "key":
            parts.append(name)
        elif is_key or index + 1 < len(around):  # its arguments, not the class itself, are wrong
            parts.append("init_args")
    return ".".join(parts)


def _sentence(place: str, reasons: list[str], given: str) -> str:
    """Where, and what is wrong there."""
    text = re.sub(r"<class '([^']+)'>", r"\1", " or ".join(reasons)).replace("Expected a ", "expected ")
    text = re.sub(r"typing\.Literal\[([^\]]+)\]", r"one of \1", text)
    if match := _OPTION.match(text):
        where = f" in {place}" if place else ""
        return f"there is no key {match['key']}{where}: correct its name, or take it out"
    got = f". Got value: {given}" if given and "Got value" not in text and given not in text else ""
    sentence = f"{text.rstrip('.')}{got}"
    return f"{place}: {sentence}" if place else sentence


def _given(report: str) -> str:
    """The value that was given, where the report has it as it was written."""
    match = re.search(r"^ *Given value: (.*)", report, re.MULTILINE)
    value = match[1] if match else ""
    if value.startswith("Namespace("):  # all of an object's arguments, also those that nobody gave
        return ""
    nested = re.match(r"NestedArg\(key='[^']*', val='(.*)'\)$", value)
    return nested[1] if nested else value
