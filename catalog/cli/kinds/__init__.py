"""What a manifest's kinds are on the server."""

from catalog.cli.kinds.experiments import EXPERIMENT
from catalog.cli.kinds.flags import FLAG
from catalog.cli.kinds.guardrails import GUARDRAIL
from catalog.cli.kinds.keys import KEY
from catalog.cli.kinds.kind import Kind
from catalog.cli.kinds.limits import LIMIT
from catalog.cli.kinds.models import MODEL
from catalog.cli.kinds.policies import POLICY
from catalog.cli.kinds.projects import PROJECT
from catalog.cli.kinds.prompts import PROMPT
from catalog.cli.kinds.providers import PROVIDER

KINDS: dict[str, Kind] = {kind.name: kind for kind in (PROVIDER, PROJECT, MODEL, KEY, LIMIT, GUARDRAIL, PROMPT, POLICY, FLAG, EXPERIMENT)}
"""In the order in which they are made, because the later ones name the earlier; removed the other way round."""
