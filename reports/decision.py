"""The decision chart: three questions, each answered with a measured value and its threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.workload import Workload
from reports.option import PAYLOAD_LIMIT_BYTES, PROCESSING_LIMIT_S, Option
from reports.words import mode, quantile, seconds, share, size

QUESTIONS = (
    "Must each request return an inference?",
    "Would queueing help, because of long processing or large payloads?",
    "Is traffic sustained, or must latency be low and consistent?",
)
_SOURCE = "AWS developer guide, deploy-model-options"


@dataclass(frozen=True)
class Step:
    """One question of the chart, answered."""

    question: str
    answer: str  # yes or no
    because: str
    evidence: str
    threshold: str
    source: str
    flips_when: str
    leads_to: str | None = None
    """The option the answer leads to; None when it leads to the next question."""


@dataclass(frozen=True)
class Chart:
    """The way through the chart; the last step leads to the answer."""

    steps: tuple[Step, ...]

    @property
    def mode(self) -> str:
        """The option that the chart leads to."""
        return str(self.steps[-1].leads_to)


def walk(workload: Workload, options: Sequence[Option]) -> Chart:
    """The way of ``workload`` through the chart, with what ``options`` measured as evidence."""
    steps: list[Step] = []
    for ask in (_needs_answer, _queueing, _sustained):
        steps.append(ask(workload, options))
        if steps[-1].leads_to:
            break
    return Chart(tuple(steps))


def _needs_answer(workload: Workload, _: Sequence[Option]) -> Step:
    yes = workload.needs_answer
    return Step(
        question=QUESTIONS[0],
        answer="yes" if yes else "no",
        because="A caller waits for each answer." if yes else "Nobody waits for single answers.",
        evidence=f"needs_answer = {str(yes).lower()}",
        threshold="set in the workload",
        source=_SOURCE,
        flips_when=f"needs_answer becomes {str(not yes).lower()}: then "
        + ("a batch transform job needs no endpoint." if yes else "an endpoint is needed."),
        leads_to=None if yes else "batch",
    )


def _queueing(workload: Workload, options: Sequence[Option]) -> Step:
    processing = max((option.summary.model_s.at(0.99) or 0.0 for option in options), default=0.0)
    largest = max((option.largest_payload_bytes for option in options), default=0.0)
    most = PAYLOAD_LIMIT_BYTES["realtime"]
    beyond = processing > PROCESSING_LIMIT_S or largest > most
    yes = beyond and workload.accepts_queueing
    if yes:
        because = "Requests are beyond what a waiting call allows, and callers accept a queue."
    elif beyond:
        because = "Requests are beyond what a waiting call allows, yet callers accept no queue."
    else:
        because = "Requests are short and small: a queue would only add waiting."
    return Step(
        question=QUESTIONS[1],
        answer="yes" if yes else "no",
        because=because,
        evidence=f"processing {quantile(0.99)} {seconds(processing)}, "
        f"largest payload {size(largest)} (measured)",
        threshold=f"{seconds(PROCESSING_LIMIT_S)} of processing; {size(most)} for real-time, "
        f"{size(PAYLOAD_LIMIT_BYTES['serverless'])} for serverless",
        source=_SOURCE,
        flips_when=f"a request takes more than {seconds(PROCESSING_LIMIT_S)} "
        f"or is larger than {size(most)}, and callers accept queueing.",
        leads_to="async" if yes else None,
    )


def _sustained(workload: Workload, options: Sequence[Option]) -> Step:
    # Only the serverless run knows the keep-alive and what a cold start takes.
    known = {option.mode: option for option in options}
    option = known.get("serverless") or options[0]
    traffic, objective = option.summary.traffic, workload.objective
    allowed = 1 - objective.quantile
    sustained = traffic.after_keep_alive <= allowed
    cold_s = option.summary.cold.unhindered_s.at(0.5)
    hurts = cold_s is not None and cold_s > objective.latency_s
    yes = sustained or hurts
    keep, silent = seconds(traffic.keep_alive_s), share(traffic.after_keep_alive)
    shape = "Traffic is sustained" if sustained else "Traffic is intermittent"
    cold = "was not measured" if cold_s is None else f"takes {seconds(cold_s)} at the median"
    so = "too long for the objective" if hurts else "short enough for the objective"
    return Step(
        question=QUESTIONS[2],
        answer="yes" if yes else "no",
        because=f"{shape}; a cold start {cold}{'' if cold_s is None else ', ' + so}.",
        evidence=f"{silent} of requests came after more than {keep} of silence; median silence "
        f"{seconds(traffic.silence_s.at(0.5))}, longest {seconds(traffic.silence_s.max_s)}; "
        f"busy {share(traffic.busy_share)} of the time (measured on the schedule)",
        threshold=f"at most {share(allowed)} of requests after {keep} (assumed keep-alive); "
        f"cold start within {seconds(objective.latency_s)}",
        source="AWS publishes no keep-alive",
        flips_when=_flip(option, sustained, allowed),
        leads_to="realtime" if yes else "serverless",
    )


def _flip(option: Option, sustained: bool, allowed: float) -> str:
    silence_s = option.summary.traffic.bearable_keep_alive_s
    if not silence_s:
        return "the traffic becomes much lighter: now it leaves hardly any silence."
    bearable = seconds(silence_s)
    if sustained:
        return (
            f"environments are dropped after less than {bearable} of silence: then more than "
            f"{share(allowed)} of requests start cold and the traffic counts as intermittent."
        )
    return (
        f"environments survive {bearable} of silence: then {share(allowed)} of requests or fewer "
        f"start cold and the traffic counts as sustained ({mode('realtime')})."
    )
