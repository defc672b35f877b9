"""Servers measured for comparison, on the page: beside the options, never recommended."""

import re
from pathlib import Path

from click.testing import CliRunner

from bench.cli import cli
from bench.errors import PASSED
from bench.run import Run
from reports.page import page
from reports.peers import peers_of
from reports.peers_page import peers_page
from reports.pricing import read_prices
from reports.report import make_report
from tests.browsing import PROBE
from tests.make_runs import make_pair, make_run, records, workload

ADDRESS = "http://127.0.0.1:9999/v2/models/digits"


def make_peer(folder: Path, address: str = ADDRESS) -> Run:
    """A server that was measured by its address."""
    target = {"mode": "url", "address": address}
    given = workload(4.5)
    return make_run(folder, "url", records(400, 60.0), target=target, workload=given, profile=[])


def text_of(html: str) -> str:
    """What a reader sees of it."""
    return re.sub(r"<[^>]+>", "", html).replace("\u00a0", " ")


def test_a_server_stands_beside_the_options_and_is_not_recommended(tmp_path: Path) -> None:
    """Its row has the same figures; the answer is what it is without it."""
    report = make_report(make_pair(tmp_path, workload(4.5)))
    peers = peers_of([make_peer(tmp_path / "url")], read_prices())
    with_it, without = page(report, peers), page(report)
    assert "Beside other servers" not in without
    assert "Beside other servers" in with_it
    assert f'<th scope="row">server at {ADDRESS}</th>' in with_it
    headline = r'class="headline">(.*?)</p>'
    assert re.findall(headline, with_it) == re.findall(headline, without)


def test_servers_alone_have_a_page_of_their_own(tmp_path: Path) -> None:
    """`weighbridge report` writes it; it names their latency and no option."""
    make_peer(tmp_path / "url")
    done = CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert done.exit_code == PASSED, done.output
    found = text_of((tmp_path / "report.html").read_text())
    assert f"Server at {ADDRESS} answered 100 % in time" in found
    assert "compared and never recommended" in found


def test_an_address_with_markup_is_inert(tmp_path: Path) -> None:
    """It is a text on both pages."""
    peers = peers_of([make_peer(tmp_path / "url", PROBE)], read_prices())
    report = make_report(make_pair(tmp_path, workload(4.5)))
    for html in (peers_page(peers), page(report, peers)):
        assert "<script" not in html
        assert "<img" not in html
