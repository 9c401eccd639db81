"""A place to run the audited client in: fresh home, fresh git repository, an environment made from nothing."""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from clients import Client, tool

PROMPT = "say hello to bob@example.com"
PROMPT_EMAIL = "bob@example.com"
# A `-p` run takes one to two seconds; a loaded machine gets more, and a hang still ends.
CLIENT_TIMEOUT_SECS = 90


class Auth(Enum):
    """How the client is signed in. Both are invented."""

    API_KEY = "api-key"
    SIGNED_IN = "signed-in"


@dataclass
class Identity:
    """What must be found again in telemetry, new for every sandbox."""

    account_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    organization_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    email: str = field(default_factory=lambda: f"canary.{secrets.token_hex(4)}@example.com")
    api_key: str = field(default_factory=lambda: _token("api03"))
    access_token: str = field(default_factory=lambda: _token("oat01"))
    refresh_token: str = field(default_factory=lambda: _token("ort01"))


@dataclass
class Result:
    """What a finished command left."""

    command: list[str]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"exit {self.code} after {self.seconds:.1f} s: {' '.join(self.command)}\n"
            f"stdout: {self.stdout[-2000:]!r}\nstderr: {self.stderr[-4000:]!r}"
        )


class Sandbox:
    """Fresh folders; a context manager that removes them."""

    def __init__(self, auth: Auth):
        self.auth = auth
        self.identity = Identity()
        self.folder = Path(tempfile.mkdtemp(prefix="sandbox-e2e-"))
        self.home, self.work, self.temporary = (self.folder / name for name in ("home", "work", "tmp"))
        for folder in (self.home / ".claude", self.work, self.temporary):
            folder.mkdir(parents=True)
        subprocess.run([tool("git"), "init", "--quiet", str(self.work)], check=True, env=self.environment())
        state: dict = {"hasCompletedOnboarding": True}
        if auth is Auth.SIGNED_IN:
            state["oauthAccount"] = {
                "accountUuid": self.identity.account_uuid,
                "emailAddress": self.identity.email,
                "organizationUuid": self.identity.organization_uuid,
            }
            credentials = {
                "claudeAiOauth": {
                    "accessToken": self.identity.access_token,
                    "refreshToken": self.identity.refresh_token,
                    "expiresAt": 4102444800000,
                    "scopes": ["user:inference", "user:profile"],
                    "subscriptionType": "max",
                }
            }
            file = self.home / ".claude" / ".credentials.json"
            file.write_text(json.dumps(credentials))
            file.chmod(0o600)
        (self.home / ".claude.json").write_text(json.dumps(state))

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, **extra: str | Path) -> dict[str, str]:
        """The whole environment: nothing of ours gets in but `PATH`."""
        base = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temporary),
        }
        if self.auth is Auth.API_KEY:
            base["ANTHROPIC_API_KEY"] = self.identity.api_key
        return base | {name: str(value) for name, value in extra.items()}

    def run(self, command: list[str], timeout_secs: float = CLIENT_TIMEOUT_SECS, **extra: str | Path) -> Result:
        """Runs a command in the work folder, standard input closed."""
        start = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=self.work,
                env=self.environment(**extra),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_secs,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(
                f"no end after {timeout_secs} s: {' '.join(command)}\nstdout: {late.stdout!r}\nstderr: {late.stderr!r}"
            ) from late
        return Result(command, done.returncode, done.stdout, done.stderr, time.monotonic() - start)

    def device_id(self) -> str:
        """The stable id that the client made for this home."""
        return json.loads((self.home / ".claude.json").read_text())["userID"]

    def session_ids(self) -> set[str]:
        """The sessions that the client kept a transcript of."""
        return {file.stem for file in (self.home / ".claude" / "projects").glob("*/*.jsonl")}


def client_command(client: Client) -> list[str]:
    """The one command that every test of the real client runs."""
    return [*client.command, "-p", PROMPT, "--allowedTools", "Bash"]


def _token(kind: str) -> str:
    return "-".join(["sk", "ant", kind, secrets.token_urlsafe(64)])
