from __future__ import annotations

from gateway.contract import tags as contract
from gateway.contract.events import Step
from gateway.contract.names import TAGS_HEADER
from gateway.contract.snapshot import Key, Project
from gateway.contract.tags import Finding
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.served import Served

MOST_NAMED = 6
"""Of the values that a tag may have, in a refusal."""


def tags(call: Call) -> str:
    """What the caller did not say is completed from its key and project; a tag that must be there and is not is noted or refused."""
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    sent = call.tags
    call.tags, findings = judge(served, key, call.project, call.agent, sent)
    if added := [name for name, value in call.tags.items() if sent.get(name) != value]:
        call.steps.append(Step(contract.COMPLETED_STEP, "pass", 0, " ".join(added)))
    if findings:
        lacking = [finding for finding in findings if finding.found != "ok"]
        refusing = [finding for finding in lacking if finding.refuses(call.started_at)]
        verdict = "refused" if refusing else "would_refuse" if lacking else "pass"
        call.steps.append(Step(contract.STEP, verdict, 0, contract.detail(findings)))
        if refusing:
            raise _refusal(refusing, key)
    return ""


def judge(
    served: Served, key: Key, project: Project | None, agent: str | None, sent: dict[str, str]
) -> tuple[dict[str, str], list[Finding]]:
    """The call's tags, completed, and what is found of each that it must carry."""
    tags = contract.completed(sent, key.tags, project.tags if project else {})
    if not served.required_tags:
        return tags, []
    facts = {
        "environment": project.environment if project else "",
        "cost_centre": project.cost_centre if project else "",
        "project": key.project,
        "owner": key.owner,
        "agent": agent,
    }
    return tags, served.required_tags.judge(tags, facts)


def _refusal(refusing: list[Finding], key: Key) -> Refusal:
    first = refusing[0]
    said = [_said(finding) for finding in refusing]
    wanted = ", ".join(f"{finding.required.name}=…" for finding in refusing)
    message = (
        f"Calls of the project {key.project} must carry tags: {'; '.join(said)}. "
        f"Send the header `{TAGS_HEADER}: {wanted}`, or have a default set on the key {key.id} or the project."
    )
    return Refusal("tag_required", message, param=TAGS_HEADER, scope=f"tag:{first.required.name}")


def _said(finding: Finding) -> str:
    name, values = finding.required.name, finding.required.values
    said = f"`{name}` is missing" if finding.found == "missing" else f"`{name}` may not be `{finding.value}`"
    if values:
        more = " or others" if len(values) > MOST_NAMED else ""
        said += f" (it may be {', '.join(f'`{value}`' for value in values[:MOST_NAMED])}{more})"
    return said
