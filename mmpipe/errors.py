"""Every error mmpipe raises on purpose, with its code, its exit status and its fix.

::

    Exception
    ├── SampleError            one bad sample: always caught and turned into a row
    └── MmpipeError            exit 1: the run failed
        ├── UsageError              2: the command line is wrong
        ├── NotFoundError           3: a file, workspace or model is not there
        ├── TooManyBadRowsError     4: more rows were bad than `ingest.max_bad_fraction` allows
        ├── InvalidError            5: parameters or data break a rule
        ├── VerificationError       6: a hash differs from the recorded one
        ├── LockedError             7: another run holds the workspace
        └── TemporaryError         75: disk full, service down: the same command may work later

A message reads ``CODE file:row (id) what is wrong — what was done — Fix: one command or edit``.
"""

from functools import partial
from typing import Any

FIXES: dict[str, str] = {
    # files of a sample
    "file-missing": "correct the path in the manifest, or leave the cell empty if there is no such file",
    "file-not-regular": "point the manifest at a regular file",
    "file-too-large": "shrink the file, or raise ingest.max_file_bytes",
    "file-empty": "restore the file from its source, or leave the cell empty",
    "file-changed": "run `dvc repro` again when nothing writes to the data folder",
    "path-escapes": "keep the files below the manifest's folder and name them by relative paths",
    "image-format": "convert the picture to PNG, JPEG, WebP, BMP, TIFF or GIF",
    "image-not": "replace the file: its bytes are no picture",
    "image-damaged": "restore the file from its source",
    "image-too-large": "scale the picture down, or raise ingest.max_pixels",
    "image-bad-size": "replace the picture: its sides are out of range",
    "audio-format": "convert the recording to WAV, FLAC, Ogg or MP3",
    "audio-damaged": "restore the file from its source",
    "audio-truncated": "restore the file, or set ingest.allow_truncated_audio: true",
    "audio-too-long": "cut the recording, or raise ingest.max_duration_s",
    "audio-not-finite": "export the recording again: it holds NaN, infinite or far too large samples",
    "audio-bad-header": "export the recording with 1 to 8 channels at 1,000 to 384,000 Hz",
    "microphone-missing": "name one of these with --device, or plug one in",
    "microphone-failed": "see that no other program has it, and that it is not muted or unplugged",
    "text-encoding": "save the text as UTF-8",
    "text-control": "remove the NUL or surrogate characters",
    "text-too-long": "shorten the text, or raise ingest.max_text_chars",
    "worker-died": "look at the file by itself: decoding it ends the process",
    "worker-start": "read the words above; too little memory and a missing library are the usual causes",
    "worker-timeout": "look at the file by itself, or raise ingest.timeout_s",
    # rows of a manifest
    "row-malformed": "correct the line, or the name of the file",
    "row-empty": "give the row at least one of image, text and audio",
    "row-lacks": "give the row the modality that the model cannot do without",
    "row-no-target": "give the row a label",
    "row-bad-target": "correct the target, or set data.target to what it is",
    "row-duplicate-id": "give each row its own id",
    "row-duplicate": "none needed: the same content with the same label counts once",
    "row-conflict": "decide which label is right and remove the other row",
    "row-ambiguous": "keep one file a modality, or give the files different names",
    "file-unknown": "give the file an extension of its format, or move it out of the folder",
    # manifests, parameters, runs
    "manifest-missing": "put the manifest there, or correct data.manifests in params.yaml",
    "manifest-format": "give a .csv, .jsonl or .parquet file, or a folder with one subfolder a class",
    "manifest-columns": "correct data.columns in params.yaml",
    "manifest-empty": "add rows to the manifest",
    "manifest-too-large": "split it into several tables; data.manifests takes a list",
    "too-many-bad-rows": "mend the rows that `mmpipe quarantine` lists, or raise ingest.max_bad_fraction",
    "split-too-few": "add samples or classes, or lower split.test_fraction and split.val_fraction",
    "split-incomplete": "give every row a split, or set data.columns.split: null",
    "split-leak": "correct the split column so that the same content lies in one split only",
    "params": "correct params.yaml",
    "workspace": "run `mmpipe init DIR` first, or change into a workspace",
    "locked": "wait for that run to end, or stop it; then the same command works",
    "workspace-exists": "give another folder, or remove dvc.yaml there to start over",
    "corpus-client": "install the client named, or put the package's file at the place named",
    "corpus-hash": "remove the file and fetch again",
    "corpus-extra": "pip install 'mmpipe[stamps]'",
    "store-damaged": "check the disk; .mmpipe/store may be deleted at any time",
    "table-schema": "run `dvc repro`: another version wrote this table",
    "not-reproduced": "read what is said of the stage named: its record, input or environment is another",
    "weights-missing": "install the package, put the folder there, or let the hub be reached once",
    "weights-format": "give weights as safetensors with their config.json: see docs/pretrained.md",
    "weights-changed": "run `dvc repro`: other weights than these made the features",
    "bundle-missing": "run `dvc repro`, or give --model the folder of a bundle",
    "bundle-damaged": "run `dvc repro`, or pull the bundle again",
    "bundle-format": "give the folder of a bundle that mmpipe wrote",
    "index-format": "give a .parquet that `mmpipe predict TABLE` wrote with a model of retrieve",
    "index-foreign": "make it anew with this model, or give --model the one that made it",
    "train-not-finite": "lower train.lr",
    "export-differs": "report it with the bundle; serve the bundle itself meanwhile: docs/serving.md",
    "export-unsupported": "serve the bundle itself: docs/serving.md",
    "export-worse": "take --format onnx, or allow more with --max-loss",
    "budget-exceeded": "lower model.dim or choose smaller encoders, or raise train.budget",
    "sweep-space": "write KEY=LOW..HIGH, LOW..HIGH:log, LOW..HIGH:STEP, or KEY=VALUE,VALUE",
    "sweep-differs": "give the same options as when it was begun, or another --name",
    # models by tag
    "tag-name": "write NAME@vX.Y.Z, NAME@latest or NAME#STAGE, as in fusion@v1.2.0 or fusion#prod",
    "tag-missing": "list the versions with `mmpipe models`",
    "tag-exists": "none needed: a published version stays as it is",
    "tag-moved": "ask who moved it, and put it back: a version's tag never changes",
    "tree-dirty": "commit these files, or name them in .gitignore",
    "pipeline-stale": "run `dvc repro`, commit what it wrote, then publish",
    "git-state": "check out a branch in a full clone",
    "data-unpushed": "run `dvc push`",
    "object-missing": "ask who published it to `dvc push`, or take another version",
    "object-damaged": "delete it and its .dir in the storage; `dvc push --all-tags` where it was published",
    "record-missing": "make one with `mmpipe reproduce TAG --attach`",
    "record-damaged": "do not use it; fetch the notes anew, or reproduce the version again",
    "key-missing": "give a PEM file of an elliptic curve: to sign the private key, without pass phrase",
    "signature-missing": "take a signed version, or leave out --require-signature",
    "signature-bad": "do not use it; check which key it should be, and ask who published it",
    "task-differs": "compare models of one task, or promote the new one with --force and --why",
    "gate-refused": "train a better one, or promote it with --force and --why",
    "remote-missing": "give the path or the URL of a git repository",
    "remote-failed": "read git's own words above, then run the same command again",
    # requests to `mmpipe serve`
    "http-body": "send multipart/form-data or JSON as docs/serving.md shows",
    "http-busy": "send the same request again in a second",
    "http-history": "leave out the history, or serve a model that was trained with text.turns",
    "http-host": "address the server by the name or number that it listens on",
    "http-late": "send the same request again when the server is less busy",
    "http-media": "send multipart/form-data or application/json",
    "http-method": "see docs/serving.md for the routes and their methods",
    "http-origin": "send the request from the server's own page, or from a program",
    "http-path": "see docs/serving.md for the routes",
    "http-slow": "send the body faster, or less of it",
    "http-token": "send `Authorization: Bearer TOKEN`",
    "http-too-large": "send a smaller file or text",
    # retraining
    "raw-untracked": "dvc add data/raw && git add data/raw.dvc && git commit",
    "landing-missing": "correct the folder that is named for new samples",
    "import-unreachable": "check the address in that file and the network; the next look asks again",
    "drifted": "train with these samples, or find out what has changed where they come from",
    "branch-moved": "run the same command again",
    "out-damaged": "check the disk, then run the same command again",
    "step-failed": "read the step's own words above, then run the same command again",
    "usage": "see --help",
    "disk-full": "free space there; the same command then goes on from here",
    "memory-full": "close other programs, or lower train.batch_size; the same command then goes on from here",
    "system": "look at the path named: its disk, permissions and limits",
    # the server and its schedules
    "schedule-extra": "pip install 'mmpipe[schedule]'",
    "server-missing": "start it in this folder: mmpipe ui",
    "server-down": "read its log, which is named above, then start again: mmpipe ui",
    "server-slow": "read its log, which is named above; on a busy machine start again: mmpipe ui",
    "port-taken": "choose another: mmpipe ui --port 4300",
    "name-taken": "give it another name",
    "internal": "a mistake in mmpipe: run again with MMPIPE_DEBUG=1 and report what it prints",
    "command-failed": "read the command's own words above",
    "command-missing": "install it with the package manager of the system",
    "library-missing": "install it as the message says",
}
"""Code → fix, for every error there is; `docs/errors.md` is held to this table by a test."""


class SampleError(Exception):
    """One bad sample. `code` is a key of `FIXES`; `what` is one clause without a final stop."""

    def __init__(self, code: str, what: str) -> None:
        assert code in FIXES, code
        super().__init__(f"{code} {what}")
        self.code = code
        self.what = what

    def __reduce__(self) -> tuple[type["SampleError"], tuple[str, str]]:
        return type(self), (self.code, self.what)


class MmpipeError(Exception):
    """It cannot go on. `where` is `file`, `file:row` or `file:line:col`; `fix` replaces the usual one."""

    exit_status = 1

    def __init__(
        self, code: str, what: str, *, where: str = "", done: str = "stopped", fix: str | None = None
    ) -> None:
        assert code in FIXES, code
        self.code = code
        self.what = what
        self.where = where
        self.done = done
        self.fix = fix or FIXES[code]
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        build = partial(type(self), where=self.where, done=self.done, fix=self.fix)
        return build, (self.code, self.what)

    def __str__(self) -> str:
        place = f" {self.where}" if self.where else ""
        return f"{self.code}{place} {self.what} — {self.done} — Fix: {self.fix}"


class UsageError(MmpipeError):
    """The command line is wrong."""

    exit_status = 2


class NotFoundError(MmpipeError):
    """A file, workspace or model is not there."""

    exit_status = 3


class TooManyBadRowsError(MmpipeError):
    """More rows were bad than `ingest.max_bad_fraction` allows."""

    exit_status = 4


class InvalidError(MmpipeError):
    """Parameters or data break a rule."""

    exit_status = 5


class VerificationError(MmpipeError):
    """A hash differs from the recorded one."""

    exit_status = 6


class LockedError(MmpipeError):
    """Another run holds the workspace."""

    exit_status = 7


class TemporaryError(MmpipeError):
    """The same command may work later: disk full, service down."""

    exit_status = 75
