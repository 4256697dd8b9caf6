"""The install kit: what an admin deploys, the mapping and the code name the same fields."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest

from pipesync._paths import shipped
from pipesync.adapters import open_adapter
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.writing import ENTITY, FIELDS, KEY
from pipesync.config import from_text
from pipesync.mapping import load
from pipesync.sandbox.salesforce.objects import OBJECTS

KIT = shipped("adapters") / "salesforce"
SOURCE = KIT / "force-app" / "main" / "default"
NAMESPACE = "{http://soap.sforce.com/2006/04/metadata}"
SUFFIXES = {
    "fields": ("field", "CustomField"),
    "listViews": ("listView", "ListView"),
    "permissionsets": ("permissionset", "PermissionSet"),
    "reportTypes": ("reportType", "ReportType"),
}
OURS = {"Pipesync_Forecast__c", "Pipesync_Finding__c"}
SETS = sorted((SOURCE / "permissionsets").iterdir())


def root(file: Path) -> ElementTree.Element:
    return ElementTree.parse(file).getroot()  # noqa: S314  # our own files


def texts(element: ElementTree.Element, path: str) -> list[str]:
    return [str(e.text) for e in element.findall("/".join(NAMESPACE + step for step in path.split("/")))]


def deployed(name: str) -> dict[str, ElementTree.Element]:
    """Return an object's fields in the kit; those of tasks are the activity's."""
    folder = SOURCE / "objects" / ("Activity" if name == "Task" else name) / "fields"
    return {f.name.split(".")[0]: root(f) for f in folder.glob("*.xml")}


def granted(file: Path, permission: str = "readable") -> set[str]:
    found = root(file).findall(f"{NAMESPACE}fieldPermissions")
    return {texts(p, "field")[0] for p in found if texts(p, permission) == ["true"]}


def test_every_file_has_the_name_and_root_of_its_kind() -> None:
    """Salesforce finds components by folder and suffix, and a field by its `fullName`."""
    for file in SOURCE.rglob("*.xml"):
        element = root(file)
        suffix, tag = SUFFIXES.get(file.parent.name, ("object", "CustomObject"))

        assert file.name.endswith(f".{suffix}-meta.xml"), file
        assert element.tag == NAMESPACE + tag, file
        assert texts(element, "fullName") in ([], [file.name.split(".")[0]]), file


def test_the_project_names_its_folder_and_a_version_that_lives() -> None:
    """It is the version that the adapter speaks, so that both know the same fields."""
    project = json.loads((KIT / "sfdx-project.json").read_text())

    assert (KIT / project["packageDirectories"][0]["path"]).is_dir()
    assert project["sourceApiVersion"] == Options(url="https://acme.my.salesforce.com").api_version


def test_nothing_of_the_customers_is_deployed() -> None:
    """All components carry our name; standard objects get fields and list views, no definition."""
    for file in (f for f in SOURCE.rglob("*.xml") if not OURS & set(f.parts)):
        assert file.name.startswith("Pipesync_"), file

    assert {f.parent.name for f in SOURCE.rglob("*.object-meta.xml")} == OURS


@pytest.mark.parametrize("entity", sorted(ENTITY))
def test_what_the_code_writes_is_deployed(entity: str) -> None:
    """Each custom field exists in the kit, and the kit has no other."""
    written = {f for f in FIELDS[entity].values() if f.endswith("__c")} | (
        {KEY} if entity != "opportunity" else set()
    )

    assert set(deployed(ENTITY[entity])) == written


@pytest.mark.parametrize("entity", sorted(ENTITY))
def test_the_sandbox_has_the_fields_as_they_are_deployed(entity: str) -> None:
    """Same lengths, and the same external ids; a rehearsal meets what the org will say."""
    name = ENTITY[entity]
    for field, element in deployed(name).items():
        said = OBJECTS[name].fields[field]

        assert said.is_external_id == (texts(element, "externalId") == ["true"]), field
        if texts(element, "type") == ["Text"] and said.length:
            assert texts(element, "length") == [str(said.length)], field


@pytest.mark.parametrize("file", SETS, ids=lambda f: f.name.split(".")[0])
def test_permission_sets_name_fields_that_exist(file: Path) -> None:
    """A field that does not exist fails the whole deployment."""
    for said in granted(file):
        name, _, field = said.partition(".")

        known = deployed(name) if field.endswith("__c") else OBJECTS[name].fields
        assert field in known or said == "Account.BillingAddress", said  # stands for its parts


@pytest.mark.parametrize("file", SETS, ids=lambda f: f.name.split(".")[0])
def test_no_permission_set_reaches_further_than_it_says(file: Path) -> None:
    """Nobody may modify all of anything; only our own fields and a task's text can be edited."""
    element = root(file)

    assert set(texts(element, "objectPermissions/modifyAllRecords")) == {"false"}
    assert not {"ViewAllData", "ModifyAllData"} & set(texts(element, "userPermissions/name"))
    editable = granted(file, "editable")
    assert {f for f in editable if not f.endswith("__c")} <= {"Task.Description"}
    assert bool(editable) == (
        file.name.split(".")[0] in ("Pipesync_Integration", "Pipesync_Opportunity_Fields")
    )


def test_the_integration_user_may_write_what_the_code_writes() -> None:
    """Tasks and forecasts with one permission set, opportunities with the other."""
    main = granted(SOURCE / "permissionsets/Pipesync_Integration.permissionset-meta.xml", "editable")
    other = granted(SOURCE / "permissionsets/Pipesync_Opportunity_Fields.permissionset-meta.xml", "editable")

    for entity in ("task", "forecast", "finding"):
        assert {f"{ENTITY[entity]}.{f}" for f in deployed(ENTITY[entity])} <= main
    assert {f"Opportunity.{f}" for f in deployed("Opportunity")} == other


def test_the_integration_user_may_read_every_object_that_is_mapped() -> None:
    """Users, stages, currencies and what belongs to an opportunity need no permission of their own."""
    element = root(SOURCE / "permissionsets/Pipesync_Read_Only.permissionset-meta.xml")
    implied = {"User", "Event", "OpportunityContactRole", "OpportunityLineItem", "CurrencyType"}
    implied.add("ForecastingQuota")  # comes with View All Forecasts, which is not ours to give

    mapped = {s.source for s in load(KIT / "mapping.yaml").streams.values()}
    assert mapped - implied <= set(texts(element, "objectPermissions/object"))


def test_the_readmes_connection_can_be_used(tmp_path: Path) -> None:
    """As it stands there, in the folder that it makes; and its table tells the options' own defaults."""
    text = (KIT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^    connections:\n(?:      .*\n)+", text, re.MULTILINE)
    assert block
    config = from_text(f"version: 1\n{dedent(block[0])}", tmp_path)

    open_adapter("salesforce", config.connections["salesforce"], tmp_path).close()

    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|`]+) \|", text, re.MULTILINE))
    given = {
        "look_back": timedelta(minutes=10),
        "sweep": timedelta(days=7),
        "daily_share": 0.2,
        "timeout": 60,
    }
    assert {"look_back": "10m", "sweep": "7d", "daily_share": "0.2", "timeout": "60"}.items() <= rows.items()
    assert {name: Options.model_fields[name].default for name in given} == given
    assert Options.model_fields["bulk_from"].default == Options.model_fields["bulk_page"].default == 10_000
    assert "| `bulk_from`, `bulk_page` | 10,000, 10,000 |" in text


def test_the_readme_names_each_permission_set() -> None:
    """And no other."""
    text = (KIT / "README.md").read_text()

    for file in SETS:
        assert file.name.split(".")[0] in text


_CONVERT = """
import { ComponentSet, MetadataConverter } from '@salesforce/source-deploy-retrieve';
const set = ComponentSet.fromSource(process.argv[2]);
const where = { type: 'directory', outputDirectory: process.argv[3], genUniqueDir: false };
await new MetadataConverter().convert(set, 'metadata', where);
"""


def test_salesforces_own_library_converts_the_project(tmp_path: Path) -> None:
    """Every file of the kit arrives in the package that a deployment sends, and nothing else does.

    `SALESFORCE_SDR` names a folder in which `npm install @salesforce/source-deploy-retrieve` was done.
    """
    modules = Path(os.environ.get("SALESFORCE_SDR", "")) / "node_modules"
    node = shutil.which("node")
    if node is None or not (modules / "@salesforce" / "source-deploy-retrieve").is_dir():
        pytest.skip(
            "SALESFORCE_SDR names no folder with @salesforce/source-deploy-retrieve, or there is no node"
        )
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "convert.mjs").write_text(_CONVERT)

    out = tmp_path / "out"
    command = [node, str(tmp_path / "convert.mjs"), str(KIT / "force-app"), str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)

    listed = {m.text for m in root(out / "package.xml").iter(f"{NAMESPACE}members")}
    fields = {f.name.split(".")[0] for f in SOURCE.rglob("*.field-meta.xml")}
    converted = [root(f) for f in (out / "objects").iterdir()]
    assert {n for e in converted for n in texts(e, "fields/fullName")} == fields
    assert {f.name.split(".")[0] for f in SETS} | OURS <= listed
    assert {n for e in converted for n in texts(e, "listViews/fullName")} == {
        f.name.split(".")[0] for f in SOURCE.rglob("*.listView-meta.xml")
    }
