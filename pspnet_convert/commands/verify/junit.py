"""A verification as JUnit XML, for CI systems: one suite for each model, one case for each check.

It uses the elements that Jenkins and GitLab read: testsuites, testsuite, testcase, failure, skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pspnet_convert.files import write_text

if TYPE_CHECKING:
    from pspnet_convert.manifest_fields import VerifyResult


def junit_xml(model: str, result: VerifyResult) -> str:
    """The XML of a verification of `model`. The suite `inputs` has the case `sensitivity`, which a doubt fails, and
    `preprocessing`."""
    suites = ElementTree.Element("testsuites", name=f"pspnet-convert verify {model}")
    inputs = [("sensitivity", result.doubts)]
    if result.preprocessing is not None:
        inputs.append((result.preprocessing.name, result.preprocessing.faults))
    _suite(suites, f"{model}.inputs", inputs, report_only=False)
    for row in result.comparisons:
        why = [row.explanation.words] if row.explanation else []
        checks = [(check.name, [*check.faults, *why] if check.faults else []) for check in row.checks]
        _suite(suites, f"{model}.{row.backend}", checks, report_only=row.report_only)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
    return "".join(character if _is_xml(character) else "?" for character in text)


def _suite(suites: ElementTree.Element, name: str, cases: list[tuple[str, list[str]]], *, report_only: bool) -> None:
    faulty = str(sum(bool(faults) for _, faults in cases))
    failures, skipped = ("0", faulty) if report_only else (faulty, "0")
    counts = {"tests": str(len(cases)), "failures": failures, "errors": "0", "skipped": skipped}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts})
    for check, faults in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=check)
        if faults and report_only:
            ElementTree.SubElement(case, "skipped", message=f"report only: {faults[0]}")
        elif faults:
            failure = ElementTree.SubElement(case, "failure", message=faults[0])
            failure.text = "\n".join(faults)


def _is_xml(character: str) -> bool:
    """Whether XML 1.0 allows the character (section 2.2)."""
    return (
        character in "\n\t" or " " <= character <= "\ud7ff" or "\ue000" <= character <= "\ufffd" or character > "\uffff"
    )


def write_junit(path: Path, model: str, result: VerifyResult) -> None:
    """Write a verification of `model` to `path`; WorkspaceError where that cannot be written."""
    write_text(path, junit_xml(model, result))
