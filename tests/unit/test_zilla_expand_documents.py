"""The documents that asyncapi and openapi bindings name: where they are, and how their parts refer to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafkaproxy.zilla.importer.importing import Options, plan_file, plan_text
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_apis import COMPOSITES, PETS
from tests.support.zilla_samples import edited, line_of, planned, refused, refused_at

_KEEPERS = "          security:\n            keepers: keeper\n"


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("#/channels/nowhere", "'nowhere' is missing. Known here: answers, asked, pets."),
        ("#/channels/pets/messages/0/deeper", "'0' is missing"),
        ("./other.yaml#/channels/pets", "is in another document"),
        ("https://example.com/api.yaml", "is in another document"),
        ("#/channels/asked", "leads in a circle"),
    ],
)
def test_references_lead_somewhere(ref: str, says: str) -> None:
    text = edited(PETS, ('                  $ref: "#/channels/asked"\n', f'                  $ref: "{ref}"\n'))
    if "circle" in says:
        text = edited(text, ("                address: asked\n", '                $ref: "#/channels/asked"\n'))
        errors = refused(text)
        assert all(says in error for error in errors)
        assert errors[0].startswith(f"zilla.yaml:{line_of(text, '                $ref: ')}: ")
    else:
        with_ask = edited(text, ("operationId: listPets", "operationId: ask"))
        assert says in refused_at(with_ask, ref)


def test_nothing_hides_beside_a_reference() -> None:
    text = edited(
        PETS,
        (
            '                  $ref: "#/channels/asked"\n',
            ('                  $ref: "#/channels/asked"\n                  address: other\n'),
        ),
        ("operationId: listPets", "operationId: ask"),
    )
    assert "'address' stands beside $ref" in refused_at(text, "address: other")


def test_a_circle_of_references_through_parts_ends() -> None:
    text = edited(
        PETS,
        (
            "            channels:\n",
            (
                '            channels:\n              a:\n                $ref: "#/channels/b/x"\n'
                '              b:\n                $ref: "#/channels/a/y"\n'
            ),
        ),
    )
    assert all("leads in a circle" in error for error in refused(text))


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        (
            "catalog: {own: {subject: api}}\n          security",
            "catalog: {onw: {subject: api}}\n          security",
            "onw",
            "There is no catalog 'onw'. Did you mean 'own'?",
        ),
        (
            "catalog: {own: {subject: api}}\n          security",
            "catalog: {own: {subject: apy}}\n          security",
            "apy",
            "has no subject 'apy'. Did you mean 'api'?",
        ),
        (
            "catalog: {own: {subject: api}}\n          security",
            "catalog: {own: {}}\n          security",
            "own: {}",
            "a subject",
        ),
        (
            "catalog: {own: {subject: api}}\n          security",
            "catalog: {own: {subject: api, version: '2'}}\n          security",
            "version: '2'",
            "has no version '2'",
        ),
        ("    type: inline\n", "    type: apicurio\n", "  own:", "A catalog of type 'apicurio' is not read"),
        (
            "          schema: |\n            openapi",
            "          schemas: |\n            openapi",
            "api:\n          schemas",
            "",
        ),
        (
            "            openapi: 3.0.3\n",
            "            openapi: 3.0.3\n            openapi: 3.0.3\n",
            "            openapi: 3.0.3\n            paths",
            "stands twice",
        ),
        (
            "            openapi: 3.0.3\n",
            "            openapi: 3.0.3\n            ---\n            a: b\n",
            "            openapi",
            "This is not one specification",
        ),
        (_KEEPERS, _KEEPERS + "          overlay: {own: {subject: a}}\n", "overlay:", "Apply the overlay"),
    ],
)
def test_documents_are_where_the_catalog_says(old: str, new: str, part: str, says: str) -> None:
    text = edited(PETS, (old, new))
    errors = refused(text)
    assert any(says in error for error in errors)
    if says:
        assert [error for error in errors if error.startswith(f"zilla.yaml:{line_of(text, part)}: ")], errors


def test_files_are_read_only_where_there_is_a_folder() -> None:
    text = (COMPOSITES / "openapi" / "zilla.yaml").read_text()
    _, report = plan_text(text, "pasted.yaml", Options())
    errors = [str(each) for each in report.of(Verdict.REFUSED)]
    assert errors[0].startswith(f"pasted.yaml:{line_of(text, 'path: specs/api.yaml')}: ")
    assert "Put the text of the specification into a catalog of type inline. Or use manage.py importzilla." in errors[0]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (None, 0, "The file cannot be read: No such file or directory."),
        ("openapi: 3.1.0\nservers: [\n", 3, "This is not YAML"),
        ("openapi: 3.1.0\ninfo: 1\ninfo: 2\n", 3, "'info' stands twice"),
        ("- a\n", 1, "This is not one specification"),
        ("openapi: 4.0.0\n", 1, "OpenAPI 3.0 and 3.1"),
        (
            "openapi: 3.1.0\npaths:\n  /a:\n    get: {operationId: listItems, security: [{x: []}]}\n",
            4,
            "no security scheme 'x'",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /${{env.A}}:\n    get: {operationId: listItems}\n",
            3,
            "expressions belong to the zilla.yaml",
        ),
    ],
)
def test_errors_in_a_file_name_it_and_its_line(tmp_path: Path, content: str | None, line: int, says: str) -> None:
    for part in ("zilla.yaml", "specs/kafka.yaml"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text((COMPOSITES / "openapi" / part).read_text())
    if content is not None:
        (tmp_path / "specs/api.yaml").write_text(content)
    plan, report = plan_file(tmp_path / "zilla.yaml", Options())
    errors = [str(each) for each in report.of(Verdict.REFUSED)]
    assert plan.gateways == ()
    place = f"specs/api.yaml:{line}: " if line else "zilla.yaml:9: specs/api.yaml: "
    assert any(error.startswith(place) and says in error for error in errors), errors


def test_a_path_from_the_environment_has_to_be_known(tmp_path: Path) -> None:
    for part in ("specs/api.yaml", "specs/kafka.yaml"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text((COMPOSITES / "openapi" / part).read_text())
    text = (COMPOSITES / "openapi" / "zilla.yaml").read_text().replace("path: specs/api.yaml", "path: ${{env.API}}")
    _, unknown = plan_text(text, "zilla.yaml", Options(), tmp_path)
    assert "Give it with --env." in str(unknown.of(Verdict.REFUSED)[0])
    _, known = plan_text(text, "zilla.yaml", Options(environ={"API": "specs/api.yaml"}), tmp_path)
    assert known.of(Verdict.REFUSED) == []


def test_a_document_may_be_json_in_quotes_with_all_of_it_on_one_line() -> None:
    start = PETS.index("          schema: |\n            openapi")
    end = PETS.index("        kafka:\n          schema")
    quoted = """          schema: '{"openapi": "3.0.3", "paths": {"/pets": {"get": {"operationId": "listPets"}}}}'\n"""
    text = PETS[:start] + quoted + PETS[end:]
    plan, _ = planned(text)
    assert [str(route.place) for route in plan.gateways[0].entries[0].routes] == [f"zilla.yaml:{line_of(text, 'schema: ')}"]
    assert "Did you mean 'security'?" in refused_at(text.replace('"get": {', '"get": {"secure": 1, '), "schema: ")
