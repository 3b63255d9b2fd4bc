# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reverse proxies serve a signaling server: under which names and which path, from the files of nginx, Nginx
Proxy Manager, Apache, Caddy, HAProxy and Traefik.

No more of these languages is understood than that takes; what is not understood is passed over. Everything here is
pure.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_compose import Files, LoadYaml

# Blocks inside of blocks, files included by files, all inclusions, letters of a line, and names of a condition. No
# proxy has as many, and files may be anything.
DEEPEST = 20
MOST_INCLUDED = 2000
LONGEST_LINE = 2000
MOST_ALIKE = 100

_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_URL = re.compile(r"(?:(?:https?|wss?|h2c)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:/.*)?")

# A block of nginx or Caddy: its words, and what is in it (None: a line that ends by itself).
Block = tuple[list[str], Any]
Target = tuple[str, int]


@dataclass(frozen=True)
class Route:
    """One way to a server: under `names` and below `path` ("" is the root), `whole` when everything there leads to it.

    kind: as hpb_proxy calls the proxy, or "form" for Nginx Proxy Manager, whose files are made from a form.
    """

    kind: str
    place: str
    names: tuple[str, ...]
    path: str
    targets: tuple[Target, ...]
    whole: bool = False


@dataclass
class _Scope:
    """What holds in a block: the names, the path and the variables."""

    names: list[str] = field(default_factory=list)
    path: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


def routes(files: Files, load: LoadYaml, environment: Mapping[str, str]) -> list[Route]:
    """Return all ways of all proxies in the files, by place; `environment` has what a Caddyfile may ask for."""
    texts = {place: _bounded(text) for place, text in sorted(files.texts.items())}
    nginx = {place: text for place, text in texts.items() if _is_nginx(place, text)}
    found = _Nginx(nginx).routes()
    for place, text in texts.items():
        if place in nginx or place.endswith((".env", ".ini", ".jcfg", ".toml")):
            continue
        if re.search(r"(?im)^\s*(<VirtualHost|ProxyPass|RewriteRule)\b", text):
            found += _apache(place, text)
        elif re.search(r"(?m)^(frontend|listen|backend)\s", text):
            found += _haproxy(place, text)
        elif place.endswith((".yml", ".yaml")):
            found += _traefik(place, text, load) if re.search(r"(?m)^http:", text) else []
        elif re.search(r"(?m)^\s*reverse_proxy\b", text):
            found += _caddy(place, text, environment)
    return sorted(set(found), key=lambda route: (route.place, route.path, route.names))


def _bounded(text: str) -> str:
    """Return a text without lines that nobody writes."""
    return "\n".join(line for line in text.splitlines() if len(line) <= LONGEST_LINE)


def prefix(pattern: str) -> str | None:
    """Return the path below which the server is, from a path or regular expression of a proxy, None for no path.

    /hpb/, /hpb/spreed, ^/hpb/(.*)$ and /hpb* are /hpb; what begins with the server's own paths is the root.
    """
    literal = re.match(r"[A-Za-z0-9/_-]*", pattern.strip().lstrip("^")).group()  # type: ignore[union-attr]
    if not literal.startswith("/"):
        return None
    return re.split(r"/(?:spreed|api|turn|metrics)(?=/|$)", re.sub(r"/+", "/", literal))[0].rstrip("/")


def _is_whole(pattern: str) -> bool:
    """Whether a path or regular expression lets everything below through."""
    return not re.search(r"spreed|api|welcome", pattern)


def _target(url: str) -> Target | None:
    """Return host and port of a server's address, or None."""
    match = _URL.fullmatch(url.strip().strip("\"'"))
    if not match:
        return None
    return match.group(1).strip("[]").lower(), int(match.group(2) or (443 if url.startswith(("https", "wss")) else 80))


def _names(words: Sequence[str]) -> list[str]:
    """Return those that are names of hosts, without schemes and ports."""
    bare = [re.sub(r"^[a-z]+://|[:/].*$", "", re.sub(r"^([a-z]+://)", "", word.strip().strip(","))) for word in words]
    return [name.lower() for name in bare if _NAME.fullmatch(name)]


# nginx. Source: nginx.org, "Beginner's Guide" and ngx_http_core_module.


def _is_nginx(place: str, text: str) -> bool:
    return bool(
        re.search(r"(?m)(?:^|[;{}])\s*(proxy_pass\s|(http|server|upstream\s+\S+)\s*\{|location\s[^\n]*\{)", text)
        and re.search(r"[{;]", text)
        and not re.search(r"(?m)^(frontend|backend)\s", text)
        and not place.endswith((".yml", ".yaml"))
    )


def _blocks(text: str) -> list[Block]:
    """Return the directives of a file as blocks; what is not closed ends with the file."""
    tokens = re.finditer(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};]+", text)
    root: list[Block] = []
    stack, words = [root], []
    for match in tokens:
        sign = match.group()
        if sign.startswith("#"):
            continue
        if sign == "{" and len(stack) <= DEEPEST:
            inner: list[Block] = []
            stack[-1].append((words, inner))
            stack.append(inner)
            words = []
        elif sign == "}":
            if len(stack) > 1:
                stack.pop()
            words = []
        elif sign == ";":
            stack[-1].append((words, None))
            words = []
        else:
            words.append(sign.strip("\"'"))
    return root


class _Nginx:
    """All files of nginx, since servers, the upstreams behind them and what they include are in different ones."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.trees = {place: _blocks(text) for place, text in sorted(texts.items())}
        self.texts = texts
        self.upstreams: dict[str, list[Target]] = {}
        self.found: list[Route] = []
        self.included: set[str] = set()
        self.visits = 0
        for tree in self.trees.values():
            self._upstreams(tree)

    def _upstreams(self, blocks: Sequence[Block]) -> None:
        for words, inner in blocks:
            if words[:1] == ["upstream"] and len(words) > 1 and inner:
                targets = [_target(line[1]) for line, _none in inner if line[:1] == ["server"] and len(line) > 1]
                self.upstreams.setdefault(words[1], []).extend(target for target in targets if target)
            elif inner and words[:1] == ["http"]:
                self._upstreams(inner)

    def routes(self) -> list[Route]:
        for place, tree in self.trees.items():
            self._servers(place, tree)
        # A part that no server includes, as far as can be seen: its names are not known.
        for place, tree in self.trees.items():
            if place not in self.included:
                self._lines(place, [block for block in tree if block[0][:1] != ["server"]], _Scope(), 0)
        return self.found

    def _servers(self, place: str, blocks: Sequence[Block]) -> None:
        for words, inner in blocks:
            if words[:1] == ["server"] and inner is not None:
                said = [word for line, _inner in inner if line[:1] == ["server_name"] for word in line[1:]]
                self._lines(place, inner, _Scope(names=_names(said)), 0)
            elif words[:1] == ["http"] and inner:
                self._servers(place, inner)

    def _lines(self, place: str, blocks: Sequence[Block], scope: _Scope, depth: int) -> None:
        """Go through what is in a server or a location."""
        variables = dict(scope.variables)
        for words, inner in blocks:
            head = words[0] if words else ""
            if head == "set" and len(words) > 2:
                variables[words[1].lstrip("$")] = words[2]
            elif head == "location" and inner is not None and depth < DEEPEST:
                pattern = words[-1] if len(words) > 1 else ""
                path = prefix(pattern)
                inside = _Scope(scope.names, scope.path if path is None else path, variables)
                before = len(self.found)
                self._lines(place, inner, inside, depth + 1)
                if not _is_whole(pattern) or "=" in words[1:2]:
                    self.found[before:] = [_narrow(route) for route in self.found[before:]]
            elif head == "if" and inner is not None and depth < DEEPEST:
                self._lines(place, inner, _Scope(scope.names, scope.path, variables), depth + 1)
            elif head == "include" and len(words) > 1:
                self._include(place, words[1], _Scope(scope.names, scope.path, variables), depth)
            elif head in ("proxy_pass", "grpc_pass") and len(words) > 1:
                self._pass(place, words[1], scope, variables)

    def _include(self, place: str, pattern: str, scope: _Scope, depth: int) -> None:
        """Go on in the files that are included, which may be in a container at another place than here."""
        tail = "/".join(pattern.split("/")[-2:])
        matching = [
            other for other in self.trees if other != place and fnmatch.fnmatch(other, f"*/{tail}") and depth < DEEPEST
        ]
        for other in matching:
            self.visits += 1
            if self.visits > MOST_INCLUDED:
                return
            self.included.add(other)
            self._lines(other, self.trees[other], scope, depth + 1)
        if not matching and pattern.endswith("include/proxy.conf") and {"server", "port"} <= set(scope.variables):
            # Nginx Proxy Manager: that file is in its image, and passes on to these two.
            self._pass(place, "http://$server:$port", scope, scope.variables)

    def _pass(self, place: str, url: str, scope: _Scope, variables: Mapping[str, str]) -> None:
        if scope.path is None:
            return
        for _count in range(DEEPEST):
            url = re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match.group(1), ""), url)
        match = re.match(r"(?:https?|wss?)://([^/:]+)(?=[/]|$)", url)
        target = _target(url)
        targets = self.upstreams.get(match.group(1), []) if match else []
        targets = targets or ([target] if target else [])
        kind = "form" if "/proxy_host/" in place else "nginx"
        if targets:
            self.found.append(Route(kind, place, tuple(scope.names), scope.path, tuple(targets), whole=True))


def _narrow(route: Route) -> Route:
    return Route(route.kind, route.place, route.names, route.path, route.targets)


# Apache. Source: httpd.apache.org, mod_proxy and mod_rewrite.


def _apache(place: str, text: str) -> Iterator[Route]:
    names: list[str] = []
    path: str | None = None
    pending: list[tuple[str, Target, bool]] = []
    for line in [*re.sub(r"\\\r?\n", " ", text).splitlines(), "</VirtualHost>"]:
        words = _shell_words(line)
        head = words[0].lower() if words else ""
        if head.startswith(("<virtualhost", "</virtualhost")):
            # Those before the first host, and those of each host.
            yield from (Route("apache", place, tuple(names), below, (to,), whole) for below, to, whole in pending)
            names, path, pending = [], None, []
        elif head in ("servername", "serveralias"):
            names += _names(words[1:])
        elif head.startswith(("<location", "<locationmatch")):
            path = prefix(words[-1].rstrip(">")) if len(words) > 1 else None
        elif head.startswith("</location"):
            path = None
        elif head in ("proxypass", "proxypassmatch", "rewriterule") and len(words) > 1:
            given = [word for word in words[1:3] if not word.startswith("[")]
            url = next((word for word in given if re.match(r"(https?|wss?)://", word)), "")
            pattern = given[0] if given[0] != url else ""
            below = prefix(pattern) if pattern else path
            target = _target(re.sub(r"[$%][{0-9].*$", "", url)) if url else None
            if target and below is not None:
                pending.append((below, target, _is_whole(pattern) and head == "proxypass"))


def _shell_words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True, posix=True)
    except ValueError:
        return line.split()


# Caddy. Source: caddyserver.com, "Caddyfile Concepts".


def _caddy_blocks(text: str) -> list[Block]:
    root: list[Block] = []
    stack = [root]
    for line in text.splitlines():
        words = _shell_words(re.sub(r"(^|\s)#.*$", "", line).replace("{$", "\x00"))
        words = [word.replace("\x00", "{$") for word in words]
        if not words:
            continue
        if words == ["}"]:
            if len(stack) > 1:
                stack.pop()
        elif words[-1] == "{" and len(stack) <= DEEPEST:
            inner: list[Block] = []
            stack[-1].append((words[:-1], inner))
            stack.append(inner)
        else:
            stack[-1].append((words, None))
    return root


def _caddy(place: str, text: str, environment: Mapping[str, str]) -> Iterator[Route]:
    replaced = re.sub(
        r"\{\$(\w+)(?::([^}]*))?\}", lambda match: environment.get(match.group(1)) or match.group(2) or "", text
    )
    tree = _caddy_blocks(replaced)
    lines = [block for block in tree if block[1] is None]
    if lines and any(words[0] == "reverse_proxy" for words, _none in lines[1:]):
        # One site without braces: the first line has its addresses.
        tree = [(lines[0][0], tree[1:])]
    site = _Caddy(
        place, {words[0].strip("()"): inner or [] for words, inner in tree if words[:1] and words[0][0] == "("}
    )
    for words, inner in tree:
        if words and inner is not None and not words[0].startswith("("):
            yield from site.lines(inner, _Scope(_names(words), ""))


@dataclass
class _Caddy:
    """A Caddyfile with its snippets."""

    place: str
    snippets: Mapping[str, Sequence[Block]]

    def lines(self, blocks: Sequence[Block], scope: _Scope, depth: int = 0) -> Iterator[Route]:
        """Yield the ways of a site or of what is in it; the variables of its scope are Caddy's named matchers."""
        matchers = dict(scope.variables)
        for words, inner in blocks:
            if words[0].startswith("@"):
                lines = [words[1:], *(line for line, _inner in inner or [])]
                paths = [line[1] for line in lines if line[:1] in (["path"], ["path_regexp"]) and len(line) > 1]
                matchers[words[0]] = paths[0] if paths else "/"
        for words, inner in blocks:
            head, rest = words[0], words[1:]
            pattern = matchers.get(rest[0], rest[0]) if rest and rest[0].startswith(("/", "@", "*")) else ""
            path = prefix(pattern) if pattern.startswith(("/", "^")) else None
            path = scope.path if path is None else path
            if head == "import" and rest and rest[0] in self.snippets and depth < DEEPEST:
                within = _Scope(scope.names, scope.path, matchers)
                yield from self.lines(self.snippets[rest[0]], within, depth + 1)
            elif head in ("handle", "handle_path", "route") and inner is not None and depth < DEEPEST:
                yield from self.lines(inner, _Scope(scope.names, path, matchers), depth + 1)
            elif head in ("reverse_proxy", "proxy"):
                said = rest[1:] if pattern else rest
                said = said + [word for line, _inner in inner or [] if line[0] == "to" for word in line[1:]]
                targets = tuple(target for word in said for target in [_target(word)] if target)
                if targets and path is not None:
                    yield Route("caddy", self.place, tuple(scope.names), path, targets, _is_whole(pattern))


# HAProxy. Source: docs.haproxy.org, "Configuration Manual", sections 4 and 7.


def _haproxy(place: str, text: str) -> Iterator[Route]:
    servers: dict[str, list[Target]] = {}
    acls: dict[str, list[tuple[str, list[str]]]] = {}
    uses: list[tuple[str, str]] = []
    section = name = ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if not line[:1].isspace():
            section, name = words[0], words[1] if len(words) > 1 else ""
            acls = {}
            if section == "listen":
                uses.append((name, ""))
        elif words[0] == "server" and len(words) > 2:
            target = _target(words[2])
            servers.setdefault(name, []).extend([target] if target else [])
        elif words[0] == "acl" and len(words) > 3:
            acls.setdefault(words[1], []).append((words[2], words[3:]))
        elif words[0] in ("use_backend", "default_backend") and len(words) > 1:
            condition = " ".join(words[3:]) if words[2:3] == ["if"] else ""
            uses.append((words[1], _spelled(condition, acls)))
    for backend, condition in uses:
        targets = tuple(servers.get(backend, []))
        if targets:
            hosts = re.findall(r"\{ (?:req\.)?s?hdr(?:_beg|_end|_dom|_reg)?\(host\)\S*((?: \S+)+?) \}", condition, re.I)
            paths = re.findall(r"\{ path(?:_beg|_dir|_reg|_sub|)?\S*((?: \S+)+?) \}", condition)
            patterns = [word for words in paths for word in words.split() if not word.startswith("-")]
            below = {prefix(word) for word in patterns} - {None} or {""}
            for path in sorted(str(path) for path in below):
                names = tuple(_names([word for words in hosts for word in words.split()]))
                yield Route("haproxy", place, names, path, targets, all(map(_is_whole, patterns)))


def _spelled(condition: str, acls: Mapping[str, Sequence[tuple[str, list[str]]]]) -> str:
    """Return a condition with each name in it as what it stands for, { criterion value ... }."""
    words = []
    for word in re.findall(r"\{[^{}]*\}|\S+", condition)[:MOST_ALIKE]:
        said = acls.get(word, [])[:MOST_ALIKE]
        words += [f"{{ {criterion} {' '.join(values)} }}" for criterion, values in said] or [word]
    return " ".join(words)


# Traefik's file provider. Source: doc.traefik.io, "Routing Configuration".


def _traefik(place: str, text: str, load: LoadYaml) -> Iterator[Route]:
    try:
        document = load(text)
    except ValueError:
        return
    http = document.get("http") if isinstance(document, dict) else None
    routers, services = (
        (http or {}).get(key) if isinstance(http, dict) and isinstance(http.get(key), dict) else {}
        for key in ("routers", "services")
    )
    for router in routers.values():
        if not isinstance(router, dict):
            continue
        service = services.get(str(router.get("service", "")).partition("@")[0])
        balancer = service.get("loadBalancer") if isinstance(service, dict) else None
        servers = balancer.get("servers") if isinstance(balancer, dict) else None
        urls = [str(entry.get("url", "")) for entry in servers or [] if isinstance(entry, dict)]
        targets = tuple(target for url in urls for target in [_target(url)] if target)
        names, path, whole = rule(str(router.get("rule", "")))
        if targets:
            yield Route("traefik", place, tuple(names), path, targets, whole)


def rule(text: str) -> tuple[list[str], str, bool]:
    """Return the names, the path, and whether everything passes, of a rule of Traefik's."""
    names = [name for part in re.findall(r"Host\(([^)]*)\)", text) for name in re.split(r"[\s,`'\"]+", part)]
    paths = re.findall(r"Path(?:Prefix|Regexp)?\([`'\"]([^`'\"]+)", text)
    below = [path for path in map(prefix, paths) if path]
    return _names(names), below[0] if below else "", not any(not _is_whole(path) for path in paths)
