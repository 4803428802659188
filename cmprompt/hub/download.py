"""Files of a hub repository into the Hugging Face cache: hashes checked, interrupted downloads taken up again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from cmprompt.atomic import beside, in_turn
from cmprompt.encoders.weights import file_sha256
from cmprompt.errors import ModelError

FIRST_CONTACT_S = 3.0
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file in a hub repository. `sha256` is published for large files, `blob_id` (git's hash) for all."""

    name: str
    size: int
    sha256: str | None
    blob_id: str | None


class Hub:
    """The Hugging Face hub, or what HF_ENDPOINT names. HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and proxies are honoured."""

    def __init__(self, progress: bool, *, otherwise: str = "") -> None:
        """`otherwise`: what to do without a network, for the message."""
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
        import huggingface_hub
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not progress:
            disable_progress_bars()
        self._lib: Any = huggingface_hub
        self._otherwise = otherwise
        self._api = huggingface_hub.HfApi()

    def check_online(self, wanted: str) -> None:
        """Raises ModelError where the hub does not answer."""
        session = self._lib.get_session()
        self._first_contact(wanted, lambda: session.head(self._api.endpoint, timeout=FIRST_CONTACT_S))

    def list_files(self, repo: str, revision: str | None, wanted: str) -> tuple[str, dict[str, RemoteFile]]:
        """The commit that `revision` (by default the main branch) means now, and its files by name."""
        info = self._first_contact(
            wanted,
            lambda: self._api.model_info(repo, revision=revision, files_metadata=True, timeout=FIRST_CONTACT_S),
            refused=f"; hf-hub:{repo} takes what it publishes now" if revision else "",
        )
        files = {}
        for entry in info.siblings or ():
            sha256 = entry.lfs.sha256 if entry.lfs else None
            files[entry.rfilename] = RemoteFile(entry.rfilename, entry.size or 0, sha256, entry.blob_id)
        return str(info.sha), files

    def fetch(self, repo: str, commit: str, file: RemoteFile) -> Path:
        """The file in the Hugging Face cache, its hash checked; damaged, it is downloaded once more.

        Processes that want the same file take turns: the first downloads it, the others find it.
        """
        with in_turn(beside(_blob(repo, file), "cmprompt-lock")):
            for _ in range(2):
                path = Path(self._download(repo, commit, file))
                if is_as_published(path, file):
                    return path
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        raise ModelError(f"{repo}/{file.name} arrived damaged twice (its sha256 is not the published one)")

    def _download(self, repo: str, commit: str, file: RemoteFile) -> str:
        try:
            if file.sha256:
                self._fetch_blob(repo, commit, file)
            return str(self._lib.hf_hub_download(repo, file.name, revision=commit))
        except Exception as error:  # as in _first_contact
            raise ModelError(
                f"downloading {repo}/{file.name} failed: {_first_line(error)}; run it again to go on"
            ) from error

    def _fetch_blob(self, repo: str, commit: str, file: RemoteFile) -> None:
        """Put a large file into the cache under its hash. The library starts an interrupted one over; this does not."""
        from huggingface_hub.file_download import http_get

        blob = _blob(repo, file)
        if blob.exists():
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        part = beside(blob, "cmprompt-part")
        url = self._lib.hf_hub_url(repo, file.name, revision=commit)
        if part.exists() and part.stat().st_size > file.size:
            part.unlink()  # it is no beginning of this file
        with open(part, "ab") as stream:
            http_get(
                url, stream, resume_size=stream.tell(), headers=self._lib.utils.build_hf_headers(),
                expected_size=file.size, displayed_filename=file.name,
            )  # fmt: skip
        part.replace(blob)

    def _first_contact(self, wanted: str, call: Callable[[], T], refused: str = "") -> T:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return within(FIRST_CONTACT_S, call)
        except HfHubHTTPError as error:
            raise ModelError(f"the hub refuses {wanted}: {_first_line(error)}{refused}") from error
        except Exception as error:  # the library's HTTP client differs from version to version, and so do its errors
            otherwise = self._otherwise or (
                f"With a network, run: cmprompt models pull {wanted}. "
                "Without one, --model tiny and --model local-dir:DIR work"
            )
            raise ModelError(
                f"{wanted} is not on this machine and {self._api.endpoint} cannot be reached ({_first_line(error)}). "
                f"{otherwise}"
            ) from error


def _blob(repo: str, file: RemoteFile) -> Path:
    """Where the Hugging Face cache has the bytes of a file, whatever commit they are of.

    Raises ModelError where the hub gives as the file's hash what is none: it becomes part of a path.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    published = file.sha256 or file.blob_id
    if published and not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", published):
        raise ModelError(f"the hub gives {published!r} as the hash of {repo}/{file.name}, which is none")
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    return folder / "blobs" / (published or file.name.replace("/", "--"))


def is_as_published(path: Path, file: RemoteFile) -> bool:
    """Large files carry a sha256, small ones git's own hash of the blob."""
    if file.sha256:
        return file_sha256(path) == file.sha256
    if not file.blob_id:
        return True
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest() == file.blob_id


def within(limit_s: float, call: Callable[[], T]) -> T:
    """The result of `call`, or TimeoutError: a name server that does not answer heeds no timeout of the client's."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {limit_s} s")
    return results[0]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
