"""`gatehouse`: the catalog from a shell. `gatehouse <command> --help` says the rest."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO
from urllib.parse import quote

import httpx2
import yaml

from catalog.cli import client, manifests, output, plans
from catalog.cli.client import Api
from catalog.cli.errors import DONE, FAILED, USAGE, WAITS, CliError, RefusedError, UsageError
from catalog.cli.kinds import KINDS
from catalog.cli.kinds.kind import Options

EXIT_CODES = "Exit codes: 0 done, 1 refused or failed (of diff: there are differences), 2 wrong command or manifest (of diff also: failed), 3 done, but a second person has to agree."


@dataclass(frozen=True)
class Resource:
    """A list of the API."""

    path: str
    columns: tuple[str, ...]
    filters: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()
    """POST to `<path><name>/<act>/`."""
    key: str = "slug"
    """Field of a new one that its name is."""
    is_made: bool = True


RESOURCES = {
    "models": Resource(
        "models/",
        ("slug", "status", "price.input_per_million", "price.output_per_million", "usage.calls", "usage.cost_usd", "owner"),
        ("q", "status", "capability", "provider", "sensitivity"),
        ("check", "submit", "approve", "return", "deprecate", "reinstate", "retire", "redraft"),
    ),
    "model-reviews": Resource(
        "model-reviews/",
        ("id", "model", "kind", "status", "asked_by", "asked_at", "basis"),
        ("model", "status"),
        ("approve", "return", "again"),
        is_made=False,
    ),
    "providers": Resource("providers/", ("slug", "kind", "dialect", "base_url", "has_secret", "check_ok"), acts=("check",)),
    "projects": Resource("projects/", ("slug", "name", "cost_centre", "environment", "owner", "is_enabled", "monthly_budget_usd")),
    "keys": Resource(
        "keys/",
        ("id", "name", "owner", "project", "state", "expires_at", "usage.cost_usd", "usage.last_used_at"),
        ("q", "project", "state"),
        ("rotate", "revoke"),
        key="name",
    ),
    "tools": Resource("tools/", ("namespace", "name", "status", "description"), is_made=False),
    "prompts": Resource(
        "prompts/",
        ("slug", "name", "kind", "newest_version", "labels", "owner"),
        ("q", "archived"),
        ("archive", "restore"),
    ),
    "limits": Resource("limits/", ("id", "scope", "ref", "resource", "window", "amount", "is_enabled"), ("q",), key=""),
    "guardrails": Resource("guardrails/", ("id", "name", "kind", "mode", "action", "scope", "ref"), ("q",), key="name"),
    "policies": Resource("policies/", ("id", "namespace", "name", "mode", "active_version", "newest_version"), key="name"),
    "flags": Resource(
        "flags/",
        ("key", "version", "exposure.on", "exposure.percentage", "model", "owner", "archived_at"),
        ("q", "tab"),
        ("archive",),
        is_made=False,
    ),
    "experiments": Resource(
        "experiments/",
        ("slug", "flag", "status", "metric", "latest.report.advice", "ended_at", "decision", "winner"),
        ("q", "tab"),
        ("start",),
        is_made=False,
    ),
}


def main(arguments: Sequence[str] | None = None, *, transport: httpx2.BaseTransport | None = None, out: TextIO | None = None) -> int:
    """Run one command; the exit code is returned. `transport` is where calls go instead of the network."""
    given = _parser().parse_args(arguments)
    out = out or sys.stdout
    try:
        code: int = given.run(given, transport, out)
    except CliError as error:
        fields = error.fields.items() if isinstance(error, RefusedError) else []
        more = [f"  {name}: {' '.join(map(str, said))}" for name, said in fields if len(fields) > 1]
        sys.stderr.write("\n".join([f"gatehouse: {error}", *more]) + "\n")
        return USAGE if given.run is _diff else error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gatehouse", description="Models, tools, keys and rules of an organisation.", epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    login = _command(commands, "login", _login, "keep URL and token for later commands; the token is read from standard input or asked for")
    login.add_argument("url", help="such as https://gatehouse.example.com")
    _command(commands, "whoami", _whoami, "whose token this is, and of which organisation")
    for name, run, words in (
        ("apply", _apply, "make everything as the manifests say; shows the plan first"),
        ("diff", _diff, "only show the plan; exits with 1 when something is not as wanted"),
    ):
        command = _command(commands, name, run, words)
        command.add_argument("-f", "--file", action="append", required=True, metavar="PATH", help="file, folder, or - (may be repeated)")
        command.add_argument("--prune", action="store_true", help="also remove what the manifests do not name, of the kinds that they name")
        command.add_argument("--set-secrets", action="store_true", help="send secrets that are set already, too")
        if name == "apply":
            command.add_argument("--show-secrets", action="store_true", help="print the secrets of new keys that go to no file, once")
            command.add_argument("--dry-run", action="store_true", help="only show the plan")
    export = _command(commands, "export", _export, "what is live, as manifests; never a secret")
    export.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all when left out")
    _command(commands, "schema", _schema, "the JSON Schema of manifests")
    for name, resource in RESOURCES.items():
        _resource(commands, name, resource)
    return parser


def _command(commands: Any, name: str, run: Callable[..., int], words: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words, epilog=EXIT_CODES)
    made.set_defaults(run=run)
    return made


def _resource(commands: Any, name: str, resource: Resource) -> None:
    offered = ", ".join(
        ["list", "show", *(["create"] if resource.is_made else []), *(["leaving"] if name == "models" else []), *resource.acts]
    )
    acts = commands.add_parser(name, help=offered, description=f"{name}: {offered}", epilog=EXIT_CODES)
    acts = acts.add_subparsers(required=True, metavar="ACT")
    listing = _command(acts, "list", _list, f"list {name}")
    for filtered in resource.filters:
        listing.add_argument(f"--{filtered}", metavar="TEXT")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many; all when left out")
    show = _command(acts, "show", _show, "one of them with all its fields")
    show.add_argument("name", help="as in the first column of the list; of a tool namespace/name")
    made = [listing, show]
    if resource.is_made:
        create = _command(acts, "create", _create, "make one; --set takes the fields of the REST API")
        if resource.key:
            create.add_argument("name")
        create.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="the value as YAML: 5, true, [a, b]")
        create.add_argument("--secret-env", metavar="NAME", help="environment variable that holds the field `secret`")
        made.append(create)
    if name == "models":
        leaving = _command(acts, "leaving", _leaving, "what callers of a deprecated one are told; what is left out stays")
        leaving.add_argument("name")
        leaving.add_argument("--retires-on", metavar="DAY", help="such as 2027-03-07, in the organisation's time zone; none takes it back")
        leaving.add_argument("--successor", metavar="NAME", help="the model to use instead; none takes it back")
        made.append(leaving)
    for act in resource.acts:
        acting = _command(acts, act, _act, f"{act} one")
        acting.add_argument("name")
        acting.set_defaults(act=act)
        if name in _COMMENTED and act not in ("check", "again"):
            acting.add_argument("--comment", default="", metavar="TEXT", help="stands in the audit log")
        if act == "rotate":
            acting.add_argument("--overlap-hours", type=int, default=24, help="how long the present secret still works (0 to 168)")
        made.append(acting)
    for one in made:
        one.set_defaults(resource=name)
        one.add_argument("-o", "--output", choices=output.FORMATS, default="table")
        if name == "keys" and one not in (listing, show):
            one.add_argument("--secret-only", action="store_true", help="print the new secret and nothing else")


def _api(transport: httpx2.BaseTransport | None) -> Api:
    return Api(*client.settings(), transport=transport)


def _login(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    token = (getpass.getpass("API token: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    url = client.checked_url(given.url)
    me = Api(url, token, transport).call("GET", "me/")
    path = client.write_config(url, token)
    out.write(f"Signed in as {me['email']}; kept in {path}.\n")
    return DONE


def _whoami(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    out.write(output.one_text(_api(transport).call("GET", "me/"), "table") + "\n")
    return DONE


def _list(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    resource = RESOURCES[given.resource]
    query = {one: getattr(given, one) for one in resource.filters if getattr(given, one) is not None}
    if given.limit is not None and given.limit < 1:
        raise UsageError("--limit is 1 or more.")
    out.write(output.rows_text(_api(transport).rows(resource.path, query, given.limit), resource.columns, given.output) + "\n")
    return DONE


def _path(given: argparse.Namespace) -> str:
    return f"{RESOURCES[given.resource].path}{quote(given.name, safe='/' if given.resource == 'tools' else '')}/"


def _show(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    out.write(output.one_text(_api(transport).call("GET", _path(given)), given.output) + "\n")
    return DONE


def _create(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    resource = RESOURCES[given.resource]
    body: dict[str, Any] = {resource.key: given.name} if resource.key else {}
    for one in given.set:
        name, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"--set takes FIELD=VALUE, not {one!r}.")
        try:
            body[name] = yaml.load(value, yaml.BaseLoader if name in _TEXTS else yaml.SafeLoader)  # noqa: S506  # both are safe
        except yaml.YAMLError as error:
            raise UsageError(f"--set {name}: {value!r} is no YAML.") from error
    if given.secret_env:
        body["secret"] = manifests.secret_of({"env": given.secret_env}, Options().base)
    _print_made(given, _api(transport).call("POST", resource.path, body), out)
    return DONE


_TEXTS = ("name", "description", "cost_centre", "note", "monthly_budget_usd", "upstream_model")
"""Taken as they stand: `0.10` is exact, and a name may be `no`."""


def _act(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    body = {name: getattr(given, name) for name in ("overlap_hours", "comment") if hasattr(given, name)}
    made = _api(transport).call("POST", f"{_path(given)}{given.act}/", body)
    _print_made(given, made, out)
    return FAILED if given.act == "check" and not made.get("ok", made.get("trace", {}).get("ok")) else DONE


def _leaving(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    said = {"retires_on": given.retires_on, "successor": given.successor}
    if not any(said.values()):
        raise UsageError("Say --retires-on or --successor.")
    api = _api(transport)
    present = api.call("GET", _path(given))
    nothing = {"retires_on": None, "successor": ""}
    body = {name: present[name] if value is None else nothing[name] if value == "none" else value for name, value in said.items()}
    _print_made(given, api.call("PUT", f"{_path(given)}leaving/", body), out)
    return DONE


_COMMENTED = ("models", "model-reviews")


def _print_made(given: argparse.Namespace, made: dict[str, Any], out: TextIO) -> None:
    only = getattr(given, "secret_only", False) and "secret" in made
    out.write((made["secret"] if only else output.one_text(made, given.output)) + "\n")


def _plan(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> plans.Plan:
    documents = manifests.read_paths(given.file, sys.stdin)  # before anything is asked of the server

    def say(line: str) -> None:
        out.write(f"{line}\n")

    show = say if getattr(given, "show_secrets", False) else None
    plan = plans.make(_api(transport), documents, Options(prune=given.prune, set_secrets=given.set_secrets, show=show))
    out.write("\n".join(plan.text()) + "\n")
    return plan


def _diff(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    return FAILED if _plan(given, transport, out).changes else DONE


def _apply(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    plan = _plan(given, transport, out)
    if given.dry_run:
        return DONE
    for change in plan.changes:
        change.ready()
    waiting: list[str] = []
    for change in plan.changes:
        if change.act is None:
            continue
        try:
            waiting += change.act()
        except CliError as error:
            done = plan.changes.index(change)
            raise type(error)(
                *_blamed(error, f"{change.title}: ", f" {done} of {len(plan.changes)} changes are made; mend it and apply again.")
            ) from error
        out.write(f"done: {change.sign} {change.title}\n")
        out.flush()
    for one in waiting:
        out.write(f"waits: {one}\n")
    return WAITS if waiting else DONE


def _blamed(error: CliError, before: str, after: str) -> tuple[Any, ...]:
    said = f"{before}{error}{after}"
    return (error.status, error.code, said, error.fields) if isinstance(error, RefusedError) else (said,)


def _export(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    unknown = [kind for kind in given.kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"There is no kind {', '.join(unknown)}; kinds are {', '.join(KINDS)}.")
    wanted = [kind for kind in KINDS if not given.kinds or kind in given.kinds]
    for number, (kind, name, spec) in enumerate(plans.export(_api(transport), wanted)):
        out.write(("---\n" if number else "") + manifests.dump(kind, name, spec))
    return DONE


def _schema(given: argparse.Namespace, transport: httpx2.BaseTransport | None, out: TextIO) -> int:
    out.write(json.dumps(manifests.schema(), indent=2) + "\n")
    return DONE
