"""Policies: what a call must satisfy, written in CEL over attributes of the call.

The plane, the linter of the portal and the replay over past calls share this one implementation. A policy covers the calls
for which `when` is true; of those it allows the ones for which `require` is true. What cannot be evaluated is denied:
missing data is never a pass.

CEL: https://github.com/google/cel-spec. Evaluation is linear in the length of the expression, so the length is bounded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))  # else the library loads its command line, nearly 400 modules and 24 MB

import cel  # noqa: E402

from gateway.contract.snapshot import Policy  # noqa: E402

MAX_EXPRESSION_CHARACTERS = 2000
Verdict = Literal["pass", "policy_denied", "would_deny", "policy_error", "would_error"]

ATTRIBUTES: dict[str, dict[str, tuple[Any, str]]] = {
    "caller": {
        "key": ("4tq2", "the key's id"),
        "owner": ("bob@acme.example", "the e-mail of the key's owner"),
        "project": ("checkout", "the project's short name"),
        "environment": ("production", "the project's environment"),
        "cost_centre": ("4711", "the project's cost centre"),
        "agent": ("cart-helper", "the agent that the caller named, or an empty text"),
    },
    "call": {
        "kind": ("chat", "chat, embeddings or tool"),
    },
    "model": {
        "name": ("helper", "the model's short name; empty for a tool"),
        "feature_class": ("assistants", "the consent that it needs"),
        "sensitivity": ("internal", "the most sensitive data it may get: public, internal, confidential or restricted"),
        "environment": ("production", "the model's environment"),
    },
    "tool": {
        "server": ("staff", "the tool server's namespace; empty for a model"),
        "name": ("current_time", "the tool's name on its server"),
    },
    "egress": {
        "provider": ("openai", "the provider that would be called; empty for a tool"),
        "region": ("eu-west", "the provider's region"),
        "host": ("api.openai.com", "the host that would be called"),
    },
    "time": {
        "hour": (14, "0 to 23, in the organisation's time zone"),
        "weekday": (3, "1 for Monday to 7 for Sunday"),
    },
}
"""Every attribute with an example and what it is. `tags` is beside them: a map of the tags that the caller sent, and of those that the gateway sets itself."""

_PATH = re.compile(r"\b(" + "|".join(ATTRIBUTES) + r")\s*\.\s*([A-Za-z_]\w*)")
_TAG = re.compile(r"""\btags(?:\s*\.\s*([A-Za-z_]\w*)|\s*\[\s*["']([^"']+)["']\s*\])""")
_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")


class PolicyError(ValueError):
    """An expression that cannot be used; the message is fit for its author."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one policy says of one call, or of one deployment that could serve it."""

    policy: str
    """`<namespace>.<name>@<version>`."""
    verdict: Verdict
    reason: str
    """Said to the caller when refused."""
    attributes: str
    """The attributes that the policy looks at with their values, for the record."""

    @property
    def refuses(self) -> bool:
        return self.verdict in ("policy_denied", "policy_error")


def sample() -> dict[str, Any]:
    """A context with every attribute at its example."""
    return {root: {name: example for name, (example, _) in names.items()} for root, names in ATTRIBUTES.items()} | {
        "tags": {"team": "cart"}
    }


def lint(expression: str) -> None:
    """PolicyError when an expression does not parse, names what is not there, or is not true or false."""
    text = expression.strip()
    if not text:
        raise PolicyError("The expression is empty. Write `true` for every call.")
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise PolicyError(f"The expression is longer than {MAX_EXPRESSION_CHARACTERS:,} characters.")
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise PolicyError(_parse_message(str(error))) from error
    for root, name in _PATH.findall(_QUOTED.sub('""', text)):
        if name not in ATTRIBUTES[root]:
            raise PolicyError(f"There is no {root}.{name}. {root} has {', '.join(ATTRIBUTES[root])}.")
    if not program.variables() and text not in ("true", "false"):
        raise PolicyError("The expression looks at no attribute of the call.")
    try:
        found = program.execute(sample())
    except KeyError:  # a tag that the sample has not: `"team" in tags && tags.team == …` is the safe form
        raise PolicyError('A tag may be missing. Ask first: `"team" in tags && tags["team"] == "cart"`.') from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise PolicyError(_run_message(str(error))) from error
    if not isinstance(found, bool):
        raise PolicyError("The expression must be true or false.")


def _parse_message(text: str) -> str:
    found = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", text)
    return f"Line {found[1]}, character {found[2]}: {found[3]}" if found else "The expression cannot be read."


def _run_message(text: str) -> str:
    found = re.search(r"Undefined variable or function: '([^']+)'", text)
    if found:
        return f"There is no attribute or function named {found[1]}. There are {', '.join(ATTRIBUTES)} and tags."
    return text.partition(". CEL does not")[0][:300]


class _Compiled:
    __slots__ = ("enforced", "name", "paths", "policy", "reason", "require", "tags", "uses_egress", "when")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.name = f"{policy.name}@{policy.version}"
        self.enforced = policy.enforce
        self.reason = policy.reason or f"The policy {policy.name} does not allow it."
        self.when = cel.compile(policy.when)
        self.require = cel.compile(policy.require)
        both = _QUOTED.sub(r"\1", f"{policy.when} {policy.require}")
        self.paths = tuple(dict.fromkeys(_PATH.findall(both)))
        self.tags = tuple(dict.fromkeys(first or second for first, second in _TAG.findall(both)))
        self.uses_egress = any(root == "egress" for root, _ in self.paths)

    def decide(self, context: dict[str, Any]) -> Decision | None:
        """None when the policy does not cover the call."""
        try:
            covers = self.when.execute(context)
            allows = self.require.execute(context) if covers is True else False
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            problem = f"The policy {self.policy.name} could not be evaluated: {str(error).partition('. CEL')[0][:120]}"
            reason = f"{self.reason} ({problem})"  # what its author asks for helps the caller on
            return Decision(self.name, "policy_error" if self.enforced else "would_error", reason, self._used(context))
        if covers is not True:
            return None
        verdict: Verdict = "pass" if allows is True else "policy_denied" if self.enforced else "would_deny"
        return Decision(self.name, verdict, self.reason, self._used(context))

    def _used(self, context: dict[str, Any]) -> str:
        named = [f"{root}.{name}={context[root].get(name, '')}" for root, name in self.paths]
        return " ".join([*named, *(f"tags.{name}={context['tags'].get(name, '')}" for name in self.tags)])


class PolicySet:
    """The policies of one snapshot, compiled once. Critical ones are asked first; the first denial ends the asking."""

    __slots__ = ("about_calls", "about_egress")

    def __init__(self, policies: Iterable[Policy]) -> None:
        ordered = sorted(policies, key=lambda policy: (not policy.critical, policy.name))
        compiled = [_Compiled(policy) for policy in ordered]
        self.about_calls = tuple(each for each in compiled if not each.uses_egress)
        self.about_egress = tuple(each for each in compiled if each.uses_egress)

    def __bool__(self) -> bool:
        return bool(self.about_calls or self.about_egress)

    def decide(self, context: dict[str, Any], *, egress: bool) -> list[Decision]:
        """What the policies that look at the way out (or those that do not) say; the last decision may refuse."""
        decisions = []
        for policy in self.about_egress if egress else self.about_calls:
            decision = policy.decide(context)
            if decision is not None:
                decisions.append(decision)
                if decision.refuses:
                    break
        return decisions
