from catalog.models.key import VirtualKey
from catalog.models.key_request import KeyRequest
from catalog.models.limit import UsageLimit
from catalog.models.model import Deployment, Model
from catalog.models.project import Project
from catalog.models.prompt import Prompt, PromptLabel, PromptVersion
from catalog.models.provider import Provider
from catalog.models.review import ModelReview
from catalog.models.routing import RoutingObjectives
from catalog.models.semantic import SemanticAnswer
from catalog.models.tool import Tool, ToolServer

__all__ = [
    "Deployment",
    "KeyRequest",
    "Model",
    "ModelReview",
    "Project",
    "Prompt",
    "PromptLabel",
    "PromptVersion",
    "Provider",
    "RoutingObjectives",
    "SemanticAnswer",
    "Tool",
    "ToolServer",
    "UsageLimit",
    "VirtualKey",
]
