"""A verification as JUnit XML, the form that CI systems show: a suite a model, a case a check.

The format is the one of Jenkins' and GitLab's readers (testsuites, testsuite, testcase, failure, skipped).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree


def junit_xml(model: str, result: Mapping[str, Any]) -> str:
    """`result` is a Verification's `as_dict()`. A doubt fails the case `sensitivity` of the suite `inputs`."""
    suites = ElementTree.Element("testsuites", name=f"pspnet-convert verify {model}")
    doubts = [("sensitivity", result["doubts"])]
    _suite(suites, f"{model}.inputs", doubts, informative=False)
    for row in result["comparisons"]:
        checks = [(check["name"], check["faults"]) for check in row["checks"]]
        _suite(suites, f"{model}.{row['backend']}", checks, informative=row["informative"])
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(suites: ElementTree.Element, name: str, cases: list[tuple[str, list[str]]], *, informative: bool) -> None:
    failures = 0 if informative else sum(bool(faults) for _, faults in cases)
    suite = ElementTree.SubElement(
        suites, "testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0"
    )
    for check, faults in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=check)
        if faults and informative:
            ElementTree.SubElement(case, "skipped", message=f"informative: {_xml_text(faults[0])}")
        elif faults:
            failure = ElementTree.SubElement(case, "failure", message=_xml_text(faults[0]))
            failure.text = _xml_text("\n".join(faults))


def _xml_text(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write (section 2.2)."""
    return "".join(
        c if c in "\n\t" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "?" for c in text
    )
