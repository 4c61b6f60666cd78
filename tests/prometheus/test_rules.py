"""The alert rules, the dashboard and the examples that are shipped, as promtool reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.promtool import promtool
from tests.support.shipped_monitoring import (
    CONFIG,
    DASHBOARD,
    PROMETHEUS,
    alerts,
    as_grafana_asks,
    dashboard_expressions,
    expression,
    panels,
)

RUNBOOK = (PROMETHEUS / "RUNBOOK.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", (PROMETHEUS / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_promtool_takes_the_rules() -> None:
    assert promtool("check", "rules", "--lint=all", "--lint-fatal", PROMETHEUS / "alerts.yml") == ""


def test_the_rules_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", PROMETHEUS / "alerts.test.yml")


def test_every_rule_has_a_test_that_sees_it_quiet_and_firing() -> None:
    cases = (PROMETHEUS / "alerts.test.yml").read_text().split("  - name: ")[1:]
    tested = {case.partition("\n")[0]: case for case in cases}
    assert list(tested) == list(alerts())
    for name, case in tested.items():
        assert f"alertname: {name}, eval_time: " in case, f"{name} is never seen quiet"
        assert "exp_labels: {severity: " in case, f"{name} never fires"


@pytest.mark.parametrize("name", alerts())
def test_every_rule_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = alerts()[name]
    assert re.search(r"labels: \{severity: (page|ticket)\}$", rule, re.MULTILINE)
    assert f"runbook_url: RUNBOOK.md#{name.lower()}\n" in rule
    assert re.search(r"^ +summary: .", rule, re.MULTILINE)
    assert expression(rule).strip()


def test_the_runbook_has_a_section_for_each_rule_and_for_no_other() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == list(alerts())
    for section in RUNBOOK.split("\n## ")[1:]:
        assert "```console" in section, section.partition("\n")[0]


def test_promtool_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:expression:{number}", "expr": as_grafana_asks(text)}
        for number, text in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", file)
    assert len(rules) > 50


def test_the_dashboard_can_be_imported_as_it_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert "__inputs" not in dashboard, "it would ask for a data source"
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names == ["datasource", "queue", "instance"]
    used = {"".join(found) for found in re.findall(r"\$\{(\w+)\}|\$(?!__)(\w+)", DASHBOARD.read_text())}
    assert used == set(names)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        own = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_promtool_takes_the_examples_of_the_readme(snippet: str, tmp_path: Path) -> None:
    (tmp_path / "skycap").mkdir()
    (tmp_path / "skycap" / "token").write_text("a token")
    (tmp_path / "skycap" / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    file = tmp_path / "prometheus.yml"
    file.write_text(snippet.replace("/etc/prometheus/", f"{tmp_path}/"))
    assert promtool("check", "config", file) == ""
    assert "job_name: skycap\n" in snippet


def test_the_readme_names_every_file() -> None:
    text = (PROMETHEUS / "README.md").read_text()
    named = set(re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE))
    there = {file.name for file in PROMETHEUS.iterdir()} - {"README.md"}
    assert named == there | {"../grafana/skycap.json"}
    assert (CONFIG / "grafana" / "skycap.json").exists()
    assert f"| `alerts.yml` | {len(alerts())} alert rules |" in text
