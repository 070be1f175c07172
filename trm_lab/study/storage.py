"""Where Optuna keeps trials: a journal file in the study's folder, a database, or a gRPC proxy.

The driver is the only writer of its studies.  A database is shared by folders, so its studies are
named after theirs.  What is secret in a URL comes from the environment and is never shown.
"""

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from trm_lab.config.execution import VARIABLE
from trm_lab.errors import ConfigError
from trm_lab.study.journal import repair

JOURNAL = "optuna.journal"
"""File in the study's folder."""
CONNECT_SECONDS = 10
AWAY_SECONDS, AGAIN_SECONDS = 300.0, 5.0
"""How long a database that answered may be away, as over a restart, and until the next try."""
PACKAGES = {"postgresql": "psycopg", "postgres": "psycopg", "mysql": "pymysql"}
"""What speaks to a database, by the URL's scheme; another one is named as in mysql+mysqldb."""
EXTRAS = {"psycopg": "postgres", "pymysql": "mysql", "grpc": "grpc"}
"""Our extra that installs a package."""


@contextmanager
def opened(
    setting: str | None, root: Path, say: Callable[[str], None] | None = None
) -> Iterator[BaseStorage]:
    """Open the storage of a study's folder: `setting` is a URL, or None for the journal file.

    With `say`, which hears what was mended, the journal is repaired first: only for the driver.

    A database that is away for a while is waited for.

    Raises:
        ConfigError: the server does not answer, its package is missing, or so is a variable; also
            out of the block, where the server fails later.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if setting is None:
        path = root / JOURNAL
        for remark in repair(path) if say else []:
            (say or print)(remark)
        # Absolute: with a relative path Optuna's lock dangles (optuna 5.0).
        yield JournalStorage(JournalFileBackend(str(path.resolve())))
        return
    url, secrets = _filled(setting)
    scheme, _, rest = url.partition("://")
    storage = (
        _proxy(setting, rest) if scheme == "grpc" else _database(setting, scheme, rest, secrets)
    )
    failure: type[Exception] = StorageInternalError
    if isinstance(storage, RDBStorage):
        _wait_for(storage.engine, setting, secrets, say or _quiet)
    else:
        failure = import_module("grpc").RpcError
    try:
        yield storage
    except failure as error:
        raise ConfigError(f"storage {setting}: {_words(error, secrets)}") from None
    finally:
        storage.remove_session()
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()


def study_name(setting: str | None, root: Path, name: str) -> str:
    """Name an Optuna study; in a shared storage it also names the folder."""
    if setting is None:
        return name
    return f"{name}@{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}"


def _filled(setting: str) -> tuple[str, list[str]]:
    """Put variables into a URL, quoted; also give their values."""
    secrets: list[str] = []

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ConfigError(f"storage {setting}: the environment has no variable {name}")
        quoted = quote(os.environ[name], safe="")
        secrets.extend((os.environ[name], quoted))
        return quoted

    return re.sub(VARIABLE, value, setting), [text for text in secrets if text]


def _database(setting: str, scheme: str, rest: str, secrets: list[str]) -> RDBStorage:
    if scheme in PACKAGES:
        _need(setting, PACKAGES[scheme])
        dialect = "postgresql" if scheme == "postgres" else scheme
        scheme = f"{dialect}+{PACKAGES[scheme]}"
    try:
        return RDBStorage(
            f"{scheme}://{rest}",
            engine_kwargs={
                "pool_pre_ping": True,  # a server may close what idled between two looks
                "connect_args": {"connect_timeout": CONNECT_SECONDS},
            },
        )
    except Exception as error:  # whatever the database's own package raises
        raise ConfigError(f"storage {setting}: {_words(error, secrets)}") from None


def _wait_for(engine: Any, setting: str, secrets: list[str], say: Callable[[str], None]) -> None:
    """Let new connections of Optuna's engine (SQLAlchemy's) wait for a database that is away.

    Connections are looked at before each use, so that only a call that was just under way fails.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        deadline, said = time.monotonic() + AWAY_SECONDS, False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.Error as error:
                if time.monotonic() >= deadline:
                    raise
                if not said:
                    say(f"storage {setting}: {_words(error, secrets)}; tried again for "
                        f"{AWAY_SECONDS:.0f} s")  # fmt: skip
                said = True
                time.sleep(AGAIN_SECONDS)


def _quiet(_: str) -> None:
    return None


def _proxy(setting: str, address: str) -> GrpcStorageProxy:
    _need(setting, "grpc")
    host, _, port = address.rstrip("/").partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=int(port or 13000))
    try:
        proxy.wait_server_ready(timeout=CONNECT_SECONDS)
    except Exception as error:  # grpc's own, without words
        words = str(error) or f"no answer in {CONNECT_SECONDS} s"
        raise ConfigError(f"storage {setting}: {words}") from None
    return proxy


def _need(setting: str, package: str) -> None:
    try:
        import_module(package)
    except ImportError:
        raise ConfigError(
            f"storage {setting}: needs the package {package}; "
            f"pip install 'trm-lab[{EXTRAS[package]}]' brings it"
        ) from None


def _words(error: BaseException, secrets: list[str]) -> str:
    """Give what the server said, in a line and without secrets."""
    said = getattr(error, "orig", None) or error.__cause__ or error
    said = getattr(said, "orig", None) or said
    text = " ".join(str(said).split()) or type(said).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
