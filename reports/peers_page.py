"""The page of a bench that measured only servers for comparison: a table, and no advice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import __version__
from reports.again import again
from reports.markup import environment, style, style_hash, write_whole
from reports.peers import HEAD, Peer
from reports.words import count, quantile, seconds, share


def write_peers_page(peers: Sequence[Peer], path: Path) -> Path:
    """Write the page to ``path``, whole or not at all; where it is now."""
    return write_whole(peers_page(peers), path)


def peers_page(peers: Sequence[Peer]) -> str:
    """The page as HTML; no script, no network, every text escaped."""
    workload = peers[0].run.manifest["workload"]
    objective = workload["objective"]
    valid = all(peer.summary.valid for peer in peers)
    summary = peers[0].summary
    headlines = [_sentence(peer, float(objective["quantile"])) for peer in peers]
    values: dict[str, Any] = {
        "style": style(),
        "style_hash": style_hash(),
        "version": __version__,
        "tab": f"{workload['name']}: {headlines[0].replace('**', '')}",
        "badge": {"kind": "good", "icon": "✓", "text": "Valid measurement"}
        if valid
        else {"kind": "bad", "icon": "▲", "text": "Invalid measurement"},
        "title": workload["title"],
        "facts": f"{count(summary.sent)} requests over {seconds(summary.simulated_s)}.",
        "eyebrow": "Compared on latency",
        "headlines": headlines,
        "because": [
            "Such a server is compared and never recommended: it is none of SageMaker's options. "
            "Measure options under the same traffic with --modes."
        ],
        "cares": [(peer.name, doubt.text) for peer in peers for doubt in peer.summary.doubts],
        "head": HEAD,
        "rows": [peer.cells for peer in peers],
        "objective": f"{share(objective['quantile'])} within {seconds(objective['latency_s'])}",
        "enforced": [],
        "again": again([peer.run for peer in peers]),
    }
    return environment().get_template("peers.html.j2").render(values)


def _sentence(peer: Peer, q: float) -> str:
    summary = peer.summary
    name = peer.name[:1].upper() + peer.name[1:]
    # Two asterisks in an address would be read as a mark.
    name = name.replace("**", "* *")
    return (
        f"**{name}** answered {share(summary.within.share)} in time: p50 "
        f"{seconds(summary.latency_s.at(0.5))}, {quantile(q)} "
        f"{seconds(summary.within.quantile_s)}."
    )
