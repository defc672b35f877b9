"""What somebody else needs to make a measurement again."""

from collections.abc import Sequence

from bench.run import Run
from reports.words import NOTHING, significant


def again(runs: Sequence[Run]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What is needed to make the measurement of ``runs`` again, of which there is at least one."""
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    tool, model = first.get("tool", {}), first.get("model", {})
    commit = tool.get("git_sha") or "unknown commit"
    changed = ", with local changes" if tool.get("git_dirty") else ""
    machine = {str(key): str(value) for key, value in first.get("machine", {}).items()}
    hardware = [machine.pop(key, "") for key in ("cpu_model", "cpu_count", "kernel")]
    memory = machine.pop("memory_bytes", "")
    busy = first.get("machine", {}).get("load_average") or []
    machine.pop("load_average", None)
    versions = [f"{name} {version}" for name, version in machine.items() if name != "fingerprint"]
    host = f"{hardware[0]}, {hardware[1]} cores, kernel {hardware[2]}"
    if memory.isdigit():
        host += f", {significant(int(memory) / 1e9)} GB"
    if busy:
        host += f", load average {', '.join(f'{each:.1f}' for each in busy)} before the run"
    commands = dict.fromkeys(str(manifest.get("command", "")) for manifest in manifests)
    return (
        ("Command", tuple(commands)),
        ("Seed", (str(first["workload"]["seed"]),)),
        ("Weighbridge", (f"{tool.get('version', 'unknown')} ({commit}{changed})",)),
        ("Machine", (host,)),
        ("Versions", (", ".join(versions) or NOTHING,)),
        ("Model", (str(model.get("name", NOTHING)),)),
        ("Model hash", (f"sha256 {model.get('sha256', NOTHING)}",)),
        ("Folders", tuple(str(run.folder) for run in runs)),
        ("Files", ("manifest.json, requests.parquet, samples.parquet, events.jsonl in each",)),
    )
