"""Prompts: the built-in ones, and the user's own in place of some."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any, Literal

import numpy as np

from edt_backends.base import Message
from edt_cli.config import LLMSettings, UserError, alternatives

FOLDER = Path(__file__).parent / "prompts"
INSTRUCTIONS = "instructions"
LOCAL_INSTRUCTIONS = FOLDER / "local-instructions.toml"
NO_DOMAIN = -1
"""Dominant domain of a pair whose instruction names none."""
PromptStage = Literal["augment", "profile", "both"]


@dataclass(frozen=True)
class PromptKind:
    """A prompt that edt asks with.

    Attributes:
        name: Its name, that of its file without the ending.
        stage: Stage that asks with it.
        about: What it asks for.
        required: Placeholders that it must have, as the question would be without its facts.
        optional: Further placeholders.
    """

    name: str
    stage: PromptStage
    about: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.toml" if self.name == INSTRUCTIONS else f"{self.name}.md"


KINDS = (
    PromptKind(
        name="generate",
        stage="augment",
        about="items of a domain, from a user's purchases in another (eq. 4)",
        required=("target", "items", "count"),
        optional=("source", "examples"),
    ),
    PromptKind(
        name="summarize",
        stage="profile",
        about="a sentence on each group of a user's products in a domain",
        required=("clusters",),
        optional=("domain",),
    ),
    PromptKind(
        name=INSTRUCTIONS,
        stage="profile",
        about="how to weigh the domains, by the ratio r",
        required=(),
        optional=("dominant", "other"),
    ),
    PromptKind(
        name="reform",
        stage="profile",
        about="an instruction, rewritten for these domains",
        required=("instruction", "domains"),
    ),
    PromptKind(
        name="analyze",
        stage="profile",
        about="a profile, from the summaries",
        required=("instruction", "summaries"),
        optional=("domains",),
    ),
    PromptKind(
        name="naive",
        stage="profile",
        about="a profile in one step (w/o S-R-A)",
        required=("products",),
    ),
    PromptKind(
        name="repair",
        stage="both",
        about="a question again whose reply could not be used",
        required=("problem",),
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}
AUGMENT = ("generate", "repair")
PROFILE = ("summarize", INSTRUCTIONS, "reform", "analyze", "repair")
PROFILE_NAIVE = ("naive", "repair")
"""Prompts of each stage."""


@dataclass(frozen=True)
class Prompt:
    """Prompt of a file: name and version, a system text and a user text with `$fields`."""

    name: str
    system: Template
    user: Template

    def messages(self, **fields: Any) -> tuple[Message, Message]:
        """Fill in the fields as JSON, so that texts of a catalogue remain quoted values."""
        quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()}
        return (
            Message("system", self.system.substitute(quoted)),
            Message("user", self.user.substitute(quoted)),
        )


@dataclass(frozen=True)
class Instructions:
    """The reforming instructions of section 3.4.2, one for each degree of domain imbalance.

    Attributes:
        name: Name and version.
        bounds: The r below which each degree ends, ascending.
        texts: Instruction of each degree.
        by_dominant: Whether an instruction that names no domain is still one question for each dominant domain.
    """

    name: str
    bounds: tuple[float, ...]
    texts: tuple[Template, ...]
    by_dominant: bool = False

    def __len__(self) -> int:
        return len(self.bounds)

    def degree(self, r: np.ndarray) -> np.ndarray:
        """Return the degree of each imbalance r [U], from 0 (balanced) on."""
        return np.searchsorted(self.bounds[:-1], r, side="right")

    def pair(self, degree: int, dominant: int) -> tuple[int, int]:
        """Return the pair of degree and dominant domain that an instruction is reformed for.

        The domain is NO_DOMAIN if the instruction names none: it is then the same whichever domain leads.
        """
        named = self.by_dominant or bool(self.texts[degree].get_identifiers())
        return degree, dominant if named else NO_DOMAIN

    def text(self, degree: int, dominant: int, domains: Sequence[str]) -> str:
        """Return the instruction of a pair, before an LLM reforms it."""
        if dominant == NO_DOMAIN:
            return self.texts[degree].substitute()
        return self.texts[degree].substitute(dominant=domains[dominant], other=others(dominant, domains))


def others(dominant: int, domains: Sequence[str]) -> str:
    """Return the names of all domains but the dominant one."""
    return ", ".join(name for number, name in enumerate(domains) if number != dominant) or "other domains"


@dataclass(frozen=True)
class Prompts:
    """Prompts of a command.

    Attributes:
        folder: The user's own prompts; a prompt without a file there is the built-in one.
        local: Whether `local` answers, which reads no prompt, and instructions of its own.
    """

    folder: Path | None = None
    local: bool = False
    _read: dict[str, Prompt] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, llm: LLMSettings) -> Prompts:
        """Return the prompts of settings.

        Raises:
            UserError: If the user's folder is missing, or has a file that is no prompt's.
        """
        folder = None if llm.prompts is None else Path(llm.prompts)
        if folder is not None:
            check_names(folder)
        return cls(folder, local=llm.provider == "local")

    def __getitem__(self, name: str) -> Prompt:
        """Return a prompt by its name.

        Raises:
            UserError: If the user's file is not valid.
        """
        if name not in self._read:
            self._read[name] = read_prompt(self.file(name), own=self.is_own(name))
        return self._read[name]

    @cached_property
    def instructions(self) -> Instructions:
        """The reforming instructions.

        Raises:
            UserError: If the user's file is not valid.
        """
        own = self.is_own(INSTRUCTIONS)
        return read_instructions(LOCAL_INSTRUCTIONS if self.local and not own else self.file(INSTRUCTIONS), own=own)

    def file(self, name: str) -> Path:
        """Return the file of a prompt."""
        file = BY_NAME[name].file
        return self.folder / file if self.folder and (self.folder / file).is_file() else FOLDER / file

    def is_own(self, name: str) -> bool:
        """Return whether a prompt is the user's own: a file that says what the built-in one says is not."""
        path, built_in = self.file(name), FOLDER / BY_NAME[name].file
        return path != built_in and _text(path) != _text(built_in)

    def version(self, name: str) -> str:
        """Return name and version of a prompt, such as generate@2; of one's own, generate@own-1a2b3c4d."""
        return self.instructions.name if name == INSTRUCTIONS else self[name].name

    def identity(self, names: Iterable[str]) -> dict[str, str]:
        """Return the versions of those prompts that can change an answer, for the key of what is made with them.

        None can where `local` answers, but for the user's own instructions.
        """
        counted = [name for name in names if not self.local or (name == INSTRUCTIONS and self.is_own(name))]
        return {name: self.version(name) for name in counted}


def read_prompt(path: Path, *, own: bool = False) -> Prompt:
    """Read a prompt: `generate.md` whose first line is `version: 1` is `generate@1`.

    The version of a user's own prompt is a digest of what it says, whatever stands in its first line.

    Raises:
        UserError: If it is not in the form of a prompt, or its placeholders are not those of its name.
    """
    match = re.fullmatch(
        r"(?:version: (\d+)\n+)?(?:# System\n+(.*?)\n+)?# User\n+(.*?)\n*", text := _text(path), re.DOTALL
    )
    if match is None or not (own or match[1]):
        raise UserError(
            f"{path} is no prompt: it needs a line `# System` (except in a repair) and below it a line `# User`"
            + ("" if own else ", and above both `version: N`")
        )
    version, system, user = match.groups(default="")
    prompt = Prompt(
        f"{path.stem}@{_own_version(text) if own else version}", template(path, system), template(path, user)
    )
    if (kind := BY_NAME.get(path.stem)) is not None:
        check_placeholders(path, kind, (prompt.system, prompt.user))
    return prompt


def read_instructions(path: Path, *, own: bool = False) -> Instructions:
    """Read the reforming instructions of a TOML file.

    Raises:
        UserError: If the file is not valid.
    """
    try:
        document = tomllib.loads(text := _text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    degrees = document.get("degree")
    if not isinstance(degrees, list) or not degrees or not all(map(_is_degree, degrees)):
        raise UserError(f"{path} needs a [[degree]] for each degree, with a number `below` and a `text`")
    bounds = tuple(float(degree["below"]) for degree in degrees)
    if list(bounds) != sorted(set(bounds)) or bounds[-1] <= 1:
        raise UserError(f"{path}: `below` must rise from degree to degree, and the last must be above 1")
    texts = tuple(template(path, degree["text"]) for degree in degrees)
    check_placeholders(path, BY_NAME[INSTRUCTIONS], texts)
    return Instructions(
        name=f"{INSTRUCTIONS}@{_own_version(text) if own else document.get('version', 1)}",
        bounds=bounds,
        texts=texts,
        by_dominant=bool(document.get("by_dominant", False)),
    )


def template(path: Path, text: str) -> Template:
    """Return a text with placeholders.

    Raises:
        UserError: If a `$` in it begins none.
    """
    made = Template(text)
    if not made.is_valid():
        raise UserError(f"{path}: a $ that begins no placeholder is written $$")
    return made


def check_placeholders(path: Path, kind: PromptKind, texts: Sequence[Template]) -> None:
    """Check that texts have the placeholders of their prompt, and no others.

    Raises:
        UserError: If one is missing, or is not known.
    """
    given = {name for text in texts for name in text.get_identifiers()}
    if missing := [name for name in kind.required if name not in given]:
        raise UserError(f"{path}: the placeholder {' and '.join(f'${name}' for name in missing)} is missing")
    known = (*kind.required, *kind.optional)
    if unknown := sorted(given - {*known}):
        raise UserError(
            f"{path}: there is no placeholder ${unknown[0]}; "
            + alternatives(unknown[0], known, "there are").replace("did you mean ", "did you mean $")
        )


def check_names(folder: Path) -> None:
    """Check that a folder is there, and that its prompts have names of prompts.

    Raises:
        UserError: If it is not, or a file would be read by nobody.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} of prompts; edt prompts export {folder} makes one")
    known = {kind.file for kind in KINDS}
    files = sorted(path for path in folder.iterdir() if path.suffix in (".md", ".toml"))
    if not files:
        raise UserError(f"there is no prompt in {folder}; edt prompts export {folder} writes them")
    for path in files:
        if path.name not in known and path.name.lower() != "readme.md":
            raise UserError(f"{path} is read by nobody: no prompt has this name; {_meant(path.name, known)}")


def kind_of(name: str) -> PromptKind:
    """Return the kind of a prompt by its name.

    Raises:
        UserError: If there is none.
    """
    if name not in BY_NAME:
        raise UserError(f"there is no prompt {name!r}; {alternatives(name, BY_NAME)}")
    return BY_NAME[name]


def _meant(name: str, known: Iterable[str]) -> str:
    stems = {Path(file).stem: file for file in known}
    return alternatives(Path(name).stem, stems, "the names are")


def _is_degree(degree: Mapping[str, Any]) -> bool:
    number = isinstance(degree, dict) and degree.get("below")
    return isinstance(number, int | float) and not isinstance(number, bool) and isinstance(degree.get("text"), str)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _own_version(text: str) -> str:
    said = re.sub(r"\Aversion: \d+\n+", "", text).strip()
    return f"own-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
