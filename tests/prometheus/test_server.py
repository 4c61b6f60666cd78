"""A real Prometheus with the shipped rules, scraping a real daemon as the README says, with a token."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.daemons import Site, skycap
from tests.support.prometheus_server import prometheus
from tests.support.shipped_monitoring import PROMETHEUS, alerts, as_grafana_asks, dashboard_expressions
from tests.support.workers import eventually


async def test_prometheus_reads_a_daemon_with_a_token_and_the_rules_and_the_dashboard_work_there(
    redis_url: str, tmp_path: Path
) -> None:
    tokens, folder = tmp_path / "tokens.toml", tmp_path / "skycap"
    folder.mkdir()
    made = await skycap("tokens", "new", "prometheus", "--scope", "read", "--file", tokens)
    (folder / "token").write_text(made.out)
    (folder / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    # Only with an address that others reach does it take a token.
    extra = {"http": {"bind": "0.0.0.0:0", "tokens_file": str(tokens)}}
    async with Site(folder=tmp_path, redis_url=redis_url, extra=extra).daemon() as daemon:
        target = f"127.0.0.1:{daemon.http_url.rpartition(':')[2]}"
        config = tmp_path / "prometheus.yml"
        config.write_text(_example(target).replace("/etc/prometheus/", f"{tmp_path}/"))
        async with prometheus(config, tmp_path) as server:

            async def is_scraped() -> bool:
                return await server.value('up{job="skycap"}') == 1

            await eventually(is_scraped)
            consumers = await server.value('skycap_queue_consumers{queue="email"}')
            assert consumers is not None
            groups = (await server.ask("rules"))["groups"]
            assert [rule["name"] for group in groups for rule in group["rules"]] == list(alerts())
            for text in dashboard_expressions():
                await server.ask("query", query=as_grafana_asks(text))
            (target_now,) = (await server.ask("targets"))["activeTargets"]
    assert target_now["lastError"] == ""
    assert made.out.strip() not in (tmp_path / "daemon.log").read_text()


def _example(target: str) -> str:
    """The README's for another host; the daemon itself speaks no TLS, which is the proxy's."""
    text = (PROMETHEUS / "README.md").read_text()
    (example,) = re.findall(r"^```yaml\n([^`]*credentials_file[^`]*)^```$", text, re.MULTILINE)
    assert "scrape_interval: 15s" in example
    ours = example.replace("scheme: https", "scheme: http").replace("scrape_interval: 15s", "scrape_interval: 1s")
    return re.sub(r"targets: \[.*\]", f'targets: ["{target}"]', ours) + "global: {scrape_timeout: 1s}\n"
